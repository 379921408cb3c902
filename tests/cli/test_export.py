"""``fgbgpack export``: what it writes, how that is opened, and what stops it."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from builders import tree
from command_line import failure, rejected, run
from exports import names_in


@pytest.mark.slow
def test_the_lines_of_python_open_what_was_written(split_dataset, tmp_path):
    samples = ("--samples", "0:3, 7,30:", "--fields", "image, mask")
    result = run("export", split_dataset.path, tmp_path / "out", "--to", "npz", *samples)
    assert result.exit_code == 0
    lines = [line.strip() for line in result.stdout.partition("In Python:\n")[2].splitlines()]
    namespace: dict = {}
    exec("\n".join(lines), namespace)
    arrays = namespace["arrays"]
    np.testing.assert_array_equal(arrays["sample"], [0, 1, 2, 7, *range(30, 36)])
    assert {"image", "mask"} <= set(arrays.files)
    assert "depth" not in arrays.files
    arrays.close()


@pytest.mark.slow
def test_a_part_of_a_split_in_shards(split_dataset, tmp_path):
    part = ("--split", "by-background", "--part", "val", "--shard-size", 1, "--shard-samples", 5)
    out = tmp_path / "out"
    result = run(
        "export", split_dataset.path, out, "--to", "webdataset", *part, "--workers", 1, "--json", "-q"
    )
    report = json.loads(result.stdout)
    assert (result.exit_code, report["samples"], report["parts"], report["files"]) == (0, 12, {"val": 12}, 6)


def test_options_that_cannot_be_parsed(split_dataset, tmp_path):
    wrong = ("--samples", "0:x,-5,1:2:3,", "--shard-samples", "many")
    reported = rejected("export", split_dataset.path, tmp_path / "out", "--to", "npz", *wrong)
    assert reported == ["--samples"] * 4 + ["--shard-samples"]
    assert names_in(tmp_path) == []


@pytest.mark.slow
def test_exit_statuses(dataset, tmp_path):
    out = ("export", dataset, tmp_path / "out", "--to", "npz")
    assert failure("export", tmp_path / "none.zarr", *out[2:])[0] == 4
    assert failure(*out, "--fields", "depth")[0] == 2
    result = run(*out, "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    assert run(*out, "--quiet").output == ""
    assert failure(*out, "--samples", 1)[0] == 4
    assert run(*out, "--overwrite").exit_code == 0


@pytest.mark.slow
def test_nothing_is_left_of_an_export_that_is_interrupted(split_dataset, tmp_path):
    code = (
        "import os, signal\n"
        "from fgbgpack.cli import main\n"
        "from fgbgpack.pipeline import display\n"
        "show = display.ProgressDisplay.__call__\n"
        "def interrupt(self, event):\n"
        "    show(self, event)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "display.ProgressDisplay.__call__ = interrupt\n"
        "main()\n"
    )
    command = [
        sys.executable,
        "-c",
        code,
        "export",
        split_dataset.path,
        tmp_path / "out",
        "--to",
        "folder",
        "--json",
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert json.loads(done.stdout)["error"]["code"] == "interrupted"
    assert done.stderr.endswith("interrupted: Nothing was written.\n")
    assert names_in(tmp_path) == []


@pytest.mark.slow
def test_what_was_read_of_a_remote_dataset_is_kept(depth_dataset, tmp_path):
    memory = pytest.importorskip("fsspec").filesystem("memory")
    memory.put(f"{depth_dataset}/", "/kept/it.zarr/", recursive=True)
    try:
        command = ("export", "memory://kept/it.zarr")
        options = ("--to", "npz", "--cache", tmp_path / "cache", "--quiet")
        assert run(*command, tmp_path / "one", *options).exit_code == 0
        for name in ("image", "mask", "depth"):
            memory.rm(f"/kept/it.zarr/{name}/c", recursive=True)
        assert run(*command, tmp_path / "two", *options).exit_code == 0
        assert tree(tmp_path / "one") == tree(tmp_path / "two")
        assert failure(*command, tmp_path / "three", "--to", "npz")[0] == 4
    finally:
        memory.rm("/kept", recursive=True)
