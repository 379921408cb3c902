"""Commands on a real scheduler of Dask and on other executors: the same bytes as threads, and errors that say
what to do.
"""

from __future__ import annotations

import pickle
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
from annotated_sets import penn_fudan
from builders import SMALL_SHARDS, assert_same_files, depth_of, tree
from clusters import Cluster, free_port
from zarr.storage import LocalStore, MemoryStore

from fgbgpack import ClusterError, DatasetError, SourceError, SpecError, create, fill_depth
from fgbgpack.composition.recipe import Recipe
from fgbgpack.export import export
from fgbgpack.pipeline import (
    ImportSpec,
    Progress,
    convert,
    dask_executor,
    import_folder,
    materialize,
    repair,
    verify,
    virtualize,
)
from fgbgpack.pipeline.executor import Threads
from fgbgpack.pipeline.ticket import Outcome, Ticket, Work, differing_versions, require_versions, versions
from fgbgpack.pipeline.workers import Workers, engine_of, translated
from fgbgpack.storage.store import DatasetStore

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="starts and kills processes as Linux does"),
]

#: More than a ticket for these datasets takes, and less than their pictures do.
_TICKET_BYTES = 16_000


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def dask(cluster):
    with dask_executor(cluster.address, timeout=120) as executor:
        yield executor


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        yield executor


@pytest.fixture(params=["dask", "processes"])
def executor(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def spec(pictures, depth_model, guide_model):
    return pictures.spec(chunk=4, depth=depth_of(depth_model, guide=str(guide_model), scale=2))


@pytest.fixture(scope="module")
def expected(tmp_path_factory, spec) -> Path:
    """The dataset of that spec, made by threads, in several shards of each array; not to be changed."""
    path = tmp_path_factory.mktemp("expected") / "it.zarr"
    create(path, spec, layout=SMALL_SHARDS)
    return path


class TestSameBytes:
    def test_create_with_guided_depth(self, tmp_path, spec, expected, executor):
        events = []
        report = create(
            tmp_path / "it.zarr", spec, layout=SMALL_SHARDS, executor=executor, on_event=events.append
        )
        assert_same_files(tmp_path / "it.zarr", expected)
        assert (report.created, report.depth_filled, report.complete) == (36, 36, True)
        last = {event.stage: event for event in events if isinstance(event, Progress)}
        assert {stage: (e.done, e.total) for stage, e in last.items()} == {
            "sources": (5, 5),
            "samples": (36, 36),
            "backgrounds": (3, 3),
            "depth": (36, 36),
        }

    def test_depth_by_sample(self, tmp_path, pictures, depth_model, dask):
        path, other = tmp_path / "it.zarr", tmp_path / "other.zarr"
        create(path, pictures.spec(chunk=4), layout=SMALL_SHARDS)
        shutil.copytree(path, other)
        for place, executor in ((path, None), (other, dask)):
            fill_depth(place, depth_of(depth_model, scale=2), layout=SMALL_SHARDS, executor=executor)
        assert (path / "depth/c/2/0/0").is_file()
        for name, value in tree(path).items():
            if "/c/" in name:
                assert (other / name).read_bytes() == value, name

    def test_materialize_and_virtualize(self, tmp_path, spec, expected, executor):
        virtual, stored = tmp_path / "virtual.zarr", tmp_path / "stored.zarr"
        create(virtual, spec, virtual=True, layout=SMALL_SHARDS)
        before = tree(virtual)
        done = materialize(virtual, stored, layout=SMALL_SHARDS, executor=executor)
        assert (done.written, done.checked) == (36, 36)
        assert_same_files(stored, expected)
        done = virtualize(stored, tmp_path / "again.zarr", executor=executor)
        assert (done.written, done.checked) == (0, 36)
        assert tree(tmp_path / "again.zarr") == before
        materialize(virtual, layout=SMALL_SHARDS, executor=executor)
        assert_same_files(virtual, expected)

    def test_convert(self, tmp_path, expected, executor):
        convert(expected, tmp_path / "it.h5", executor=executor)
        convert(tmp_path / "it.h5", tmp_path / "it.zarr", executor=executor)
        assert_same_files(tmp_path / "it.zarr", expected)

    def test_import(self, tmp_path, expected, executor):
        export(expected, tmp_path / "files", to="folder")
        spec = ImportSpec(str(tmp_path / "files"), chunk=5)
        import_folder(tmp_path / "it.zarr", spec, layout=SMALL_SHARDS)
        import_folder(tmp_path / "other.zarr", spec, layout=SMALL_SHARDS, executor=executor)
        assert_same_files(tmp_path / "other.zarr", tmp_path / "it.zarr")

    @pytest.mark.parametrize("to", ["coco", "parquet"])
    def test_import_of_objects(self, tmp_path, processes, to):
        penn_fudan(tmp_path / "pf", [i % 4 for i in range(12)])
        import_folder(tmp_path / "pf.zarr", ImportSpec(str(tmp_path / "pf")))
        export(tmp_path / "pf.zarr", tmp_path / "files", to=to)
        spec = ImportSpec(str(tmp_path / "files"), chunk=2)
        import_folder(tmp_path / "it.zarr", spec, layout=SMALL_SHARDS)
        import_folder(tmp_path / "other.zarr", spec, layout=SMALL_SHARDS, executor=processes)
        assert_same_files(tmp_path / "other.zarr", tmp_path / "it.zarr")

    @pytest.mark.parametrize(
        "to", ["folder", "coco", "coco-panoptic", "npz", "webdataset", "yolo", "parquet"]
    )
    def test_export(self, tmp_path, expected, dask, to):
        options = {"shard_samples": 10} if to == "npz" else {}
        export(expected, tmp_path / "it", to=to, **options)
        export(expected, tmp_path / "other", to=to, executor=dask, **options)
        assert_same_files(tmp_path / "other", tmp_path / "it")

    def test_hdf5(self, tmp_path, spec, dask):
        create(tmp_path / "it.h5", spec, layout=SMALL_SHARDS)
        create(tmp_path / "other.h5", spec, layout=SMALL_SHARDS, executor=dask)
        assert (tmp_path / "other.h5").read_bytes() == (tmp_path / "it.h5").read_bytes()

    def test_verify_and_repair(self, tmp_path, expected, executor):
        path = shutil.copytree(expected, tmp_path / "it.zarr")
        sound = verify(path, executor=executor)
        assert sound.sound
        assert sound.recomposed == 36
        assert sound.arrays == verify(path).arrays
        for key in ("image/c/1/0/0/0", "depth/c/0/0/0", "depth_min/c/1", "sources/background_depth/c/1/0/0"):
            content = bytearray((path / key).read_bytes())
            content[len(content) // 2] ^= 1
            (path / key).write_bytes(content)
        (path / "mask/c/2/0/0").unlink()
        assert verify(path, executor=executor).faults == verify(path).faults
        assert len(verify(path).faults) >= 5
        done = repair(path, executor=executor)
        assert (done.left_count, done.differing) == (0, {})
        assert_same_files(path, expected)


def test_only_what_is_missing_is_made(tmp_path, spec, expected, dask):
    path = shutil.copytree(expected, tmp_path / "it.zarr")
    (path / "image/c/1/0/0/0").unlink()
    report = create(path, spec, layout=SMALL_SHARDS, executor=dask)
    assert 0 < report.created < 36
    assert report.depth_filled == 0
    assert_same_files(path, expected)


class _Nothing(Work[int, int]):
    """Gives back what it is sent."""

    def __init__(self, store: DatasetStore) -> None:
        self.store = store

    recipe_store = None

    def __call__(self, item, monitor):
        return item


class TestTickets:
    @pytest.fixture
    def tickets(self, monkeypatch):
        """The tickets that are made."""
        made = []
        of = Ticket.of
        monkeypatch.setattr(Ticket, "of", classmethod(lambda cls, work: made.append(of(work)) or made[-1]))
        return made

    def test_are_small_whatever_the_pictures(self, tmp_path, own_pictures, processes, tickets):
        for i in range(40):
            own_pictures.background(f"more{i}.png", 80, 120, seed=i)
        spec = own_pictures.spec(width=120, height=80)
        create(tmp_path / "it.zarr", spec, executor=processes, layout=SMALL_SHARDS)
        verify(tmp_path / "it.zarr", executor=processes)
        assert len(tickets) == 2
        assert all(len(ticket) < _TICKET_BYTES for ticket in tickets)

    def test_do_not_grow_with_the_number_of_files(self, tmp_path, expected, processes, tickets):
        export(expected, tmp_path / "files", to="folder")
        import_folder(tmp_path / "it.zarr", ImportSpec(str(tmp_path / "files")), executor=processes)
        names = [path.name.encode() for path in (tmp_path / "files").rglob("*.png")]
        assert tickets
        assert not any(name in pickle.dumps(one) for one in tickets for name in names)

    def test_hold_no_recipe(self, tmp_path, spec, processes, tickets, monkeypatch):
        monkeypatch.setattr(Recipe, "__reduce__", lambda self: pytest.fail("a recipe was sent"))
        create(tmp_path / "it.zarr", spec, executor=processes, layout=SMALL_SHARDS)
        assert len(tickets) == 3

    def test_show_no_secrets(self):
        ticket = Ticket(b"aws_secret_access_key=hunter2", {})
        assert "hunter2" not in repr(ticket) + str(ticket) + repr((ticket, 5))
        assert pickle.loads(pickle.dumps(ticket)).digest == ticket.digest


class TestErrors:
    def test_of_workers_are_those_of_threads(self, tmp_path, expected, executor):
        export(expected, tmp_path / "files", to="folder")
        damaged = sorted((tmp_path / "files").rglob("image/**/*.png"))[20]
        damaged.write_bytes(damaged.read_bytes()[:-40])
        spec = ImportSpec(str(tmp_path / "files"), chunk=5)
        found = []
        for name, one in (("it", None), ("other", executor)):
            with pytest.raises(SourceError) as error:
                import_folder(tmp_path / f"{name}.zarr", spec, layout=SMALL_SHARDS, executor=one)
            found.append(error.value)
        assert found[0].problems == found[1].problems
        assert (found[0].code, found[0].exit_status) == (found[1].code, found[1].exit_status)

    def test_of_a_damaged_source(self, tmp_path, expected, dask):
        path = shutil.copytree(expected, tmp_path / "it.zarr")
        content = bytearray((path / "image/c/1/0/0/0").read_bytes())
        content[40] ^= 1
        (path / "image/c/1/0/0/0").write_bytes(content)
        codes = []
        for executor in (None, dask):
            with pytest.raises(DatasetError) as error:
                virtualize(path, tmp_path / "virtual.zarr", executor=executor)
            codes.append(error.value.code)
        assert codes[0] == codes[1]

    def test_memory_is_not_shared(self, spec, dask):
        with pytest.raises(ClusterError) as error:
            create(MemoryStore(), spec, executor=dask)
        assert error.value.code == "store-not-shared"

    def test_another_dataset_under_the_same_name(self, tmp_path, expected, pictures):
        """What a worker opens is compared with what the sender has."""
        path = tmp_path / "it.zarr"
        shutil.copytree(expected, path)
        store = DatasetStore(LocalStore(path), str(path))
        store.document()
        ticket = Ticket.of(_Nothing(store))
        assert ticket.open()(3, None) == 3
        shutil.rmtree(path)
        Ticket._opened.clear()
        with pytest.raises(ClusterError) as error:
            ticket.open()
        assert error.value.code == "store-not-shared"
        create(path, pictures.spec(seed=4))
        with pytest.raises(ClusterError) as error:
            ticket.open()
        assert error.value.code == "store-not-shared"

    def test_other_versions(self):
        other = {**versions(), "fgbgpack": "0.0.1", "Python": "3.1"}
        assert len(differing_versions(other, versions())) == 2
        with pytest.raises(ClusterError) as error:
            require_versions(other)
        assert error.value.code == "workers-differ"
        assert len(error.value.problems) == 2

    def test_nothing_listens(self):
        with (
            pytest.raises(ClusterError) as error,
            dask_executor(f"tcp://127.0.0.1:{free_port()}", timeout=1),
        ):
            pytest.fail("there is no scheduler")
        assert (error.value.code, error.value.exit_status) == ("scheduler-unreachable", 6)

    def test_no_worker(self, tmp_path):
        with Cluster(tmp_path, workers=0) as cluster:
            cluster.wait_for_scheduler()
            with pytest.raises(ClusterError) as error, dask_executor(cluster.address, timeout=5):
                pytest.fail("there is no worker")
        assert error.value.code == "cluster-without-workers"

    @pytest.mark.parametrize("where", ["", "local:0", "local:-1", "10.0.0.5", "10.0.0.5:8786", "http://a:1"])
    def test_no_address(self, where):
        with pytest.raises(SpecError) as error, dask_executor(where):
            pytest.fail("there is no such cluster")
        assert error.value.code == "cluster-invalid"

    def test_no_executor(self):
        with pytest.raises(SpecError) as error:
            engine_of(None, "local:4")  # type: ignore[arg-type]
        assert error.value.code == "executor-invalid"

    def test_a_closed_executor(self, tmp_path, spec):
        executor = ProcessPoolExecutor(1)
        executor.shutdown()
        with pytest.raises(ClusterError) as error:
            create(tmp_path / "it.zarr", spec, executor=executor)
        assert error.value.code == "cluster-lost"

    def test_what_is_no_engines_error_stays(self):
        bug = KeyError("a bug")
        assert translated(bug) is bug


def test_few_tasks_are_sent_at_a_time(tmp_path, pictures, processes):
    sent = []

    class Counting(ProcessPoolExecutor):
        _max_workers = 2

        def __init__(self):
            pass

        def submit(self, *task, **options):
            future = processes.submit(*task, **options)
            sent.append(sum(not one.done() for one in futures) + 1)
            futures.append(future)
            return future

    futures = []
    layout = replace(SMALL_SHARDS, pixel_shard_bytes=2_000)
    create(tmp_path / "it.zarr", pictures.spec(chunk=1, placements=6), layout=layout, executor=Counting())
    assert len(sent) == 72
    assert max(sent) <= 8


def test_a_worker_has_one_thread():
    engine = pickle.loads(pickle.dumps(Workers(ProcessPoolExecutor(1), Threads(7))))
    assert isinstance(engine, Threads)
    assert engine.count == 1
    assert pickle.loads(pickle.dumps(Outcome(3, 5))) == Outcome(3, 5)
