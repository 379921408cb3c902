"""What users install: the wheel, its schemas, its command."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fgbgpack"


def test_nothing_below_the_command_line_prints_or_exits():
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] == "cli":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"print", "exit", "quit"}, f"{path}:{node.lineno}"


def test_public_names_are_few_and_there():
    import fgbgpack

    assert len(fgbgpack.__all__) <= 14
    assert list(fgbgpack.__all__) == sorted(fgbgpack.__all__)
    for name in fgbgpack.__all__:
        assert getattr(fgbgpack, name).__doc__, name
    with pytest.raises(AttributeError):
        _ = fgbgpack.nothing_of_that_name


# --- the wheel -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    return path


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
    others = held - schemas - code - {"fgbgpack/py.typed"}
    networks = {f"fgbgpack/depth/networks/{name}.onnx" for name in ("fgbgpack-scene", "fgbgpack-guided")}
    assert networks <= held
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


def test_the_installed_command_helps(installed):
    target, run = installed
    done = run(sys.executable, target / "bin" / "fgbgpack", "--help")
    assert done.returncode == 0, done.stderr
    for command in ("create", "depth", "info", "preview", "sample", "schema"):
        assert command in done.stdout
    assert python(run, "import fgbgpack; print(fgbgpack.__file__)").startswith(str(target))


def test_the_installed_package_validates_specs_with_its_own_schemas(installed):
    target, run = installed
    code = (
        "from fgbgpack import DatasetSpec, SpecError, schema\n"
        "print(schema._folder())\n"
        "DatasetSpec.from_dict({'backgrounds': 'b', 'foregrounds': 'f', 'seed': 2**64 - 1})\n"
        "try: DatasetSpec.from_dict({'backgrounds': 'b', 'width': 1})\n"
        "except SpecError as error: print(error)\n"
        "print(schema.schema_names(), all(schema.load_schema(name) for name in schema.schema_names()))\n"
    )
    out = python(run, code)
    assert out.startswith(str(target / "fgbgpack" / "schemas"))
    assert "width" in out
    assert "foregrounds" in out
    assert "True" in out


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
