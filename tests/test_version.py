"""The commit of the code, as a checkout and a build know it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fgbgpack import __version__, version

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(folder: Path, *words: object) -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
    command = ["git", "-C", folder, *identity, *words]
    return subprocess.run([*map(str, command)], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "commit", "--allow-empty", "--quiet", "-m", "first")
    return folder


@needs_git
class TestCheckouts:
    def test_a_branch_loose_and_packed(self, checkout: Path) -> None:
        head = git(checkout, "rev-parse", "HEAD")
        assert version.checkout_commit(checkout) == head
        git(checkout, "branch", "main2")
        git(checkout, "pack-refs", "--all", "--prune")
        assert not (checkout / ".git/refs/heads/main").exists()
        assert version.checkout_commit(checkout) == head
        git(checkout, "commit", "--allow-empty", "--quiet", "-m", "second")
        assert version.checkout_commit(checkout) == git(checkout, "rev-parse", "HEAD") != head

    def test_a_detached_head(self, checkout: Path) -> None:
        git(checkout, "tag", "-m", "annotated", "v1")
        git(checkout, "checkout", "--quiet", "v1")
        assert version.checkout_commit(checkout) == git(checkout, "rev-parse", "HEAD")

    @pytest.mark.parametrize("packed", [False, True])
    def test_a_worktree(self, checkout: Path, tmp_path: Path, packed: bool) -> None:
        worktree = tmp_path / "worktree"
        git(checkout, "worktree", "add", "--quiet", "-b", "other/branch", worktree)
        git(worktree, "commit", "--allow-empty", "--quiet", "-m", "second")
        if packed:
            git(checkout, "pack-refs", "--all", "--prune")
        head = git(worktree, "rev-parse", "HEAD")
        assert version.checkout_commit(worktree) == head != version.checkout_commit(checkout)


class TestNoCommit:
    def test_no_checkout(self, tmp_path: Path) -> None:
        assert version.checkout_commit(tmp_path) is None
        assert version.recorded_commit(tmp_path) is None

    @needs_git
    def test_no_commit_yet_and_a_folder_within(self, tmp_path: Path) -> None:
        git(tmp_path, "init", "--quiet")
        (tmp_path / "within").mkdir()
        assert version.checkout_commit(tmp_path) is None
        assert version.checkout_commit(tmp_path / "within") is None

    @pytest.mark.parametrize("content", [b"ref: refs/heads/.invalid", b"hello", b"\xff\xfe", b""])
    def test_a_head_that_names_none(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / ".git").mkdir()
        (tmp_path / ".git/HEAD").write_bytes(content)
        assert version.checkout_commit(tmp_path) is None

    def test_a_record_that_is_no_hash(self, tmp_path: Path) -> None:
        (tmp_path / version.COMMIT_FILE).write_text("main\n")
        assert version.recorded_commit(tmp_path) is None


def test_software_names_the_commit_where_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789abcdef" * 2 + "01234567"
    monkeypatch.setattr(version, "commit", lambda: commit)
    with_commit = version.software()
    assert with_commit["fgbgpack"] == __version__
    assert with_commit.pop("fgbgpack-commit") == commit
    monkeypatch.setattr(version, "commit", lambda: None)
    assert version.software() == with_commit
    assert re.fullmatch(r"\d+\.\d+.*", with_commit["zarr"])
    text = version.describe_software({"fgbgpack": "1.0", "fgbgpack-commit": commit, "zarr": "3.1"})
    assert text == "fgbgpack 1.0 (commit 0123456789ab), zarr 3.1"
