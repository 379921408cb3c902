"""The notebooks run from top to bottom, in another folder than their own."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
#: This notebook takes minutes.
LONG = "train"
_LARGEST_OUTPUTS = 400_000


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs_of(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def printed_by(notebook: nbformat.NotebookNode) -> str:
    return "".join(output.text for output in outputs_of(notebook) if output.output_type == "stream")


def shown_by(notebook: nbformat.NotebookNode, kind: str) -> list[str]:
    return [output.data[kind] for output in outputs_of(notebook) if kind in output.get("data", {})]


def test_there_are_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["quickstart", "train"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_valid(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_kept_for_those_who_only_read(path: Path) -> None:
    """They are small, complete, and of no machine's folders."""
    notebook = nbformat.read(path, as_version=4)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    assert sum(len(str(output)) for output in outputs_of(notebook)) < _LARGEST_OUTPUTS
    assert {output.output_type for output in outputs_of(notebook)} == {"stream", "display_data"}
    assert {output.get("name", "stdout") for output in outputs_of(notebook)} == {"stdout"}
    assert re.search(r"/(tmp|home|root)/", printed_by(notebook)) is None


def test_the_training_has_learned() -> None:
    notebook = nbformat.read(ROOT / "notebooks" / f"{LONG}.ipynb", as_version=4)
    # It learned something about rooms and people that it had not seen.
    told = re.findall(r"overlap ([0-9.]+), depth off by ([0-9.]+)", printed_by(notebook))
    overlap, off = map(float, told[-1])
    assert overlap > 0.5
    assert off < float(told[0][1])


def run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nbformat.NotebookNode:
    """Run a notebook, shortened where it can be; it is returned with its new outputs."""
    # The user's own kernels, start-up files and settings must not matter.
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("FGBGPACK_QUICK", "1")
    for variable in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    work = tmp_path / "work"
    work.mkdir()
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(work)}}
    ).execute()
    assert [output for output in outputs_of(notebook) if output.get("name") == "stderr"] == []
    assert list(work.iterdir()) == []
    return notebook


# Warnings of the kernel's own packages are not ours; the code of a notebook runs in another process.
@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:::jupyter_client", "ignore:::jupyter_core", "ignore:::nbclient", "ignore:::zmq"
)
class TestRuns:
    def test_quickstart(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        notebook = run(ROOT / "notebooks" / "quickstart.ipynb", tmp_path, monkeypatch)
        printed = printed_by(notebook)
        assert "180 samples" in printed
        assert "equal: figure-" in printed
        assert "'quantity': 'inverse_depth'" in printed
        assert "where nothing is pasted, depth is that of the background" in printed
        assert len(shown_by(notebook, "image/png")) == 5

    def test_train(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        notebook = run(ROOT / "notebooks" / "train.ipynb", tmp_path, monkeypatch)
        printed = printed_by(notebook)
        assert "72 samples of 96x96" in printed
        assert "image  torch.uint8    (8, 3, 80, 80)" in printed
        losses = [float(loss) for loss in re.findall(r"loss ([0-9.]+)", printed)]
        assert len(losses) == 2
        assert losses[1] < losses[0]
        assert "{'seed': 1, 'epoch': 3, 'batches': 2}" in printed
        assert len(shown_by(notebook, "image/png")) == len(shown_by(notebook, "image/svg+xml")) == 1
