"""The program as a whole: its help, its version, its errors, pipes and signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import TINY, all_commands, failure, run, start

from fgbgpack import __version__
from fgbgpack.dataset.dataset import open_dataset
from fgbgpack.version import commit

PICTURES = ("--backgrounds", "bg", "--foregrounds", "fg")


class TestHelp:
    @pytest.mark.parametrize(
        ("names", "command"), list(all_commands()), ids=[" ".join(n) for n, _ in all_commands()]
    )
    def test_every_command_and_option_has_help_and_examples(self, names, command) -> None:
        assert command.help
        assert [parameter.name for parameter in command.params if not parameter.help] == []
        assert re.search(rf"  (\w+=\S+ )?{' '.join(('fgbgpack', *names))} ", command.epilog + " ")

    @pytest.mark.slow
    @pytest.mark.parametrize("words", [["--help"], ["create", "--help"], ["models", "card", "--help"]])
    def test_it_imports_none_of_the_library(self, words: list[str]) -> None:
        code = (
            "import sys\nfrom fgbgpack.cli import app\n"
            f"try: app({words})\nexcept SystemExit: pass\n"
            "heavy = {'numpy', 'zarr', 'numba', 'onnx', 'onnxruntime', 'PIL', 'jsonschema'}\n"
            "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_before_a_command_has_begun_leaves_no_traceback() -> None:
    code = (
        "import sys\n"
        "class Stopped:\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name == 'typer': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Stopped)\n"
        "from fgbgpack.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_help_that_cannot_be_written_is_an_error_of_the_disk() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "fgbgpack", "--help"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (4, "error: The disk is full.\n")


def test_the_version_names_the_commit_where_it_is_known() -> None:
    with start("--version") as process:
        stdout, stderr = process.communicate()
    known = f" (commit {commit()[:12]}" if commit() else ""
    assert stdout.startswith(f"fgbgpack {__version__}{known}")
    assert re.fullmatch(r"fgbgpack \S+( \(commit [0-9a-f]{12}(, modified)?\))?\n", stdout)
    assert (process.returncode, stderr) == (0, "")


class TestErrors:
    @pytest.mark.parametrize(
        "words",
        [
            ("export", "tiny.zarr", "s3://bucket/out", "--to", "npz"),
            ("preview", "tiny.zarr", "-o", "s3://bucket/preview.png"),
            ("card", "tiny.zarr", "-o", "https://example.org/cards"),
            ("models", "check", "fgbgpack-scene", "-o", "gs://bucket/check.png"),
            ("sample", "memory://pictures"),
        ],
        ids=lambda words: words[0],
    )
    def test_files_of_this_machine_are_not_written_to_urls(self, workspace: Path, words) -> None:
        before = sorted(path.name for path in workspace.iterdir())
        url = next(word for word in words if "://" in word)
        result = run(*words)
        assert result.exit_code == 2
        assert f"written to this machine only: found the URL {url}" in " ".join(result.stderr.split())
        assert sorted(path.name for path in workspace.iterdir()) == before

    @pytest.mark.parametrize("name", ["d.zarr.zip", "d.ZIP", "d.tar.gz", "memory://d.h5", "memory://a/d.zip"])
    def test_names_that_promise_another_form_are_refused(self, workspace: Path, name: str) -> None:
        for words in (
            ("create", name, *PICTURES),
            ("convert", "plain.h5", name),
            ("virtualize", "tiny.zarr", name),
            ("materialize", "virtual.zarr", name),
        ):
            assert failure(*words) == (4, "target-unsupported"), words
            assert not (workspace / name).exists()

    def test_with_json_they_are_an_object_on_stdout_and_text_on_stderr(self, workspace: Path) -> None:
        result = run("create", "x.zarr", *PICTURES, "--seed", "x", "--workers", "0", "--json")
        error = json.loads(result.stdout)["error"]
        assert error["code"] == "options-invalid"
        assert [problem.split(":")[0] for problem in error["problems"]] == ["--workers", "--seed"]
        text = "".join(f"\n  - {problem}" for problem in error["problems"])
        assert result.stderr == f"error: {error['message']}{text}\n"
        assert result.exit_code == 2

    def test_a_long_path_is_not_wrapped(self, workspace: Path) -> None:
        missing = workspace / ("deep folder/" * 20) / "none"
        result = run("create", "x.zarr", "--backgrounds", missing, *PICTURES[2:], *TINY)
        assert result.exit_code == 3
        assert str(missing) in result.stderr

    def test_control_characters_do_not_reach_the_terminal(self, workspace: Path) -> None:
        result = run("info", "a\x1b[2Jb")
        assert result.exit_code == 4
        assert "\x1b" not in result.stderr
        assert r"a\x1b[2Jb" in result.stderr

    @pytest.mark.slow
    def test_a_bug_is_reported_with_its_traceback(self) -> None:
        code = (
            "import fgbgpack.schema\n"
            "def broken(*arguments): raise RuntimeError('no [idea]')\n"
            "fgbgpack.schema.load_schema = broken\n"
            "import sys; sys.argv[1:] = ['schema', 'spec']\n"
            "from fgbgpack.cli import main; main()"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert "Traceback" in done.stderr
        assert "unexpected error: RuntimeError: no [idea]" in done.stderr

    @pytest.mark.slow
    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
    @pytest.mark.parametrize("words", [("schema", "spec"), ("models", "list", "--json")])
    def test_a_full_disk_under_stdout(self, words: tuple[str, ...]) -> None:
        with Path("/dev/full").open("w") as full, start(*words, stdout=full) as process:
            stderr = process.communicate()[1]
        assert process.returncode == 4
        assert stderr == "error: The disk is full.\n"

    def test_a_file_in_the_way_is_kept(self, workspace: Path) -> None:
        Path("x.zarr").write_text("precious")
        assert failure("create", "x.zarr", *PICTURES, *TINY, "--overwrite")[0] == 4
        assert Path("x.zarr").read_text() == "precious"


class TestPipesAndSignals:
    @pytest.mark.slow
    def test_a_reader_that_leaves_after_a_line(self) -> None:
        with start("schema", "dataset") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == "{\n"
            process.stdout.close()
            assert process.stderr.read() == ""
        assert process.returncode == 0

    @pytest.mark.slow
    @pytest.mark.parametrize("words", [["--help"], ["create", "--help"], ["models", "card", "--help"]])
    def test_nobody_reads_the_help(self, words: list[str]) -> None:
        with start(*words) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == ""
        assert process.returncode == 0

    @pytest.mark.slow
    @pytest.mark.parametrize("closed", ["stdout", "stderr"])
    def test_work_is_finished_though_nobody_reads(self, workspace: Path, closed: str) -> None:
        with start("create", "x.zarr", *PICTURES, *TINY) as process:
            getattr(process, closed).close()
            other = process.stderr if closed == "stdout" else process.stdout
            assert other is not None
            text = other.read()
        assert "Traceback" not in text
        assert "BrokenPipe" not in text
        assert process.returncode == 0
        assert open_dataset("x.zarr").complete

    @pytest.mark.slow
    @pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
    @pytest.mark.parametrize(
        ("sent", "said"), [(signal.SIGINT, "interrupted\n"), (signal.SIGTERM, "terminated\n")]
    )
    def test_a_signal_that_comes_while_an_object_is_finalized(self, sent: signal.Signals, said: str) -> None:
        code = (
            "import os, sys\n"
            "from threading import Event\n"
            "from fgbgpack.cli import app, main\n"
            "class Finalized:\n"
            f"    def __del__(self): os.kill(os.getpid(), {sent.value})\n"
            "@app.command()\n"
            "def wait():\n"
            "    Finalized()\n"
            "    Event().wait(60)\n"
            "    print('nobody heard it')\n"
            "sys.argv = ['fgbgpack', 'wait']\n"
            "main()\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (128 + sent, "", said)

    @pytest.mark.slow
    @pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
    @pytest.mark.skipif(bool(os.environ.get("NUMBA_DISABLE_JIT")), reason="too much work for plain Python")
    def test_stopped_runs_resume_with_the_same_command(self, workspace: Path) -> None:
        # Several shards, and seconds of work for one thread.
        command = ("create", "x.zarr", *PICTURES, *TINY[:-1], "60000", "--json", "--workers", "1")
        for sent, status, code in (
            (signal.SIGINT, 130, "interrupted"),
            (signal.SIGTERM, 143, "terminated"),
        ):
            with start(*command) as process:
                wait_for_another_shard(Path("x.zarr"), process)
                process.send_signal(sent)
                stdout, stderr = process.communicate()
            assert process.returncode == status, stderr
            error = json.loads(stdout)["error"]
            assert error["code"] == code
            assert stderr.endswith(f"{code}: {error['message']}\n")
            assert "run the same command again" in error["message"]
            assert "Traceback" not in stderr
            assert not json.loads(run("info", "x.zarr", "--json").stdout)["complete"]
        result = run(*command[:-2])
        assert result.exit_code == 0, result.stderr
        report = json.loads(result.stdout)
        assert report["complete"] is True
        assert 0 < report["created"] < report["samples"]


def wait_for_another_shard(out: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a process has published one more shard of images than there were."""

    def shards() -> int:
        return len(list((out / "image/c").glob("*/0/0/0")))

    before = shards()
    while shards() == before:
        assert process.poll() is None, "the run ended before it could be stopped"
        time.sleep(0.01)
