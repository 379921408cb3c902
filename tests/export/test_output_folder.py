"""The folder of an export: it appears complete, or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from builders import tree
from exports import export_document, names_in

from fgbgpack.errors import DatasetError, RecipeMismatchError
from fgbgpack.export import export
from fgbgpack.pipeline import Notice


@contextmanager
def raises(code: str, kind: type[DatasetError] = DatasetError):
    """The block raises an error with this code."""
    with pytest.raises(kind) as caught:
        yield
    assert caught.value.code == code


class TestOutputFolder:
    def test_an_export_is_replaced_when_asked(self, split_dataset, tmp_path):
        export(split_dataset, tmp_path / "out", to="npz", samples=[0])
        before = tree(tmp_path / "out")
        with raises("output-exists", RecipeMismatchError):
            export(split_dataset, tmp_path / "out", to="folder", samples=[1])
        assert tree(tmp_path / "out") == before
        export(split_dataset, tmp_path / "out", to="folder", samples=[1], overwrite=True)
        assert export_document(tmp_path / "out")["format"] == "folder"
        assert not (tmp_path / "out" / "part-00000.npz").exists()
        assert names_in(tmp_path) == ["out"]

    def test_nothing_is_lost_when_replacing_fails(self, split_dataset, tmp_path):
        export(split_dataset, tmp_path / "out", to="npz", samples=[0])
        before = tree(tmp_path / "out")

        def stop(event):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            export(split_dataset, tmp_path / "out", to="folder", overwrite=True, on_event=stop)
        assert tree(tmp_path) == {f"out/{name}": data for name, data in before.items()}

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_what_is_no_export_stays(self, split_dataset, tmp_path, overwrite):
        folder, file = tmp_path / "folder", tmp_path / "file"
        folder.mkdir()
        (folder / "thesis.txt").write_text("mine")
        (folder / "fgbgpack.json").write_text('{"mine": 1}')
        file.write_text("mine")
        with raises("output-not-export"):
            export(split_dataset, folder, to="npz", overwrite=overwrite)
        with raises("output-is-file"):
            export(split_dataset, file, to="npz", overwrite=overwrite)
        with raises("output-not-export"):
            export(split_dataset, split_dataset.path, to="npz", overwrite=overwrite)
        assert tree(tmp_path) == {
            "folder/thesis.txt": b"mine",
            "folder/fgbgpack.json": b'{"mine": 1}',
            "file": b"mine",
        }

    def test_a_dataset_is_not_replaced_with_the_export_it_lies_in(self, split_dataset, tmp_path):
        export(split_dataset, tmp_path / "out", to="npz", samples=[0])
        shutil.copytree(split_dataset.path, tmp_path / "out" / "inner.zarr")
        before = tree(tmp_path / "out")
        with raises("output-contains-dataset"):
            export(tmp_path / "out" / "inner.zarr", tmp_path / "out", to="npz", overwrite=True)
        assert tree(tmp_path / "out") == before

    def test_a_place_in_the_dataset_or_around_it_is_refused(self, split_dataset, tmp_path, monkeypatch):
        before = tree(Path(split_dataset.path))
        with raises("output-inside-dataset"):
            export(split_dataset, Path(split_dataset.path) / "export", to="npz")
        assert tree(Path(split_dataset.path)) == before
        (tmp_path / "in").mkdir()
        monkeypatch.chdir(tmp_path / "in")
        for out in (".", ".."):
            with raises("output-contains-current-folder"):
                export(split_dataset, out, to="npz", overwrite=True)
        assert [path.name for path in tmp_path.rglob("*")] == ["in"]

    def test_an_empty_folder_is_taken(self, split_dataset, tmp_path):
        (tmp_path / "out").mkdir()
        export(split_dataset, tmp_path / "out", to="npz", samples=[0])
        assert sorted(tree(tmp_path)) == ["out/fgbgpack.json", "out/part-00000.npz"]

    def test_a_link_to_a_folder_stays_one(self, split_dataset, tmp_path):
        (tmp_path / "disk").mkdir()
        (tmp_path / "out").symlink_to(tmp_path / "disk")
        export(split_dataset, tmp_path / "out", to="npz", samples=[0])
        assert (tmp_path / "out").is_symlink()
        assert sorted(tree(tmp_path / "disk")) == ["fgbgpack.json", "part-00000.npz"]

    @pytest.mark.slow
    def test_what_a_killed_run_left_is_swept(self, split_dataset, tmp_path):
        code = (
            "import sys, signal, os\n"
            "from fgbgpack.export import export\n"
            "def kill(event):\n"
            "    if event.done: os.kill(os.getpid(), signal.SIGKILL)\n"
            "export(sys.argv[1], sys.argv[2], to='folder', on_event=kill)\n"
        )
        done = subprocess.run([sys.executable, "-c", code, split_dataset.path, tmp_path / "out"], check=False)
        assert done.returncode == -signal.SIGKILL
        (left,) = names_in(tmp_path)
        assert left.startswith(".out.")
        assert not (tmp_path / "out").exists()
        events = []
        export(split_dataset, tmp_path / "out", to="folder", on_event=events.append)
        assert [event for event in events if isinstance(event, Notice) and left in event.message]
        assert names_in(tmp_path) == ["out"]
        export(split_dataset, tmp_path / "again", to="folder")
        assert tree(tmp_path / "out") == tree(tmp_path / "again")

    def test_what_was_there_comes_back_if_a_run_was_killed_while_it_replaced_it(
        self, split_dataset, tmp_path
    ):
        export(split_dataset, tmp_path / "out", to="npz", samples=[0])
        before = tree(tmp_path / "out")
        (tmp_path / "out").rename(tmp_path / ".out.fgbgpack-replaced")
        with raises("output-exists", RecipeMismatchError):
            export(split_dataset, tmp_path / "out", to="folder")
        assert tree(tmp_path) == {f"out/{name}": data for name, data in before.items()}

    @pytest.mark.slow
    def test_two_processes_do_not_write_the_same_place(self, split_dataset, tmp_path):
        code = (
            "import sys, time\n"
            "from fgbgpack.export import export\n"
            "def wait(event):\n"
            "    print('begun', flush=True)\n"
            "    sys.stdin.read()\n"
            "export(sys.argv[1], sys.argv[2], to='npz', on_event=wait)\n"
        )
        command = [sys.executable, "-c", code, split_dataset.path, tmp_path / "out"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout.readline() == b"begun\n"
            with raises("dataset-locked"):
                export(split_dataset, tmp_path / "out", to="npz")
            other.communicate()
        assert other.returncode == 0
        assert names_in(tmp_path) == ["out"]

    def test_a_full_disk(self, split_dataset, tmp_path):
        def fill(event):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with raises("disk-full"):
            export(split_dataset, tmp_path / "out", to="npz", on_event=fill)
        assert names_in(tmp_path) == []

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_place_that_cannot_be_written(self, split_dataset, tmp_path):
        tmp_path.chmod(0o500)
        with raises("io-failed"):
            export(split_dataset, tmp_path / "out", to="npz")
