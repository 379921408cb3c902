"""The document of a dataset: the same as JSON and back for every kind, and its next states."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import zarr
from refusals import refused

from fgbgpack import open_dataset, schema
from fgbgpack.document import DEPTH_SOURCES, Document, ImportedDepthInfo, NetworkDepthInfo, PixelsInfo
from fgbgpack.errors import DatasetError
from fgbgpack.source_info import SourceInfo, SourcesInfo
from fgbgpack.sources.listing import Source

KINDS = (
    *("plain", "depth", "guided", "layered", "plain-virtual", "guided-virtual", "layered-virtual"),
    *("split", "imported", "imported-plain"),
)
every_kind = pytest.mark.parametrize("kind", KINDS)


def written(path: Path) -> dict:
    """The document of a dataset as JSON, as it is on disk."""
    return json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]["fgbgpack"]


def document_of(kinds, kind: str) -> Document:
    return Document.from_dict(written(kinds[kind]), where="it")


# --- as JSON ---------------------------------------------------------------------------------------


@every_kind
def test_it_is_the_same_as_json_and_back(kinds, kind):
    stored = written(kinds[kind])
    before = copy.deepcopy(stored)
    document = Document.from_dict(stored, where="it")
    assert stored == before, "what is read is not changed"
    assert document.to_dict() == stored
    assert schema.problems("dataset", document.to_dict()) == []
    again = Document.from_dict(json.loads(json.dumps(document.to_dict())), where="it")
    assert again == document == open_dataset(kinds[kind]).document
    assert hash(again) == hash(document)
    assert [field.name for field in dataclasses.fields(document)] == [*vars(document)]
    for field in dataclasses.fields(document):
        assert getattr(again, field.name) == getattr(document, field.name)


def test_pixels_are_stored_unless_the_document_says_otherwise(kinds):
    stored = written(kinds["plain"])
    del stored["pixels"]["stored"]
    assert not Document.from_dict(stored, where="it").is_virtual


@every_kind
def test_every_state_on_the_way_is_the_same_as_json_and_back(kinds, kind):
    begun = document_of(kinds, kind).begun()
    for state in (begun, begun.with_pixels_complete(), begun.with_depth(None)):
        document = replace(state, generation="0" * 32)  # as a commit sets it
        assert schema.problems("dataset", document.to_dict()) == []
        assert Document.from_dict(document.to_dict(), where="it") == document


@every_kind
def test_what_it_gives_is_the_callers_own(kinds, kind):
    document = document_of(kinds, kind)
    before = document.to_dict()
    given = document.to_dict()
    given["software"].clear()
    given.get("splits", {}).clear()
    given.get("sources", {"backgrounds": []})["backgrounds"].clear()
    assert document.to_dict() == before


@every_kind
def test_it_is_frozen_and_can_be_pickled(kinds, kind):
    document = document_of(kinds, kind)
    with pytest.raises(dataclasses.FrozenInstanceError):
        document.complete = False
    assert pickle.loads(pickle.dumps(document)) == document


@pytest.mark.parametrize(
    ("kind", "change", "code", "named"),
    [
        ("plain", lambda d: d.update(schema="dataset/9.0"), "schema-newer", "lobby"),
        ("plain", lambda d: d.pop("recipe"), "schema-violated", "lobby"),
        ("plain", lambda d: d["pixels"].pop("complete"), "schema-violated", "lobby"),
        ("plain", lambda d: d["spec"].update(schema="spec/9.0"), "schema-newer", "the spec in lobby"),
        ("plain", lambda d: d["spec"].update(schema="other/1.0"), "schema-mismatch", "the spec in lobby"),
        ("depth", lambda d: d["depth"].update(mode="magic"), "schema-violated", "lobby"),
        ("depth", lambda d: d["depth"]["model"].pop("output"), "schema-violated", "card in lobby"),
        ("guided", lambda d: d["depth"].pop("guide"), "schema-violated", "lobby"),
        (
            "guided",
            lambda d: d["depth"]["guide"]["model"].update(schema="depth-model/9.0"),
            "schema-newer",
            "the guided network's card in lobby",
        ),
        ("imported", lambda d: d["imported"].update(height=0), "schema-violated", "lobby"),
        ("imported", lambda d: d.update(spec={}), "schema-violated", "lobby"),
        ("split", lambda d: d["splits"]["both"].update(by="colour"), "schema-violated", "lobby"),
    ],
)
def test_a_document_that_breaks_its_schemas_is_refused_with_its_place(kinds, kind, change, code, named):
    broken = written(kinds[kind])
    change(broken)
    with refused(DatasetError, code, named):
        Document.from_dict(broken, where="lobby")


@pytest.mark.parametrize("document", [None, [], "it", 3, {}])
def test_what_is_no_document_is_refused(document):
    with refused(DatasetError, "schema-mismatch", "^lobby "):
        Document.from_dict(document, where="lobby")


# --- what it says ----------------------------------------------------------------------------------


@every_kind
def test_it_says_what_the_dataset_is(kinds, kind):
    document, ds = document_of(kinds, kind), open_dataset(kinds[kind])
    imported = kind.startswith("imported")
    assert document.samples == len(ds) == (12 if imported else 36)
    assert (document.height, document.width) == ds.mask.shape[1:]
    assert document.has_recipe is not imported
    assert document.is_virtual is kind.endswith("virtual")
    assert document.depth_sources == DEPTH_SOURCES.get(kind.partition("-")[0], ())
    assert (document.depth is None) is not ds.has_depth
    assert document.chunk == {"guided": 5, "layered": 5, "imported": ds.image.chunks[0]}.get(
        kind, document.chunk
    )
    assert list(document.splits) == (["fälle", "both"] if kind == "split" else [])


@every_kind
def test_its_nodes_are_what_is_there(kinds, kind):
    members = dict(zarr.open_group(kinds[kind], mode="r", use_consolidated=False).members(max_depth=None))
    assert sorted(document_of(kinds, kind).nodes) == sorted(members)


def test_sections_of_depth_say_what_it_means(kinds):
    per_sample, guided, imported = (document_of(kinds, k).depth for k in ("depth", "guided", "imported"))
    assert isinstance(per_sample, NetworkDepthInfo)
    assert isinstance(guided, NetworkDepthInfo)
    assert isinstance(imported, ImportedDepthInfo)
    assert [depth.mode for depth in (per_sample, guided, imported)] == ["per-sample", "guided", "imported"]
    for depth in (per_sample, guided):
        assert (depth.quantity, depth.unit) == (
            depth.model["output"]["quantity"],
            depth.model["output"]["unit"],
        )
        assert depth.model_name == "tiny"
        assert depth.sample_provider == "CPUExecutionProvider"
    assert per_sample.guide_name is None
    assert guided.guide_name == guided.guide.model["name"]
    other = replace(guided, devices=(replace(guided.devices[0], provider="CUDAExecutionProvider"),))
    assert other.provider == "CUDAExecutionProvider"
    assert other.sample_provider == "CPUExecutionProvider", "that of the network that saw the samples"


def test_a_document_of_neither_a_recipe_nor_an_import_has_no_size():
    document = Document(complete=False, pixels=PixelsInfo(complete=False), depth=None, software={})
    for name in ("samples", "height", "width", "chunk"):
        with pytest.raises(ValueError, match="a spec and a recipe, or what was imported"):
            getattr(document, name)


# --- its next states -------------------------------------------------------------------------------


@every_kind
def test_a_document_that_is_begun_says_that_nothing_is_complete(kinds, kind):
    document = document_of(kinds, kind)
    assert document.complete
    begun = document.begun()
    assert not begun.complete
    assert begun.pixels == replace(document.pixels, complete=False)
    assert (begun.depth is None) == (document.depth is None)
    assert begun.depth is None or not begun.depth.complete
    assert (begun.spec, begun.recipe, begun.sources) == (document.spec, document.recipe, document.sources)
    assert begun.splits == document.splits
    assert begun.begun() == begun


@every_kind
def test_it_is_complete_once_pixels_and_depth_are(kinds, kind):
    document = document_of(kinds, kind)
    begun = document.begun()
    with_pixels = begun.with_pixels_complete()
    assert with_pixels.pixels.complete
    assert with_pixels.complete is (document.depth is None)
    with_depth = begun.with_depth(document.depth)
    assert not with_depth.complete, "pixels are missing"
    uncommitted = replace(document, generation="", manifest=None)
    assert with_pixels.with_depth(document.depth) == uncommitted
    assert with_depth.with_pixels_complete() == uncommitted
    assert with_pixels.with_depth(None).complete
    if document.depth is not None:
        unfinished = document.with_depth(replace(document.depth, complete=False))
        assert not unfinished.complete
        assert unfinished.pixels.complete


# --- equality --------------------------------------------------------------------------------------


def test_documents_are_equal_when_they_say_the_same(kinds):
    document = document_of(kinds, "split")
    for change in (
        {"complete": False},
        {"pixels": PixelsInfo(complete=True, stored=False)},
        {"depth": None},
        {"software": {"fgbgpack": "0"}},
        {"spec": replace(document.spec, seed=9)},
        {"recipe": replace(document.recipe, samples=35)},
        {"splits": {}},
    ):
        assert replace(document, **change) != document
    assert document != document.to_dict()
    assert document != document_of(kinds, "depth")
    assert replace(document, splits={}) == document_of(kinds, "depth")


def test_pictures_with_other_credits_are_the_same_pictures_but_not_the_same_document(kinds):
    document = document_of(kinds, "plain")
    credited = tuple(replace(source, license="CC0") for source in document.sources.backgrounds)
    other = replace(document, sources=SourcesInfo(credited, document.sources.foregrounds))
    assert other.sources == document.sources
    assert other != document
    assert Document.from_dict(other.to_dict(), where="it").sources.backgrounds[0].license == "CC0"


PICTURE = SourceInfo("a.png", "0123abcd" * 8)


def test_a_picture_is_known_by_its_names_and_digests():
    found = Source(PICTURE.name, PICTURE.sha256, path=Path("bg/a.png"))
    assert found == PICTURE == replace(PICTURE, license="CC0", author="me", url="https://a.b")
    assert hash(found) == hash(PICTURE)
    for field in ("name", "sha256", "mask_name", "mask_sha256"):
        assert replace(PICTURE, **{field: "1" * 64}) != PICTURE
    assert PICTURE != "a.png"
    assert PICTURE.word == 0x0123ABCD


@pytest.mark.parametrize("field", ["license", "author", "url"])
def test_a_picture_has_a_credit_when_anything_is_stated(field):
    assert not PICTURE.has_credit
    assert replace(PICTURE, **{field: "x"}).has_credit


@pytest.mark.parametrize(
    ("kind", "change", "named"),
    [
        ("plain", lambda document: document["recipe"].update(samples=10), "recipe.samples"),
        ("plain", lambda document: document["spec"].update(flip=False), "recipe.samples"),
        ("plain", lambda document: document["sources"]["backgrounds"].pop(), "recipe.samples"),
        ("guided", lambda document: document["depth"].update(guide=None), "depth.guide"),
        ("guided", lambda document: document["depth"].update(mode="per-sample"), "depth.guide"),
    ],
)
def test_a_document_that_contradicts_itself_is_refused(kinds, kind, change, named):
    stored = written(kinds[kind])
    change(stored)
    with refused(DatasetError, "document-damaged", "it") as caught:
        Document.from_dict(stored, where="it")
    assert [line.partition(":")[0] for line in caught.value.problems] == [named]
