"""``on_event="progress"``: every long call shows how far it is, and nothing of that outlives it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
import pytest
from builders import depth_of, names_in
from kinds import write_samples
from nbclient import NotebookClient
from refusals import refused
from terminals import in_terminal, plain

from fgbgpack import create, estimate, fill_depth
from fgbgpack.errors import SpecError
from fgbgpack.export import export, verify_export
from fgbgpack.pipeline import (
    ImportSpec,
    convert,
    import_folder,
    materialize,
    repair,
    scan,
    verify,
    virtualize,
)

# Makes a dataset.
_PROGRAM = """
import threading
import fgbgpack

def drawing():
    return [type(thread) for thread in threading.enumerate() if type(thread).__module__.startswith("rich")]

spec = fgbgpack.DatasetSpec(backgrounds={backgrounds!r}, foregrounds={foregrounds!r}, placements=2,
                            width=32, height=24, foreground_height=10, depth=None)
fgbgpack.create("it.zarr", spec, on_event="progress")
print("made", drawing())
"""
# And another one of pictures that are damaged.
_FAILING = (
    _PROGRAM
    + """
import dataclasses

damaged = dataclasses.replace(spec, foregrounds="damaged")
try:
    fgbgpack.create("other.zarr", damaged, on_event="progress")
except fgbgpack.SourceError as error:
    print("failed:", error.code, drawing())
"""
)


def program(text: str, pictures) -> str:
    return text.format(backgrounds=str(pictures.backgrounds), foregrounds=str(pictures.foregrounds))


def test_every_long_call_shows_its_progress(pictures, depth_model, tmp_path, capsys):
    spec = pictures.spec()
    made, virtual = tmp_path / "made.zarr", tmp_path / "virtual.zarr"
    calls = [
        lambda **events: create(made, spec, **events),
        lambda **events: estimate(spec, **events),
        lambda **events: verify(made, **events),
        lambda **events: repair(made, **events),
        lambda **events: virtualize(made, virtual, **events),
        lambda **events: materialize(virtual, **events),
        lambda **events: convert(made, tmp_path / "made.h5", **events),
        lambda **events: fill_depth(made, depth_of(depth_model), **events),
        lambda **events: export(made, tmp_path / "folder", to="folder", **events),
        lambda **events: verify_export(tmp_path / "folder", **events),
    ]
    for number, call in enumerate(calls):
        call(on_event="progress")
        shown = capsys.readouterr()
        assert re.search(r"^\w+: \d+ of \d+", shown.err, re.MULTILINE), number
        assert shown.out == ""


def test_what_is_neither_a_function_nor_progress_is_refused(pictures, tmp_path):
    with refused(SpecError, "on-event-invalid", "'bar'"):
        create(tmp_path / "it.zarr", pictures.spec(), on_event="bar")
    assert names_in(tmp_path) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_bars_on_a_terminal_end_with_the_call(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    damaged = Path("damaged")
    damaged.mkdir()
    for path in sorted(pictures.foregrounds.iterdir()):
        damaged.joinpath(path.name).write_bytes(path.read_bytes()[:200])
    shown, stdout, status = in_terminal(80, [sys.executable, "-c", program(_FAILING, pictures)])
    assert (status, stdout) == (0, "made []\nfailed: picture-not-decodable []\n"), shown
    lines = plain(shown).splitlines()
    assert len([line for line in lines if re.match(r"(Pictures|Samples) +━+ 100% .*/s", line)]) >= 3
    # Hidden while there are bars, and there again.
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 2
    assert shown.rstrip().endswith("\x1b[?25h")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_bars_in_a_notebook_are_one_output(pictures, tmp_path, monkeypatch):
    for variable in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    cell = nbformat.v4.new_code_cell(program(_PROGRAM, pictures))
    notebook = nbformat.v4.new_notebook(cells=[cell])
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    bars = [output for output in cell.outputs if "━" in output.get("data", {}).get("text/html", "")]
    assert len(bars) == 1
    assert len(re.findall(r"(Pictures|Samples) +━+ 100% .*/s", plain(bars[0].data["text/plain"]))) == 2
    assert not [output for output in cell.outputs if output.get("name") == "stderr"]
    assert Path(tmp_path / "it.zarr").is_dir()


def test_imports_show_their_progress(tmp_path, capsys, kinds):
    write_samples(tmp_path / "folder", kinds["plain"], depth=False)
    spec = ImportSpec(str(tmp_path / "folder"))
    for call in (
        lambda: scan(spec, on_event="progress"),
        lambda: import_folder(tmp_path / "it.zarr", spec, on_event="progress"),
    ):
        call()
        assert re.search(r"^Pictures: \d+ of \d+", capsys.readouterr().err, re.MULTILINE)
