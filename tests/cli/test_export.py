"""The command ``fgbgpack export``."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
from exports import names_in
from typer.testing import CliRunner

from fgbgpack.cli import app


def run(*arguments) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["export", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


class TestCommand:
    def test_it_says_what_it_wrote_and_how_to_open_it(self, split_dataset, tmp_path):
        out = tmp_path / "out"
        code, stdout, stderr = run(
            split_dataset.path, out, "--to", "npz", "--samples", "0:3, 7,30:", "--fields", "image, mask"
        )
        assert code == 0
        assert f"Exported 10 samples to {out}" in stdout
        assert "npz: image, mask" in stdout
        assert "Samples: 10 of 10" in stderr
        lines = [line.strip() for line in stdout.partition("In Python:\n")[2].splitlines()]
        namespace: dict = {}
        exec("\n".join(lines), namespace)
        np.testing.assert_array_equal(namespace["arrays"]["sample"], [0, 1, 2, 7, *range(30, 36)])
        namespace["arrays"].close()

    def test_json(self, split_dataset, tmp_path):
        code, stdout, _ = run(
            split_dataset.path, tmp_path / "out", "--to", "webdataset", "--split", "by-background",
            "--part", "val", "--shard-size", 1, "--shard-samples", 5, "--workers", 1, "--json", "--quiet",
        )  # fmt: skip
        said = json.loads(stdout)
        assert (code, said["samples"], said["parts"], said["files"]) == (0, 12, {"val": 12}, 5)

    def test_options_that_cannot_be_read(self, split_dataset, tmp_path):
        code, _, stderr = run(
            split_dataset.path,
            tmp_path / "out",
            "--to",
            "npz",
            "--samples",
            "0:x,-5,1:2:3,",
            "--shard-samples",
            "many",
        )
        assert code == 2
        for problem in ("'0:x'", "'-5'", "'1:2:3'", "''", "--shard-samples: 'many' is not a whole number"):
            assert problem in stderr
        assert names_in(tmp_path) == []

    def test_exit_codes(self, split_dataset, dataset, tmp_path):
        assert run(tmp_path / "none.zarr", tmp_path / "out", "--to", "npz")[0] == 4
        assert run(dataset, tmp_path / "out", "--to", "npz", "--fields", "depth")[0] == 2
        assert run(dataset, tmp_path / "out", "--to", "npz", "-q") == (0, "", "")
        assert run(dataset, tmp_path / "out", "--to", "npz", "-q")[0] == 4
        assert run(dataset, tmp_path / "out", "--to", "npz", "-q", "--overwrite")[0] == 0

    def test_ctrl_c(self, split_dataset, tmp_path):
        code = (
            "import os, signal, sys\n"
            "from fgbgpack.cli import main, progress\n"
            "show = progress.ProgressDisplay.__call__\n"
            "def interrupt(self, event):\n"
            "    show(self, event)\n"
            "    os.kill(os.getpid(), signal.SIGINT)\n"
            "progress.ProgressDisplay.__call__ = interrupt\n"
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
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 130
        assert "interrupted: Nothing was written." in done.stderr
        assert names_in(tmp_path) == []
