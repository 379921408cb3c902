from __future__ import annotations

import pytest
from picture_files import Folders


@pytest.fixture
def folders(tmp_path) -> Folders:
    return Folders(tmp_path)


@pytest.fixture
def good(folders) -> Folders:
    """Folders with one good background and one good foreground."""
    return folders.good()
