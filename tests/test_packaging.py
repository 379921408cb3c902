"""What users install: the wheel, its schemas, its command."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fgbgpack"


@pytest.mark.slow
def test_nothing_below_the_command_line_prints_or_exits():
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] == "cli":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"print", "exit", "quit"}, f"{path}:{node.lineno}"


def test_public_names_are_few_and_there():
    import fgbgpack

    assert len(fgbgpack.__all__) <= 19
    assert list(fgbgpack.__all__) == sorted(fgbgpack.__all__)
    for name in fgbgpack.__all__:
        assert getattr(fgbgpack, name).__doc__, name
    with pytest.raises(AttributeError):
        _ = fgbgpack.nothing_of_that_name


# --- the wheel -------------------------------------------------------------------------------------


def build(source, out, *options):
    """Build a folder: a source distribution, a wheel from that, and return the wheel's path."""
    command = [sys.executable, "-m", "build", *options, "--no-isolation", "--outdir", out, source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build(ROOT, tmp_path_factory.mktemp("wheel"), "--wheel")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_wheel_from_a_clone_records_its_commit_and_one_from_an_archive_none(tmp_path):
    source = tmp_path / "source"
    for name in ("fgbgpack", "schemas"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "networks"))
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)

    def recorded(wheel):
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            return archive.read("fgbgpack/COMMIT").decode() if "fgbgpack/COMMIT" in names else None

    assert recorded(build(source, tmp_path / "archive", "--wheel")) is None
    git = ("git", "-C", source, "-c", "user.name=x", "-c", "user.email=x@example.org")
    for words in (("init", "--quiet"), ("commit", "--quiet", "--allow-empty", "-m", "first")):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    assert recorded(build(source, tmp_path / "clone")) == head
    assert not (source / "fgbgpack" / "COMMIT").exists()


@pytest.mark.slow
def test_the_wheel_carries_code_and_schemas_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert len(names) == len(set(names))
        metadata = archive.read(next(n for n in names if n.endswith(".dist-info/METADATA"))).decode()
    held = {name for name in names if ".dist-info/" not in name}
    schemas = {
        f"fgbgpack/schemas/{p.relative_to(ROOT / 'schemas')}" for p in (ROOT / "schemas").rglob("*.json")
    }
    code = {str(p.relative_to(ROOT)) for p in PACKAGE.rglob("*.py")}
    assert len(schemas) >= 3
    assert "fgbgpack/py.typed" in held
    assert schemas | code <= held
    others = held - schemas - code - {"fgbgpack/py.typed", "fgbgpack/COMMIT"}
    networks = {f"fgbgpack/depth/networks/{name}.onnx" for name in ("fgbgpack-scene", "fgbgpack-guided")}
    assert networks <= held
    page = {str(p.relative_to(ROOT)) for p in (PACKAGE / "viewer" / "static").iterdir()}
    assert len(page) >= 10
    assert page <= held
    # Other data of the package may come with it too; what was made while running may not.
    assert [
        name for name in others if name.endswith((".pyc", ".nbi", ".nbc", ".py")) or "__pycache__" in name
    ] == []
    assert all(name.startswith("fgbgpack/") for name in held)
    assert "License-File: LICENSE" in metadata
    assert "License-Expression: MIT" in metadata
    assert "Requires-Python: >=3.11" in metadata


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with nothing but the wheel in it, and what runs commands that see it and the dependencies."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", target, wheel]
    done = subprocess.run(
        [*command, "--disable-pip-version-check", "--quiet"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    dependencies = [path for path in sys.path if path.endswith("site-packages")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(target), *dependencies]),
        "COLUMNS": "100",
    }

    def run(*command):
        return subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)

    return target, run


def python(run, code):
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_installed_command_helps(installed):
    target, run = installed
    done = run(sys.executable, target / "bin" / "fgbgpack", "--help")
    assert done.returncode == 0, done.stderr
    for command in ("create", "depth", "info", "preview", "sample", "schema"):
        assert command in done.stdout
    assert python(run, "import fgbgpack; print(fgbgpack.__file__)").startswith(str(target))


@pytest.mark.slow
def test_the_installed_package_validates_specs_with_its_own_schemas(installed):
    target, run = installed
    code = (
        "from fgbgpack import DatasetSpec, SpecError, schema\n"
        "print(schema.folder())\n"
        "DatasetSpec.from_dict({'backgrounds': 'b', 'foregrounds': 'f', 'seed': 2**64 - 1})\n"
        "try: DatasetSpec.from_dict({'backgrounds': 'b', 'width': 1})\n"
        "except SpecError as error: print(error)\n"
        "print(all(schema.load_schema(name) for name in schema.CURRENT))\n"
    )
    out = python(run, code)
    assert out.startswith(str(target / "fgbgpack" / "schemas"))
    assert "width" in out
    assert "foregrounds" in out
    assert "True" in out


@pytest.mark.slow
def test_the_installed_command_refuses_a_bad_spec_with_exit_code_2(installed):
    target, run = installed
    done = run(
        *(sys.executable, target / "bin" / "fgbgpack", "create", "it.zarr"),
        *("--backgrounds", "bg", "--foregrounds", "fg", "--placements", "0"),
    )
    assert done.returncode == 2
    assert "placements" in done.stderr
    assert "Traceback" not in done.stderr


def test_importing_the_package_is_light(installed):
    _, run = installed
    code = (
        "import sys, fgbgpack, fgbgpack.errors, fgbgpack.schema\n"
        "heavy = {'numba', 'zarr', 'onnxruntime', 'numpy', 'torch'} & set(sys.modules)\n"
        "print(sorted(heavy))\n"
    )
    assert python(run, code) == "[]\n"
