"""Requests to object stores: how many, which are made again, and what is said where none succeeds."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest

pytest.importorskip("obstore")

import obstore
from builders import SMALL_SHARDS, tree
from command_line import PROGRAM, TINY, run
from object_stores import BUCKET, CREDENTIALS, contents, option_words, s3_options, s3_store
from proxy import LOST, RESET, SILENT, TRUNCATED, at_random, proxy
from refusals import refused
from zarr.core.sync import sync

from fgbgpack import create, open_dataset
from fgbgpack.errors import DatasetError, FgbgError, SpecError
from fgbgpack.pipeline import convert, import_folder, materialize, repair, verify, virtualize
from fgbgpack.storage.objects import RemoteStore
from fgbgpack.storage.store import DatasetStore
from fgbgpack.storage.targets import Located, located, name_of

#: Waits between tries that no test has to wait for.
QUICK = {"init_backoff": "1ms", "max_backoff": "2ms"}


@pytest.fixture
def between(s3):
    """A proxy before a server."""
    with proxy(s3) as opened:
        yield opened


@pytest.fixture
def url():
    """A new place in the bucket."""
    return f"s3://{BUCKET}/{uuid.uuid4().hex}/it.zarr"


def opened(url, address, **options):
    """The dataset that is, or is to be, at a URL."""
    return DatasetStore.open(url, read_only=False, storage_options=s3_options(address, **QUICK, **options))


def prefix_of(url):
    return url.removeprefix(f"s3://{BUCKET}/")


# --- what is said ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "code", "tries"),
    [
        ("400", "io-failed", 1),
        ("401", "store-denied", 1),
        ("403", "store-denied", 1),
        ("301", "bucket-elsewhere", 1),
        ("404", "object-missing", 1),
        ("429", "store-busy", 3),
        ("500", "store-busy", 3),
        ("503", "store-busy", 3),
        ("507", "disk-full", 3),
        (RESET, "store-cut-off", 3),
        (TRUNCATED, "store-cut-off", 3),
        (SILENT, "store-timeout", 3),
    ],
)
def test_a_put_that_fails_says_which_object_how_often_and_why(between, url, fault, code, tries):
    store = opened(url, between.address, max_retries=2, timeout="300ms" if fault == SILENT else "20s")
    between.choose = lambda request: fault if request.method == "PUT" else None
    with refused(DatasetError, code, rf"^PUT of {url}/a/b failed") as caught:
        store.put("a/b", b"value")
    assert between.counts()["PUT"] == tries
    assert (f"tried {tries} times" in str(caught.value)) == (tries > 1)


@pytest.mark.parametrize(
    ("request_kind", "action"),
    [
        ("GET", lambda store: store.get("a/zarr.json")),
        ("HEAD", lambda store: sync(store.base.getsize("a/zarr.json"))),
        ("LIST", lambda store: store.find("a/")),
        ("LIST", lambda store: store.names_in("a")),
        ("DELETE", lambda store: store.delete(["a/zarr.json"])),
        ("COPY", lambda store: store.copy({"a/zarr.json": "b/zarr.json"})),
    ],
)
def test_every_kind_of_request_says_which_it_was(between, url, request_kind, action):
    store = opened(url, between.address, max_retries=2)
    store.put("a/zarr.json", b"{}")
    for fault, code in (("503", "store-busy"), ("403", "store-denied"), (RESET, "store-cut-off")):
        between.choose = lambda request, fault=fault: fault
        with refused(DatasetError, code, rf"^{request_kind} of {url}/a(/zarr.json|/)? failed"):
            action(store)


def test_a_bucket_that_is_not_there_and_a_server_that_is_not_there(s3, pictures):
    options = s3_options(s3)
    with refused(DatasetError, "bucket-missing", "s3://nowhere"):
        open_dataset("s3://nowhere/it.zarr", storage_options=options)
    options = s3_options("http://127.0.0.1:9", max_retries=1, **QUICK)
    for action in (open_dataset, lambda url, **how: create(url, pictures.spec(), **how)):
        with refused(DatasetError, "store-unreachable", r"tried 2 times.*127|tried 2 times"):
            action("s3://bucket/it.zarr", storage_options=options)


def test_a_dataset_that_is_not_there_is_no_failure_of_the_store(s3, url):
    with refused(DatasetError, "dataset-missing"):
        open_dataset(url, storage_options=s3_options(s3))


# --- what is made again ----------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["500", "503", "429", RESET, LOST, TRUNCATED])
def test_what_may_pass_is_asked_again_and_done_once(between, url, fault):
    store = opened(url, between.address)
    done = Counter()

    def first_of_each(request):
        done[request.kind, request.path] += 1
        return fault if done[request.kind, request.path] == 1 else None

    between.choose = first_of_each
    store.put("a/b", b"value")
    remote = store.base
    version = sync(remote.put_if("a/c", b"mine", None)) if fault not in (LOST, TRUNCATED) else None
    assert store.get("a/b") == b"value"
    assert sorted(store.find("a/")) == (["a/b", "a/c"] if version else ["a/b"])
    store.copy({"a/b": "a/d"})
    store.delete_below("a")
    assert store.find("a/") == []


def test_a_put_whose_answer_was_lost_is_found_to_be_done(between, url):
    store = opened(url, between.address)
    root = b'{"attributes": {}}'
    between.choose = lambda request: LOST if request.number == 0 else None
    sync(store.claims.publish(root, None))
    found, version = sync(store.claims.read())
    assert found == root
    between.reset()
    sync(store.claims.publish(b"{}", version))
    assert sync(store.claims.read())[0] == b"{}"


def test_a_listing_that_is_cut_off_goes_on_behind_its_last_key(between, url):
    store = opened(url, between.address)
    keys = sorted(f"a/{i:04}" for i in range(1203))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, b"x"), keys))
    between.reset()
    between.choose = lambda request: TRUNCATED if request.number in (0, 2) else None
    assert store.find("a/") == keys
    assert dict(sync(sizes_of(store.base))) == dict.fromkeys(keys, 1)


async def sizes_of(store):
    return [pair async for pair in store.sizes("a/")]


def test_a_large_value_is_one_put_and_its_condition_holds(between, url, moto):
    value = os.urandom(12 << 20)
    with proxy(moto) as other:
        for one in (between, other):
            remote = opened(url, one.address).base
            assert isinstance(remote, RemoteStore)
            version = sync(remote.put_if("large", value, None))
            with pytest.raises(obstore.exceptions.AlreadyExistsError):
                sync(remote.put_if("large", value, None))
            newer = sync(remote.put_if("large", value[::-1], version))
            with pytest.raises(obstore.exceptions.PreconditionError):
                sync(remote.put_if("large", value, version))
            assert sync(remote.read("large")) == (value[::-1], newer)
            assert one.counts() == {"PUT": 4, "GET": 1}


# --- how many --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_shard_is_one_put(between, url, pictures):
    layout = replace(SMALL_SHARDS, pixel_chunk_samples=2, pixel_shard_bytes=6_000)
    create(url, pictures.spec(), layout=layout, storage_options=s3_options(between.address))
    puts = Counter(request.path for request in between.requests if request.method == "PUT")
    shards = {path: count for path, count in puts.items() if re.search(r"/(image|mask)/c/", path)}
    assert len(shards) > 8
    assert set(shards.values()) == {1}
    # Its version, that of the root, and its end once all are written.
    asked = Counter(request.kind for request in between.requests if request.path in shards)
    assert asked == {"PUT": len(shards), "HEAD": len(shards), "GET": len(shards)}
    assert not [request for request in between.requests if "upload" in request.query]


@pytest.mark.slow
def test_the_sizes_of_all_objects_are_known_from_listings(between, url, pictures):
    options = s3_options(between.address)
    create(url, pictures.spec(), layout=SMALL_SHARDS, storage_options=options)
    store = DatasetStore.open(url, read_only=True, storage_options=options)
    between.reset()
    sizes = store.stored_bytes()
    assert set(between.counts()) == {"LIST"}
    assert sum(sizes.values()) == sum(map(len, contents(store.base).values()))


# --- several, and faults ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["s3", "moto"])
def test_of_pairs_of_creators_one_wins_and_the_other_says_so(
    request, kind, pictures, tmp_path, all_faults, count_faults
):
    address, outcomes = request.getfixturevalue(kind), Counter()
    create(tmp_path / "alone.zarr", pictures.spec(), layout=SMALL_SHARDS)
    create(tmp_path / "other.zarr", replace(pictures.spec(), seed=5), layout=SMALL_SHARDS)
    expected = [tree(tmp_path / "alone.zarr"), tree(tmp_path / "other.zarr")]
    for _ in range(20 if all_faults else 3):
        url, barrier = f"s3://{BUCKET}/{uuid.uuid4().hex}/it.zarr", Barrier(2)

        def make(seed, url=url, barrier=barrier):
            barrier.wait()
            try:
                spec = replace(pictures.spec(), seed=seed)
                create(url, spec, layout=SMALL_SHARDS, storage_options=s3_options(address))
            except FgbgError as exc:
                return exc.code

        with ThreadPoolExecutor(2) as pool:
            codes = list(pool.map(make, (0, 5)))
        assert codes.count(None) == 1, codes
        outcomes[next(code for code in codes if code)] += 1
        assert contents(s3_store(address, prefix_of(url))) == expected[codes.index(None)]
    assert set(outcomes) <= {"dataset-replaced", "dataset-differs"}
    count_faults(f"pairs of creators on {kind}", outcomes)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["s3", "moto"])
def test_a_create_among_faults_makes_the_same_bytes(
    request, kind, pictures, tmp_path, all_faults, count_faults
):
    create(tmp_path / "alone.zarr", pictures.spec(), layout=SMALL_SHARDS)
    expected, outcomes = tree(tmp_path / "alone.zarr"), Counter()
    with proxy(request.getfixturevalue(kind)) as between:
        between.slow_seconds = 0.05
        for seed in range(20 if all_faults else 2):
            url = f"s3://{BUCKET}/{uuid.uuid4().hex}/it.zarr"
            between.reset()
            between.choose = at_random(0.05 if all_faults else 0.2, seed)
            for _ in range(3):
                try:
                    options = s3_options(between.address, **QUICK)
                    create(url, pictures.spec(), layout=SMALL_SHARDS, storage_options=options)
                    break
                except FgbgError as exc:
                    outcomes[exc.code] += 1
            outcomes["faults"] += len(between.faults)
            assert contents(s3_store(request.getfixturevalue(kind), prefix_of(url))) == expected
            outcomes["the same bytes"] += 1
    assert outcomes["faults"] > 10
    count_faults(f"creates among faults on {kind}", outcomes)


# --- options and secrets ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"magic": "hush-hush"},
        {"skip_signature": "hush-hush"},
        {"timeout": "hush-hush"},
        {"retry_timeout": "0"},
        {"max_retries": "hush-hush"},
        {"backoff_base": "0.5"},
        {"client_options": {"magic": "hush-hush"}},
    ],
)
def test_options_that_cannot_be_used_are_named_and_their_values_are_not_shown(options):
    with refused(SpecError, "option-invalid") as caught:
        open_dataset("s3://bucket/it.zarr", storage_options={"region": "us-east-1", **options})
    assert next(iter(options)) in str(caught.value)
    assert "hush-hush" not in repr(caught.value)


def test_options_are_flat_or_as_obstore_takes_them(s3, url):
    flat = {"timeout": "7s", "connect_timeout": 2, "max_retries": "3", "retry_timeout": "500ms"}
    store = DatasetStore.open(url, read_only=False, storage_options=s3_options(s3, **flat)).base.store
    assert store.retry_config["max_retries"] == 3
    assert store.retry_config["retry_timeout"].total_seconds() == 0.5
    nested = {
        "config": s3_options(s3),
        "retry_config": {"max_retries": 4},
        "client_options": {"timeout": "9s"},
    }
    store = DatasetStore.open(url, read_only=False, storage_options=nested)
    assert store.base.store.retry_config["max_retries"] == 4
    store.put("a/b", b"value")
    assert store.get("a/b") == b"value"


def test_options_of_the_environment_are_overridden_one_by_one(s3, url, monkeypatch):
    monkeypatch.setenv(
        "FGBGPACK_STORAGE_OPTIONS", '{"endpoint": "http://127.0.0.1:9", "region": "us-east-1"}'
    )
    store = DatasetStore.open(url, read_only=False, storage_options={"endpoint": s3, **CREDENTIALS})
    store.put("a/b", b"value")
    assert store.base.store.config["region"] == "us-east-1"


def test_commands_refuse_options_that_are_no_pairs(dataset):
    for words in (["region"], ["=x"], ["a=1", "a=2"]):
        arguments = [word for text in words for word in ("--storage-option", text)]
        result = run("info", dataset, *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
    assert run("info", dataset, "--storage-option", "region=x").exit_code == 2, "it is no URL"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/it.zarr", "s3://bucket/it.zarr"),
        ("https://me:hush@host/it.zarr", "https://***@host/it.zarr"),
        ("https://hush@host/it.zarr", "https://***@host/it.zarr"),
        ("https://host/it.zarr?X-Amz-Signature=hush", "https://host/it.zarr?***"),
        ("simplecache::https://me:hush@host/it.zarr?a=hush#b", "simplecache::https://***@host/it.zarr?***"),
        ("abfs://container@account.dfs.core.windows.net/it.zarr", None),
    ],
)
def test_passwords_and_signatures_in_urls_are_not_shown(url, shown):
    place = located(url, {"token": "hush"})
    assert name_of(url) == name_of(place) == (shown or url)
    assert "hush" not in f"{place} {place!r} {place.__fspath__()}"
    assert pickle.loads(pickle.dumps(place)).url == url
    assert isinstance(place, Located)


@pytest.mark.slow
def test_secrets_are_in_nothing_that_is_written_or_printed(s3, url, pictures, depth_model, tmp_path):
    options = s3_options(s3, session_token="hush-session-token")
    secrets = [options[name] for name in ("secret_access_key", "session_token", "access_key_id")]
    words, printed = option_words(options), []
    sources = ("--backgrounds", pictures.backgrounds, "--foregrounds", pictures.foregrounds, *TINY[2:])

    def command(*arguments):
        result = run(*arguments, *words)
        printed.append(result.output)
        return result.exit_code

    assert command("create", url, *sources, "--depth-model", depth_model) == 0
    assert command("info", url) == 0
    assert command("verify", url, "--record") == 0
    assert command("split", url, "fair", "a=0.5", "b=0.5", "--by", "sample") == 0
    assert command("card", url, "-o", tmp_path / "cards") == 0
    assert command("export", url, tmp_path / "tars", "--to", "webdataset") == 0
    assert command("create", url, *sources, "--seed", 3, "--depth-model", "none") == 4
    assert command("info", f"{url}/nothing") == 4
    bad = [*words, "--storage-option", "max_retries=0", "--storage-option", "endpoint=http://127.0.0.1:9"]
    bad.remove(f"endpoint={s3}")
    bad.remove("--storage-option")
    printed.append(run("info", url, *bad).output)
    assert "store-unreachable" not in printed[-1]
    assert "cannot be reached" in printed[-1]
    environment = {**os.environ, "FGBGPACK_STORAGE_OPTIONS": "not JSON hush-session-token"}
    broken = subprocess.run([*PROGRAM, "info", url], env=environment, capture_output=True, text=True)
    printed.append(broken.stdout + broken.stderr)
    ds = open_dataset(url, storage_options=options)
    printed += [repr(ds), str(ds), repr(ds.store.store), str(ds.path), repr(ds.document)]
    written = b"".join(contents(s3_store(s3, prefix_of(url))).values())
    written += b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for secret in secrets:
        assert secret not in "".join(printed)
        assert secret.encode() not in written


@pytest.mark.slow
def test_library_functions_take_the_same_options(s3, url, pictures, tmp_path):
    from fgbgpack.cards import write_cards
    from fgbgpack.export import export

    options = {"storage_options": s3_options(s3)}
    create(url, pictures.spec(), layout=SMALL_SHARDS, **options)
    virtualize(url, f"{url}-virtual", **options)
    with refused(SpecError, "target-is-source"):
        materialize(f"{url}-virtual", f"{url}-virtual", **options)
    materialize(f"{url}-virtual", layout=SMALL_SHARDS, **options)
    convert(url, tmp_path / "it.h5", **options)
    convert(tmp_path / "it.h5", f"{url}-back", **options)
    export(url, tmp_path / "out", to="folder", **options)
    assert import_folder.__kwdefaults__["storage_options"] is None
    assert verify(f"{url}-back", **options).sound
    assert repair(f"{url}-back", **options).left_count == 0
    write_cards(url, folder=tmp_path / "cards", **options)
    with refused(SpecError, "options-conflict"):
        convert(tmp_path / "it.h5", tmp_path / "back.zarr", **options)
    with refused(SpecError, "options-conflict"):
        export(open_dataset(url, **options), tmp_path / "out", to="folder", **options)


def test_obstore_is_imported_for_object_stores_only():
    code = "import sys, fgbgpack.storage.targets; raise SystemExit('obstore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("url", "options", "kind"),
    [
        ("s3://bucket/it.zarr", {}, "S3Store"),
        ("s3a://bucket/it.zarr", {}, "S3Store"),
        ("https://bucket.s3.eu-west-1.amazonaws.com/it.zarr", {}, "S3Store"),
        ("gs://bucket/it.zarr", {"skip_signature": True}, "GCSStore"),
        ("az://container/it.zarr", {"account_name": "me", "skip_signature": True}, "AzureStore"),
        ("abfs://container@me.dfs.core.windows.net/it.zarr", {}, "AzureStore"),
        ("https://me.blob.core.windows.net/container/it.zarr", {}, "AzureStore"),
    ],
)
def test_urls_of_all_object_stores_are_opened_by_obstore(url, options, kind):
    store = DatasetStore.open(url, read_only=True, storage_options={"timeout": 5, **options}).base
    assert isinstance(store, RemoteStore)
    assert type(store.store).__name__ == kind
    assert str(store) == url
    assert store.is_far
    assert pickle.loads(pickle.dumps(store)) == store


def test_other_urls_are_opened_by_fsspec():
    store = DatasetStore.open("memory://somewhere/it.zarr", read_only=True)
    assert type(store.base).__name__ == "FsspecStore"
    assert not isinstance(store.base, RemoteStore)
