"""The site is built strictly: a broken link, a page that is in no menu or a name that is gone is an error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from documents import ROOT


@pytest.mark.slow
def test_the_site_is_built_without_warnings(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the site is built with the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    pages = {path.name: path.read_text() for path in (tmp_path / "site").glob("*.html")}
    assert "fgbgpack create" in pages["cli.html"]
    assert 'id="fgbgpack.open_dataset"' in pages["api.html"]
    assert "dataset-locked" in pages["errors.html"]
    assert ":func:" not in pages["api.html"]
    unrendered = [name for name, page in pages.items() if "no_run=" in page and name != "contributing.html"]
    assert unrendered == []
