"""Shell completion, asked as shells ask: the real process, with what their scripts set."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from command_line import PROGRAM
from onnx_models import gray

from fgbgpack.cli import export, importing, split
from fgbgpack.cli.parse import DEPTH_MODES, DEVICES, PRECISIONS
from fgbgpack.dataset.splits import By
from fgbgpack.depth import Device
from fgbgpack.export import TARGETS
from fgbgpack.spec import DepthMode


def ask(line: str, shell: str = "bash", **environment: str) -> list[str]:
    """The answers for a line of which the last word, empty after a blank, is not complete."""
    words = line.split(" ")
    variables = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    done = subprocess.run(
        PROGRAM,
        env={**os.environ, **variables, "_FGBGPACK_COMPLETE": f"complete_{shell}", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("fgbgpack mat", ["materialize"]),
        ("fgbgpack models c", ["check", "compare", "card"]),
        ("fgbgpack create x --depth-m", ["--depth-model", "--depth-mode"]),
        ("fgbgpack create x --depth-mode g", ["guided"]),
        ("fgbgpack create x --depth-model n", ["none"]),
        ("fgbgpack create x --depth-guide fgbgpack-g", ["fgbgpack-guided"]),
        ("fgbgpack depth x --device ", ["auto", "cpu", "cuda", "tensorrt"]),
        ("fgbgpack depth x --precision fp1", ["fp16"]),
        ("fgbgpack create x --fit c", ["crop"]),
        ("fgbgpack export x y --to web", ["webdataset"]),
        ("fgbgpack schema d", ["dataset", "depth-model"]),
        ("fgbgpack split x fair a=1 --by b", ["background", "both"]),
        ("fgbgpack models get midas-v2.1-", ["midas-v2.1-small"]),
        ("fgbgpack models check dpt-h", ["dpt-hybrid"]),
        ("fgbgpack models get u2", ["u2net", "u2net-human-seg"]),
        ("fgbgpack cutout a b --model mo", ["modnet"]),
        ("fgbgpack create x --depth-model mo", []),
        ("fgbgpack models compare --on x s", ["stored"]),
        ("fgbgpack models card x.onnx --like zoe", ["zoedepth-nyu"]),
        ("fgbgpack models import densedepth x.h5 --weights k", ["kitti"]),
        # Nothing is known, so that the shell completes files.
        ("fgbgpack info ", []),
        ("fgbgpack create x --depth-model ./", []),
    ],
)
def test_words_are_completed(line: str, expected: list[str]) -> None:
    assert ask(line) == expected


@pytest.mark.slow
def test_zsh_and_fish_get_answers(tmp_path: Path) -> None:
    assert ask("fgbgpack export x y --to m", "zsh") == ["_arguments", "'*:", ':(("mds"))\'']
    assert ask("fgbgpack info ", "zsh") == ["_files"]
    assert ask("fgbgpack models show fgbgpack-", "fish") == ["fgbgpack-guided", "fgbgpack-scene"]


@pytest.mark.slow
def test_models_of_the_users_folder_are_completed(tmp_path: Path) -> None:
    gray(tmp_path / "mine.onnx")
    assert ask("fgbgpack create x --depth-model mi", FGBGPACK_MODELS=str(tmp_path)) == [
        "midas-v2.1",
        "midas-v2.1-small",
        "mine",
    ]


@pytest.mark.slow
def test_splits_and_their_parts_are_completed(workspace: Path) -> None:
    assert ask("fgbgpack export deep.zarr out --split ") == ["fair"]
    assert ask("fgbgpack export deep.zarr out --split fair --part t") == ["train", "test"]
    assert ask("fgbgpack split deep.zarr f") == ["fair"]
    assert ask("fgbgpack export deep.zarr out --split nowhere --part ") == []
    for name in ("tiny.zarr", "nowhere.zarr", "bg"):
        assert ask(f"fgbgpack export {name} out --split ") == []
    (workspace / "deep.zarr/zarr.json").write_text("{}")
    assert ask("fgbgpack export deep.zarr out --split ") == []


@pytest.mark.slow
def test_completing_names_imports_nothing_slow() -> None:
    code = (
        "import atexit, sys\n"
        "heavy = ('numpy', 'zarr', 'numba', 'onnx', 'onnxruntime', 'jsonschema')\n"
        "atexit.register(lambda: print('heavy:', *(name for name in heavy if name in sys.modules)))\n"
        "from fgbgpack.cli import main; main()"
    )
    line = "fgbgpack models get midas-v2.1-"
    variables = {"_FGBGPACK_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["midas-v2.1-small", "heavy:"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_shows_installs_and_uses_the_script(tmp_path: Path) -> None:
    command = tmp_path / "fgbgpack"
    command.write_text(f'#!/bin/sh\nexec {shlex.join(PROGRAM)} "$@"\n')
    command.chmod(0o755)
    script = (
        "fgbgpack --install-completion > installed.txt\n"
        "source <(fgbgpack --show-completion)\n"
        "COMP_WORDS=(fgbgpack export x y --to web)\n"
        "COMP_CWORD=5\n"
        "_fgbgpack_completion fgbgpack\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("webdataset\n", "")
    assert "_fgbgpack_completion" in (tmp_path / ".bash_completions/fgbgpack.sh").read_text()


def test_lists_for_completion_are_those_of_the_library() -> None:
    assert tuple(TARGETS) == export.FORMATS
    assert get_args(get_args(By)[0]) == split.BY
    assert get_args(Device) == DEVICES
    assert get_args(DepthMode) == DEPTH_MODES
    assert PRECISIONS == ("fp32", "fp16")
    assert importing.QUANTITIES == ("depth", "inverse_depth")
