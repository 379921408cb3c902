"""What a package of an extra is needed for says so where that is not installed."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from annotated_sets import Coco, yolo
from documents import ROOT
from keras_files import SMALL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from picture_files import write

from fgbgpack import open_dataset
from fgbgpack.depth.keras import import_keras
from fgbgpack.errors import MissingPackageError
from fgbgpack.export import export, verify_export
from fgbgpack.extras import require
from fgbgpack.pipeline import ImportSpec, convert, dask_executor, scan

PACKAGE = ROOT / "fgbgpack"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: Extras for those who develop fgbgpack: it imports nothing of them.
FOR_DEVELOPERS = {"docs", "interop", "peers", "dev"}
#: What packages are imported as, if not by their names.
MODULES = {"pyyaml": "yaml", "pillow-heif": "pillow_heif", "pillow-jxl-plugin": "pillow_jxl"}
#: Where modules of extras are imported by name: what was there before has looked for the package.
LOOKED_FOR = (
    "torch/",
    "training/",
    "viewer/",
    "storage/objects.py",
    "storage/claims.py",
    "sources/sets/coco_json.py",
    "pipeline/cluster.py",
)
#: What does without.
DOES_WITHOUT = ("storage/hdf5/child.py",)


def packages(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements}


#: Each package of an extra of users.
EXTRAS = [
    (extra, package)
    for extra, requirements in PROJECT["optional-dependencies"].items()
    if extra not in FOR_DEVELOPERS
    for package in sorted(packages(requirements) - packages(PROJECT["dependencies"]))
]


def of_a_fresh_python(package: str, code: str) -> str:
    """What a Python without a package writes to stderr."""
    hidden = f"import sys; sys.modules[{MODULES.get(package, package)!r}] = None\n"
    done = subprocess.run([sys.executable, "-c", hidden + code], capture_output=True, text=True)
    assert done.returncode != 0
    return done.stderr


def message_of(call: Callable[[], object]) -> str:
    with pytest.raises(MissingPackageError) as caught:
        call()
    assert isinstance(caught.value.__cause__, ImportError)
    return caught.value.message


class Uses:
    """What needs the packages of extras: each yields what it says where one of them is not installed."""

    def __init__(self, dataset: Path, folder: Path, hide: Callable[[str], None]) -> None:
        self.dataset, self.folder, self._hide = dataset, folder, hide

    def of(self, extra: str, package: str) -> Iterator[str]:
        return getattr(self, extra)(package)

    def hide(self, package: str) -> None:
        self._hide(MODULES.get(package, package))

    def hdf5(self, package: str) -> Iterator[str]:
        path = self.folder / "it.h5"
        convert(self.dataset, self.folder / "other.h5", portable=True)
        with (self.folder / "other.h5").open("r+b") as file:
            file.seek(9)
            file.write(b"\1")
        self.hide(package)
        yield message_of(lambda: convert(self.dataset, path))
        assert not path.exists()
        if package == "h5py":
            yield message_of(lambda: convert(self.dataset, path, portable=True))
            yield message_of(lambda: open_dataset(self.folder / "other.h5"))

    def keras(self, package: str) -> Iterator[str]:
        self.hide(package)
        yield message_of(lambda: import_keras(SMALL))

    def heif(self, package: str) -> Iterator[str]:
        suffix = {"pillow-heif": "heic", "pillow-jxl-plugin": "jxl"}[package]
        write(self.folder / f"a.{suffix}", b"whatever")
        for function in ("find_files(folder)", "find_sources(folder, folder)"):
            yield of_a_fresh_python(
                package,
                "from pathlib import Path\n"
                "from fgbgpack.sources.listing import find_files, find_sources\n"
                f"folder = Path({str(self.folder)!r})\n{function}",
            )

    def coco(self, package: str) -> Iterator[str]:
        Coco().write(self.folder / "set")
        self.hide(package)
        yield message_of(lambda: scan(ImportSpec(str(self.folder / "set"))))
        if package == "pycocotools":
            out = self.folder / "out"
            yield message_of(lambda: export(open_dataset(self.dataset), out, to="coco", segmentation="rle"))
            assert not out.exists()

    def yolo(self, package: str) -> Iterator[str]:
        yolo(self.folder, {"a": "0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5\n"})
        self.hide(package)
        yield message_of(lambda: scan(ImportSpec(str(self.folder))))

    def parquet(self, package: str) -> Iterator[str]:
        export(open_dataset(self.dataset), self.folder / "set", to="parquet")
        self.hide(package)
        out = self.folder / "out"
        yield message_of(lambda: export(open_dataset(self.dataset), out, to="parquet"))
        assert not out.exists()
        yield message_of(lambda: verify_export(self.folder / "set"))
        yield message_of(lambda: scan(ImportSpec(str(self.folder / "set"))))

    def cloud(self, package: str) -> Iterator[str]:
        self.hide(package)
        for url in ("s3://bucket/it.zarr", "gs://bucket/it.zarr", "az://container/it.zarr"):
            yield message_of(lambda url=url: open_dataset(url))

    def dask(self, package: str) -> Iterator[str]:
        self.hide(package)
        yield message_of(lambda: dask_executor("local:1").__enter__())

    def torch(self, package: str) -> Iterator[str]:
        text = of_a_fresh_python(package, "import fgbgpack\nimport fgbgpack.torch")
        assert text.splitlines()[-1].startswith("fgbgpack.errors.MissingPackageError: fgbgpack.torch needs")
        yield text
        code = "try:\n    import fgbgpack.torch\nexcept ImportError as exc:\n    raise SystemExit(str(exc))"
        yield of_a_fresh_python(package, code)

    def view(self, package: str) -> Iterator[str]:
        yield of_a_fresh_python(package, "import fgbgpack.viewer")

    def train(self, package: str) -> Iterator[str]:
        text = of_a_fresh_python(
            package, "import runpy; runpy.run_module('fgbgpack.training', alter_sys=True)"
        )
        assert "Traceback" not in text
        yield text


@pytest.mark.slow
@pytest.mark.parametrize(("extra", "package"), EXTRAS)
def test_what_needs_a_package_names_it_and_its_extra(dataset, tmp_path, monkeypatch, extra, package):
    uses = Uses(dataset, tmp_path, lambda module: monkeypatch.setitem(sys.modules, module, None))
    said = list(uses.of(extra, package))
    assert said
    for text in said:
        assert f"{package}, which is not installed: pip install 'fgbgpack[{extra}]'" in text


def test_one_module_says_what_to_install():
    words = "fgbgpack["
    assert [path.name for path in PACKAGE.rglob("*.py") if words in path.read_text("utf-8")] == ["extras.py"]


def test_packages_of_extras_are_looked_for_before_they_are_imported():
    modules = {MODULES.get(package, package.replace("-", "_")) for _, package in EXTRAS}
    imports = re.compile(rf"^ *(?:from|import) (?:{'|'.join(modules)})\b", re.MULTILINE)
    paths = [path for path in PACKAGE.rglob("*.py") if imports.search(path.read_text("utf-8"))]
    found = {path.relative_to(PACKAGE).as_posix() for path in paths}
    assert {path for path in found if not path.startswith(LOOKED_FOR)} == set(DOES_WITHOUT)


@pytest.mark.parametrize(
    ("package", "content", "reason"),
    [
        (
            "broken_a",
            "raise ImportError('libx.so: cannot open\\nit')",
            "ImportError: libx.so: cannot open it",
        ),
        ("broken_b", "import what_it_needs", "No module named 'what_it_needs'"),
        ("broken_c", "import broken_c.none_such", "No module named 'broken_c.none_such'"),
        ("broken_d", "raise ValueError('dtype size changed')", "ValueError: dtype size changed"),
    ],
)
def test_a_package_that_is_installed_and_broken(tmp_path, monkeypatch, package, content, reason):
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path / package / "__init__.py", b"")
    write(tmp_path / package / "part.py", content.encode())
    with pytest.raises(MissingPackageError) as caught:
        require(f"{package}.part", extra="some", needed_by="That")
    assert caught.value.__cause__ is not None
    message = caught.value.message
    assert message.startswith(f"That needs {package}, which is installed and cannot be imported (")
    assert reason in message
    assert message.endswith(f"): pip install --force-reinstall {package}.")


def test_the_error_travels_from_workers():
    error = MissingPackageError("It needs what is not there.", ["a problem"])
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, ImportError)
    assert (copy.message, copy.problems, copy.code, copy.exit_status) == (
        error.message, error.problems, "extra-missing", 2,
    )  # fmt: skip
