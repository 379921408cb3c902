"""All commands on object stores: two servers of the protocol of S3, with the same results as in a folder."""

from __future__ import annotations

import json
import uuid

import pytest

pytest.importorskip("obstore")

from builders import tree
from command_line import TINY, run
from object_stores import BUCKET, contents, option_words, s3_options, s3_store
from proxy import at_random, proxy

#: Samples of 32x24 with depth of the tests' network.
SMALL = (*TINY[2:],)


@pytest.fixture
def place(server):
    """The address of a server, a new URL on it, and the words of the command line that open it."""
    name = uuid.uuid4().hex
    return server, name, f"s3://{BUCKET}/{name}", option_words(s3_options(server))


def done(*arguments):
    """What a command prints as JSON, which must have succeeded."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def objects(server, name, dataset):
    return contents(s3_store(server, f"{name}/{dataset}"))


@pytest.mark.slow
def test_every_command_gives_on_an_object_store_what_it_gives_in_a_folder(
    place, pictures, depth_model, tmp_path
):
    server, name, url, words = place
    sources = ("--backgrounds", pictures.backgrounds, "--foregrounds", pictures.foregrounds, *SMALL)
    here = tmp_path / "here"
    here.mkdir()

    def both(command, *arguments, dataset):
        """Run a command on the store, then the same in a folder."""
        there = done(command, *(f"{url}/{a}" if a in NAMES else a for a in arguments), *words)
        done(command, *(here / a if a in NAMES else a for a in arguments))
        assert objects(server, name, dataset) == tree(here / dataset), (command, dataset)
        return there

    NAMES = ("plain.zarr", "deep.zarr", "virtual.zarr", "stored.zarr", "back.zarr", "imported.zarr")
    both("create", "plain.zarr", *sources, "--depth-model", "none", dataset="plain.zarr")
    both("create", "deep.zarr", *sources, "--depth-model", depth_model, dataset="deep.zarr")
    both("depth", "plain.zarr", "--depth-model", depth_model, dataset="plain.zarr")
    both("virtualize", "deep.zarr", "virtual.zarr", dataset="virtual.zarr")
    both("materialize", "virtual.zarr", "stored.zarr", dataset="stored.zarr")
    both("materialize", "virtual.zarr", dataset="virtual.zarr")
    both("split", "deep.zarr", "fair", "train=0.5", "test=0.5", "--by", "sample", dataset="deep.zarr")
    assert done("info", f"{url}/deep.zarr", *words)["splits"].keys() == {"fair"}

    done("convert", f"{url}/deep.zarr", here / "deep.h5", *words)
    both("convert", here / "deep.h5", "back.zarr", dataset="back.zarr")
    assert objects(server, name, "back.zarr") == objects(server, name, "deep.zarr")

    done("export", f"{url}/deep.zarr", here / "there", "--to", "folder", *words)
    done("export", here / "deep.zarr", here / "local", "--to", "folder")
    exported = {key: value for key, value in tree(here / "there").items() if not key.endswith(".json")}
    assert exported == {
        key: value for key, value in tree(here / "local").items() if not key.endswith(".json")
    }
    both("import", here / "there", "imported.zarr", dataset="imported.zarr")

    assert done("verify", f"{url}/deep.zarr", *words, "--record")["sound"]
    assert done("verify", f"{url}/imported.zarr", *words)["sound"]
    done("card", f"{url}/deep.zarr", *words, "-o", here / "cards", "--preview")
    assert (here / "cards" / "croissant.json").exists()
    drawn = run("preview", f"{url}/deep.zarr", *words, "-o", here / "drawn.png")
    assert drawn.exit_code == 0, drawn.output


@pytest.mark.slow
def test_what_is_lost_or_damaged_in_an_object_store_is_found_and_repaired(place, pictures, depth_model):
    import obstore

    server, name, url, words = place
    target = f"{url}/it.zarr"
    sources = ("--backgrounds", pictures.backgrounds, "--foregrounds", pictures.foregrounds, *SMALL)
    done("create", target, *sources, "--depth-model", depth_model, *words)
    before = objects(server, name, "it.zarr")
    store = s3_store(server, f"{name}/it.zarr").store
    key = next(key for key in before if key.startswith("image/c/"))
    other = next(key for key in before if key.startswith("depth/c/"))
    obstore.put(store, key, before[key][:50] + b"!" + before[key][51:])
    obstore.delete(store, other)
    found = run("verify", target, *words, "--json")
    assert found.exit_code == 4
    assert {fault["code"] for fault in json.loads(found.stdout)["faults"]} == {
        "checksum-wrong",
        "chunk-missing",
    }
    assert done("repair", target, *words)["left_count"] == 0
    assert objects(server, name, "it.zarr") == before


@pytest.mark.slow
def test_a_create_that_was_stopped_on_an_object_store_goes_on(place, pictures):
    server, name, url, words = place
    target = f"{url}/it.zarr"
    sources = ("--backgrounds", pictures.backgrounds, "--foregrounds", pictures.foregrounds, *TINY)
    done("create", target, *sources, *words)
    before = objects(server, name, "it.zarr")
    assert done("create", target, *sources, *words)["created"] == 0
    other = run("create", target, *sources, "--seed", 5, *words, "--json")
    assert json.loads(other.stdout)["error"]["code"] == "dataset-differs"
    done("create", target, *sources, "--seed", 5, "--overwrite", *words)
    assert objects(server, name, "it.zarr") != before
    done("create", target, *sources, "--overwrite", *words)
    assert objects(server, name, "it.zarr") == before


@pytest.mark.slow
def test_dask_workers_write_an_object_store_with_the_options_of_the_command(s3, pictures, tmp_path):
    pytest.importorskip("distributed")
    sources = ("--backgrounds", pictures.backgrounds, "--foregrounds", pictures.foregrounds, *TINY)
    done("create", tmp_path / "it.zarr", *sources)
    name = uuid.uuid4().hex
    with proxy(s3, at_random(0.05, 4)) as between:
        words = option_words(s3_options(between.address))
        done("create", f"s3://{BUCKET}/{name}/it.zarr", *sources, "--dask", "local:2", *words)
        assert between.faults
    assert objects(s3, name, "it.zarr") == tree(tmp_path / "it.zarr")
