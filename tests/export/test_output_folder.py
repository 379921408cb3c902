"""The folder of an export: it appears complete, or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from builders import tree
from durability import recorded
from exports import export_document, names_in

from fgbgpack import create, system
from fgbgpack.errors import DatasetError, RecipeMismatchError
from fgbgpack.export import TARGETS, export
from fgbgpack.pipeline import Notice

#: The rows of a sample in Parquet.
ROWS = "data/train-00000-of-00001.parquet"
NPZ = ["fgbgpack-files.csv", "fgbgpack.json", "part-00000.npz"]


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
        assert sorted(tree(tmp_path)) == [f"out/{name}" for name in NPZ]

    def test_a_link_to_a_folder_stays_one(self, split_dataset, tmp_path):
        (tmp_path / "disk").mkdir()
        (tmp_path / "out").symlink_to(tmp_path / "disk")
        export(split_dataset, tmp_path / "out", to="npz", samples=[0])
        assert (tmp_path / "out").is_symlink()
        assert sorted(tree(tmp_path / "disk")) == NPZ

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
        (tmp_path / "out").rename(tmp_path / ".out.fgbgpack-export.aside")
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


class TestTheSameExportAgain:
    @pytest.mark.parametrize("to", TARGETS)
    def test_it_is_complete_already(self, split_dataset, tmp_path, to):
        options = {"to": to, "split": "by-background"}
        first = export(split_dataset, tmp_path / "out", **options)
        before = tree(tmp_path)
        events: list = []
        again = export(split_dataset, tmp_path / "out", **options, on_event=events.append)
        assert events == [Notice(f"{tmp_path / 'out'} is complete already.")]
        assert (first.written, again.written) == (36, 0)
        assert replace(again, seconds=0, written=36) == replace(first, seconds=0)
        assert tree(tmp_path) == before

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"to": "folder"}, "--to: the export has npz, asked for folder"),
            ({"fields": "image"}, "--fields: the export has image, mask, depth, asked for image"),
            ({"samples": [0, 2]}, "--samples, --split: the export has others"),
            ({"samples": [0, 1, 2]}, "--samples: the export has 2, asked for 3"),
            ({"samples": None, "split": {"a": [0, 1]}}, "--split: the export has none, asked for a 2"),
            ({"shard_samples": 5}, "--shard-samples: the export has the default, asked for 5"),
        ],
    )
    def test_another_one_is_refused_with_what_differs(self, split_dataset, tmp_path, options, expected):
        given = {"to": "npz", "samples": [0, 1]}
        export(split_dataset, tmp_path / "out", **given)
        with pytest.raises(RecipeMismatchError) as caught:
            export(split_dataset, tmp_path / "out", **(given | options))
        assert caught.value.code == "output-exists"
        assert expected in caught.value.problems

    def test_that_of_another_dataset_is_refused(self, split_dataset, pictures, tmp_path):
        create(tmp_path / "other.zarr", pictures.spec(seed=1))
        export(tmp_path / "other.zarr", tmp_path / "out", to="npz", samples=[0])
        with pytest.raises(RecipeMismatchError) as caught:
            export(split_dataset, tmp_path / "out", to="npz", samples=[0], fields=["image", "mask"])
        (problem,) = caught.value.problems
        assert problem.startswith("the dataset: ")

    def test_one_that_lost_a_file_is_not_called_complete(self, split_dataset, tmp_path):
        given = {"to": "folder", "samples": [0, 1]}
        export(split_dataset, tmp_path / "out", **given)
        whole = tree(tmp_path / "out")
        (picture, *_) = sorted((tmp_path / "out").rglob("*.png"))
        for damage in (Path.unlink, lambda path: path.write_bytes(b"")):
            damage(picture)
            with raises("export-damaged"):
                export(split_dataset, tmp_path / "out", **given)
            export(split_dataset, tmp_path / "out", **given, overwrite=True)
            assert tree(tmp_path / "out") == whole

    @pytest.mark.parametrize("damage", ["", "file,bytes\n../thesis.txt,4\n", "x", "file,bytes\na\n", None])
    @pytest.mark.parametrize("overwrite", [False, True])
    def test_without_its_list_nothing_is_touched(self, split_dataset, tmp_path, damage, overwrite):
        export(split_dataset, tmp_path / "out", to="npz", samples=[0])
        files = tmp_path / "out" / "fgbgpack-files.csv"
        files.unlink() if damage is None else files.write_text(damage)
        (tmp_path / "thesis.txt").write_text("mine")
        before = tree(tmp_path)
        with raises("output-not-export"):
            export(split_dataset, tmp_path / "out", to="folder", samples=[1], overwrite=overwrite)
        assert tree(tmp_path) == before


class TestFilesOfOthers:
    MINE = ("notes.txt", "results/deep/model.bin", "image/mine.png", "depth/x/mine.png", "empty.json")

    def put(self, out: Path) -> dict[str, bytes]:
        for name in self.MINE:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_text(f"my {name}")
        (out / "nothing in it").mkdir()
        (out / "link").symlink_to("notes.txt")
        return {name: f"my {name}".encode() for name in self.MINE}

    @pytest.mark.parametrize("in_one_step", [True, False])
    @pytest.mark.parametrize(
        ("before", "after"), [("folder", "npz"), ("npz", "folder"), ("folder", "folder")]
    )
    def test_they_stay(self, split_dataset, tmp_path, monkeypatch, before, after, in_one_step):
        if not in_one_step:
            monkeypatch.setattr(system, "exchange", lambda new, old: False)
        out = tmp_path / "out"
        export(split_dataset, out, to=before, samples=[0, 1])
        mine = self.put(out)
        export(split_dataset, out, to=after, samples=[30], overwrite=True)
        export(split_dataset, tmp_path / "fresh", to=after, samples=[30])
        assert (out / "link").is_symlink()
        assert (out / "nothing in it").is_dir()
        (out / "link").unlink()
        assert tree(out) == tree(tmp_path / "fresh") | mine
        assert names_in(tmp_path) == ["fresh", "out"]
        # They are nobody's business when the same export is asked for again.
        assert export(split_dataset, out, to=after, samples=[30]).written == 0

    @pytest.mark.parametrize(
        ("mine", "named"),
        [
            ("metadata.csv", "metadata.csv"),
            ("image", "image"),
            ("metadata.csv/x", "metadata.csv"),
        ],
    )
    def test_those_in_the_way_stop_the_export_before_anything_is_touched(
        self, split_dataset, tmp_path, mine, named
    ):
        out = tmp_path / "out"
        export(split_dataset, out, to="npz", samples=[0])
        (out / mine).parent.mkdir(parents=True, exist_ok=True)
        (out / mine).write_text("mine")
        before = tree(tmp_path)
        with pytest.raises(DatasetError) as caught:
            export(split_dataset, out, to="folder", overwrite=True)
        assert (caught.value.code, caught.value.problems) == ("output-in-the-way", (named,))
        assert tree(tmp_path) == before

    @pytest.mark.parametrize("in_one_step", [True, False])
    def test_a_kill_at_any_step_of_the_exchange_loses_nothing(
        self, split_dataset, tmp_path, monkeypatch, in_one_step
    ):
        if not in_one_step:
            monkeypatch.setattr(system, "exchange", lambda new, old: False)
        export(split_dataset, tmp_path / "fresh", to="npz", samples=[30])
        fresh = tree(tmp_path / "fresh")
        for kill_at in range(40):
            place = tmp_path / str(kill_at)
            export(split_dataset, place / "out", to="folder", samples=[0])
            old = tree(place / "out")
            mine = {"notes.txt": b"mine", "image/mine.png": b"mine"}
            for name, content in mine.items():
                (place / "out" / name).write_bytes(content)
            # A process that is killed neither cleans up nor goes on.
            if not killed_export(split_dataset.path, place / "out", kill_at):
                break
            found = tree(place)
            assert [*found.values()].count(b"mine") == 2, kill_at
            there = {name.removeprefix("out/") for name in found if name.startswith("out/")}
            # Of three renames two leave none at its place for a moment.
            assert not in_one_step or there >= old.keys() or there >= fresh.keys(), kill_at
            report = export(split_dataset, place / "out", to="npz", samples=[30], overwrite=True)
            assert report.written == 1
            assert tree(place) == {f"out/{name}": data for name, data in (fresh | mine).items()}, kill_at
        assert kill_at > 8


def killed_export(dataset: str, out: Path, kill_at: int) -> bool:
    """Replaces an export in a process that is killed before one of its renames and deletions."""
    pid = os.fork()
    if pid == 0:
        left = [None] * kill_at
        wrapped = ((os, "rename"), (os, "replace"), (os, "unlink"), (os, "rmdir"), (system, "exchange"))

        def wrap(real):
            def wrapper(*arguments, **options):
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)
                left.pop()
                return real(*arguments, **options)

            return wrapper

        for owner, name in wrapped:
            setattr(owner, name, wrap(getattr(owner, name)))
        try:
            export(dataset, out, to="npz", samples=[30], overwrite=True)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize("replaces", [False, True])
@pytest.mark.parametrize("to", TARGETS)
def test_an_export_is_on_disk_before_its_document_and_that_before_it_has_its_name(
    split_dataset, tmp_path, monkeypatch, to, replaces
):
    if replaces:
        export(split_dataset, tmp_path / "out", to="npz", samples=[1])
    calls = recorded(monkeypatch, tmp_path)
    export(split_dataset, tmp_path / "out", to=to, samples=[0], overwrite=replaces)
    partial = ".out.fgbgpack-export"
    # Kernels that are compiled meanwhile are kept elsewhere.
    calls = [call for call in calls if call[1] != "outside"]
    *earlier, document, named = (call for call in calls if call[0] == "rename")
    renames = [document, named]
    assert renames == [("rename", f"{partial}/fgbgpack.json"), ("rename", "out")]
    # How many files of rows there are, which their names say, is known at the end.
    assert earlier == ([("rename", f"{partial}/{ROWS}")] if to == "parquet" else [])
    synced, document, named = (calls.index(call) for call in (("syncfs", partial), *renames))
    assert all(calls.index(call) < synced for call in earlier)
    assert synced < document < named
    assert calls[document - 1] == ("sync", f"{partial}/fgbgpack.json.{'0' * 32}.partial")
    assert calls[document + 1] == ("sync", partial)
    assert calls[named + 1] == ("sync", ".")


def test_where_the_file_system_has_no_locks_two_exports_still_keep_apart(
    split_dataset, tmp_path, monkeypatch
):
    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    def other(event):
        with raises("dataset-locked"):
            export(split_dataset, tmp_path / "out", to="npz", samples=[1])

    monkeypatch.setattr(fcntl, "flock", flock)
    for sample in (0, 1):
        export(split_dataset, tmp_path / "out", to="npz", samples=[sample], overwrite=True, on_event=other)
    assert sorted(tree(tmp_path)) == [f"out/{name}" for name in NPZ]
