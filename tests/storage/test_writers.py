"""Several writers of one dataset in a store without locks: one goes on, the others stop and harm nothing."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest

pytest.importorskip("obstore")

from builders import SMALL_SHARDS
from object_stores import ALL_STORES, BUCKET, EXACT_STORES, careless_server, contents, s3_store
from refusals import refused
from zarr.core.sync import sync

from fgbgpack import create, open_dataset
from fgbgpack.errors import DatasetError, FgbgError
from fgbgpack.storage.beside import WRITING
from fgbgpack.storage.store import DatasetStore


def opened(store):
    """The dataset in a store, as one writer holds it."""
    found = DatasetStore(store, "it")
    found.document()
    return found


def begun(store, pictures, seed=0):
    """A store in which a dataset is begun, by a writer that goes no further."""

    def stop(event):
        if getattr(event, "stage", None) == "samples":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create(store, replace(pictures.spec(), seed=seed), layout=SMALL_SHARDS, on_event=stop)
    return store


def race(store, pictures, seeds, **options):
    """What came of writers that begin at the same time: ``None``, or the code of an error, of each."""
    barrier = Barrier(len(seeds))

    def write(seed):
        barrier.wait()
        try:
            create(store, replace(pictures.spec(), seed=seed), layout=SMALL_SHARDS, **options)
        except FgbgError as exc:
            return exc.code

    with ThreadPoolExecutor(len(seeds)) as pool:
        return list(pool.map(write, seeds))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALL_STORES)
def test_what_one_writer_makes_is_the_same_in_every_store(new_store, pictures, expected, kind):
    store = new_store(kind)
    begun(store, pictures)
    assert WRITING in json.loads(contents(store)["zarr.json"])["attributes"]
    create(store, pictures.spec(), layout=SMALL_SHARDS)
    assert contents(store) == expected(0)
    create(store, pictures.spec(), layout=SMALL_SHARDS)
    assert contents(store) == expected(0), "it is complete already"
    ds = open_dataset(store)
    ds.save_split("mine", {"train": 0.5, "test": 0.5})
    assert WRITING not in json.loads(contents(store)["zarr.json"])["attributes"]
    assert list(open_dataset(store).document.splits) == ["mine"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", EXACT_STORES)
def test_of_writers_that_begin_at_once_exactly_one_makes_its_dataset(
    new_store, pictures, expected, kind, count_faults, all_faults
):
    outcomes = []
    for _ in range(40 if all_faults else 4):
        store = new_store(kind)
        codes = race(store, pictures, (0, 5))
        assert codes.count(None) == 1, codes
        (lost,) = [code for code in codes if code is not None]
        assert lost in ("dataset-replaced", "dataset-differs")
        assert contents(store) == expected((0, 5)[codes.index(None)])
        outcomes.append(lost)
    count_faults(f"two writers of an empty {kind} store", Counter(outcomes))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALL_STORES)
def test_writers_of_the_same_dataset_write_the_same(new_store, pictures, expected, kind):
    store = new_store(kind)
    codes = race(store, pictures, (0, 0, 0))
    assert set(codes) <= {None, "dataset-replaced"}
    create(store, pictures.spec(), layout=SMALL_SHARDS)
    assert contents(store) == expected(0)


@pytest.mark.parametrize("kind", ALL_STORES)
def test_who_begins_later_goes_on_and_the_other_one_stops(new_store, pictures, kind):
    store = begun(new_store(kind), pictures)
    one, other = opened(store), opened(store)
    one.put("image/c/0/0/0/0", b"one")
    one = pickle.loads(pickle.dumps(one)) if kind == "s3" else one
    other.put("image/c/1/0/0/0", b"other")
    document = other.existing_document()
    if kind not in EXACT_STORES:
        # It looks now and then.
        one.claims._check_after = 0.0
    for change in (
        lambda: one.put("image/c/1/0/0/0", b"one"),
        lambda: one.delete(["image/c/1/0/0/0"]),
        lambda: one.delete_below("image"),
        lambda: one.commit(document),
        lambda: one.add_to_root({"mine": 1}),
    ):
        with refused(DatasetError, "dataset-replaced", "^Another process has changed it meanwhile"):
            change()
    assert other.get("image/c/1/0/0/0") == b"other"
    other.commit(document)
    assert "mine" not in other.root()["attributes"]


@pytest.mark.parametrize("kind", EXACT_STORES)
@pytest.mark.parametrize("is_there", [False, True])
def test_an_object_that_is_on_its_way_takes_no_other_writers_place(new_store, pictures, kind, is_there):
    store, key = begun(new_store(kind), pictures), "image/c/0/0/0/0"
    one, other = opened(store), opened(store)
    one.put(key if is_there else "mask/c/0/0/0", b"before")
    check = one.claims.check

    async def check_and_be_late():
        await check()
        one.claims.check = check
        node, version = json.loads((await other.claims.read())[0]), (await other.claims.read())[1]
        node["attributes"][WRITING] = {"writer": other.claims.writer}
        await other.claims.publish(json.dumps(node).encode(), version)
        await other.claims.put(key, b"other")

    one.claims.check = check_and_be_late
    with refused(DatasetError, "dataset-replaced"):
        one.put(key, b"one")
    assert other.get(key) == b"other"


def test_commits_at_the_same_time_are_one_commit(new_store, pictures, s3):
    for kind in EXACT_STORES:
        store = begun(new_store(kind), pictures)
        writers = [opened(store) for _ in range(6)]
        barrier = Barrier(len(writers))

        def commit(writer, barrier=barrier):
            document = writer.existing_document()
            barrier.wait()
            try:
                writer.commit(document)
            except DatasetError as exc:
                return exc.code
            return None

        with ThreadPoolExecutor(len(writers)) as pool:
            codes = list(pool.map(commit, writers))
        assert sorted(codes, key=str) == [None, *["dataset-replaced"] * 5], kind


def test_a_store_that_ignores_conditions_is_found_out(pictures):
    with careless_server() as address:
        store = DatasetStore(s3_store(address, "it"), "it")
        assert store.claims.is_exact
        run(store.claims.publish(b'{"attributes": {}}', None))
        assert not store.claims.is_exact
        run(store.claims.publish(b"{}", run(store.claims.read())[1]))
        with refused(DatasetError, "dataset-replaced"):
            run(store.claims.publish(b"", None))
        assert store.get("zarr.json") == b"{}"


@pytest.mark.slow
def test_a_url_of_an_object_store_is_opened_by_obstore(s3, monkeypatch, pictures, expected):
    for name, value in {
        "ENDPOINT": s3,
        "REGION": "us-east-1",
        "ALLOW_HTTP": "true",
        "SKIP_SIGNATURE": "true",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    url, notices = f"s3://{BUCKET}/by-url.zarr", []
    create(url, pictures.spec(), layout=SMALL_SHARDS, on_event=notices.append)
    assert contents(s3_store(s3, "by-url.zarr")) == expected(0)
    assert str(open_dataset(url).path) == url
    assert not [event for event in notices if "conditional" in getattr(event, "message", "")]
    with refused(DatasetError, "url-unknown"):
        DatasetStore.open("s3:///no-bucket", read_only=False)
    with refused(DatasetError, "url-unknown"):
        DatasetStore.open("obstore+s3://x/y", read_only=False)


@pytest.mark.parametrize("kind", ALL_STORES)
def test_it_is_said_once_where_writers_cannot_be_kept_apart(new_store, pictures, kind):
    notices = []
    create(new_store(kind), pictures.spec(), on_event=notices.append)
    told = [event.message for event in notices if "conditional" in getattr(event, "message", "")]
    assert len(told) == (0 if kind in EXACT_STORES else 1)


def run(work):
    """What a coroutine gives, in the loop that Zarr's stores are used in."""
    return sync(work)
