"""The notebooks run from top to bottom, in another folder than their own."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from fgbgpack.scene_spec import PRESETS

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
#: Bytes of a notebook with its outputs.
_LARGEST = 300_000


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs_of(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def printed_by(notebook: nbformat.NotebookNode) -> str:
    return "".join(output.text for output in outputs_of(notebook) if output.output_type == "stream")


def shown_by(notebook: nbformat.NotebookNode, kind: str) -> list[str]:
    return [output.data[kind] for output in outputs_of(notebook) if kind in output.get("data", {})]


def test_there_are_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["quickstart", "scenes", "train"]


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
    assert path.stat().st_size < _LARGEST
    assert {output.output_type for output in outputs_of(notebook)} == {"stream", "display_data"}
    assert {output.get("name", "stdout") for output in outputs_of(notebook)} == {"stdout"}
    assert re.search(r"/(tmp|home|root)/", printed_by(notebook)) is None


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_pages_list_all_notebooks(page: str) -> None:
    text = (ROOT / page).read_text()
    assert {path.name for path in NOTEBOOKS} == set(re.findall(r"notebooks/(\w+\.ipynb)\)", text))


def numbers(pattern: str, text: str) -> list[float]:
    """The groups of the last place where a pattern is found."""
    return [float(group) for group in re.findall(pattern, text)[-1]]


def test_the_training_has_learned() -> None:
    printed = printed_by(nbformat.read(ROOT / "notebooks" / "train.ipynb", as_version=4))
    # Of rooms and people that it had not seen it knows more than what needs no learning.
    simple = numbers(
        r"test +subtraction, threshold \d+: overlap ([0-9.]+); mean depth: off by ([0-9.]+)", printed
    )
    learned = numbers(r"test overlap ([0-9.]+), depth off by ([0-9.]+)", printed)
    assert learned[0] > simple[0]
    assert learned[1] < simple[1]
    # Of rooms that it had seen it knows much more: a split that leaks would have hidden that.
    unseen, known = numbers(r"depth off by +([0-9.]+) +([0-9.]+)", printed)
    assert known < 0.75 * unseen
    assert re.search(r"test overlap +[0-9.]+ \([0-9.]+ to [0-9.]+, [23] seeds\)", printed)


def test_scenes_teach_more_of_people_who_stand_in_rooms() -> None:
    """The text of the notebook says so."""
    printed = printed_by(nbformat.read(ROOT / "notebooks" / "scenes.ipynb", as_version=4))
    (guessing,) = re.findall(r"guessing has an average precision of ([0-9.]+)", printed)
    # The mean of the seeds, the least and the most.
    reference, floors = (
        numbers(rf"{name} +([0-9.]+) \(([0-9.]+) to ([0-9.]+)\)", printed) for name in ("reference", "floors")
    )
    assert float(guessing) < reference[0]
    assert reference[2] < floors[1]


def run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nbformat.NotebookNode:
    """Run a notebook, shortened where it can be; it is returned with its new outputs."""
    # The user's own kernels, start-up files and settings must not matter.
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("FGBGPACK_QUICK", "1")
    # Threads that wait for each other on busy processors take many times as long.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
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
        assert "32 samples of 96x72; depth in m" in printed
        assert "background_image torch.uint8    (6, 3, 72, 96)" in printed
        for part, old in (("known", r"[1-3]"), ("test", "0")):
            assert re.search(rf"{part} .* of which the training has {old} and {old}\n", printed)
        for seed in "01":
            losses = re.findall(rf"seed {seed}, epoch \d: loss ([0-9.]+) \+ ([0-9.]+)", printed)
            before, after = (sum(map(float, both)) for both in losses[:2])
            assert after < before
        assert "{'seed': 0, 'epoch': 1, 'batches': 2} of 3" in printed
        assert "tensors of the two networks are equal" in printed
        assert len(shown_by(notebook, "image/jpeg")) == 2
        assert len(shown_by(notebook, "image/svg+xml")) == 1

    def test_scenes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        photos = tmp_path / "photos"
        for index in range(2):
            picture = np.full((90, 120, 3), 40 * index, np.uint8)
            mask = np.zeros((90, 120), np.uint8)
            mask[:45] = 255
            for kind, array, name in (("image", picture, "a{}.jpg"), ("mask", mask, "a{}.png")):
                (photos / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(photos / kind / name.format(index))
        monkeypatch.setenv("FGBGPACK_PHOTOS", str(photos))
        notebook = run(ROOT / "notebooks" / "scenes.ipynb", tmp_path, monkeypatch)
        printed = printed_by(notebook)
        preset = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in PRESETS["scenes"].items())
        assert f"--preset scenes is {preset}\n" in printed
        assert re.search(r"\d+ of [0-9,]+ people are hidden in part", printed)
        assert re.search(r"object 2: foreground \d, box .*% seen, [0-9.]+ m away", printed)
        # Of people who stand in rooms, and of the photographs, half of which is covered by their masks.
        assert len(re.findall(r"floors +0\.\d\d \(", printed)) == 2
        assert "guessing has an average precision of 0.50" in printed
        assert len(shown_by(notebook, "image/jpeg")) == 8
