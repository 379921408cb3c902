"""Every code block of README and docs/ runs: in order, page by page, each page in a folder of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import cutout_photos
import numpy as np
import onnx_models
import pytest
from builders import write_depth_model
from documents import DOCUMENTS, PAGES, ROOT, Reader, blocks
from PIL import Image

from fgbgpack import DatasetSpec, create, open_dataset
from fgbgpack.rendering import write_samples

#: Pages that begin with an empty folder. All others begin with what the quickstart leaves.
FROM_NOTHING = ("README.md", "docs/quickstart.md")
LANGUAGES = {"sh", "python", "toml", "json", "csv", "text"}


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages take for granted: pictures, ``lobby.zarr``, a network, an older dataset in folders."""
    folder = tmp_path_factory.mktemp("quickstart")
    write_samples(folder / "pictures", backgrounds=2, foregrounds=2)
    for name, kind in (("bg", "backgrounds"), ("fg", "foregrounds")):
        shutil.copytree(folder / "pictures" / kind, folder / name)
    spec = DatasetSpec(backgrounds=str(folder / "bg"), foregrounds=str(folder / "fg"))
    create(folder / "lobby.zarr", spec)
    (folder / "models").mkdir()
    write_depth_model(folder / "models", name="network")
    onnx_models.guided(folder / "models" / "guide.onnx")
    cutout_photos.redness(folder / "models" / "cutter.onnx")
    for i, name in enumerate(("ann", "bob")):
        share = cutout_photos.figure(200 + 40 * i, 120)
        cutout_photos.write_photo(folder / "photos" / f"{name}.png", share, seed=i)
    write_old_dataset(folder / "fgbg-2020", folder / "lobby.zarr")
    return folder


def write_old_dataset(folder: Path, dataset: Path) -> None:
    """Composites, masks and depth in folders, as JPEG and PNG files."""
    ds = open_dataset(dataset)
    for i in range(0, len(ds), len(ds) // 8):
        sample = ds[i]
        depth = sample.depth.astype(np.float32)
        gray = np.uint8(255 * (depth - depth.min()) / np.ptp(depth))
        for kind, suffix, picture in (
            ("fg_bg", "jpg", sample.image),
            ("fg_bg_mask", "png", sample.mask),
            ("fg_bg_depth", "png", gray),
        ):
            path = folder / kind / f"bg{sample.background}" / f"{i}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)


@pytest.fixture
def desk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str) -> Path:
    """The working folder of who follows a page."""
    folder = tmp_path / "desk"
    if page in FROM_NOTHING:
        folder.mkdir()
    else:
        shutil.copytree(request.getfixturevalue("quickstart"), folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FGBGPACK_MODELS", str(tmp_path / "models"))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_page_can_be_followed(page: str, desk: Path) -> None:
    reader = Reader()
    for block in blocks(page):
        try:
            reader.follow(block)
        except Exception as exc:
            exc.add_note(f"in the block at {page}:{block.line}")
            raise


def test_blocks_say_what_they_are() -> None:
    for block in blocks(*DOCUMENTS):
        where = f"{block.page}:{block.line}"
        assert block.language in LANGUAGES, where
        assert set(block.options) <= {"title", "no_run", "exit"}, where
        assert len(block.options.get("no_run", "a reason")) >= len("a reason"), where


def test_few_blocks_do_not_run() -> None:
    # The page on GPUs is about what to install for them: gigabytes, and a GPU to see whether it works.
    pages = set(PAGES) - {"docs/gpu.md"}
    found = [block for block in blocks(*pages) if block.language in ("sh", "python")]
    skipped = [block for block in found if "no_run" in block.options]
    assert len(found) > 30
    assert len(skipped) <= len(found) / 5


def test_every_fence_is_seen() -> None:
    for page in PAGES:
        fences = sum(line.lstrip().startswith("```") for line in (ROOT / page).read_text().splitlines())
        assert fences == 2 * len(blocks(page)), page
