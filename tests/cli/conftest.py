"""Small inputs for the command line, and the option that rewrites its golden files."""

from __future__ import annotations

import shutil
from pathlib import Path

import cutout_photos
import damage
import numpy as np
import onnx_models
import pytest
from command_line import run
from PIL import Image

KERAS = Path(__file__).parents[1] / "data" / "keras" / "densedepth-small.h5"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the files in tests/cli/golden")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small inputs, not to be changed: pictures, files to import, networks, datasets."""
    folder = tmp_path_factory.mktemp("prepared")
    rng = np.random.default_rng(5)
    for name, count, shape in (
        ("bg", 3, (30, 40, 3)),
        ("fg", 2, (20, 14, 4)),
        ("files/images", 4, (24, 32, 3)),
        ("files/masks", 4, (24, 32)),
    ):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(1, 256, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    (folder / "bad").mkdir()
    for name in ("[bold]one[red].png", "two ü.png"):
        (folder / "bad" / name).write_bytes(b"no picture")
    onnx_models.gray(folder / "gray.onnx", card=onnx_models.card(name="gray"))
    onnx_models.gray(folder / "bare.onnx", card=None)
    cutout_photos.redness(folder / "cutter.onnx")
    for name, share in (("ann", cutout_photos.figure(120, 90)), ("empty", np.zeros((60, 40)))):
        cutout_photos.write_photo(folder / "photos" / f"{name}.png", share)
    (folder / "nyu.h5").write_bytes(KERAS.read_bytes())
    (folder / "broken.toml").write_text("seed = = 1\n")
    tiny = 'backgrounds = "bg"\nforegrounds = "fg"\nwidth = 32\nheight = 24\nforeground_height = 10\n'
    tiny += "placements = 2\n"
    (folder / "tiny.toml").write_text(f'{tiny}\n[depth]\nmodel = "none"\n')
    (folder / "wrong.toml").write_text(f'{tiny}fit = "squash"\nsed = 1\n\n[depth]\nscale = 17\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, more in (("tiny.zarr", ()), ("virtual.zarr", ("--virtual",))):
            assert run("create", name, "--config", "tiny.toml", "--quiet", *more).exit_code == 0
        shutil.copytree("tiny.zarr", "deep.zarr")
        depth = ("--depth-model", "gray.onnx", "--depth-scale", 1, "--device", "cpu", "--quiet")
        assert run("depth", "deep.zarr", *depth).exit_code == 0
        assert run("split", "deep.zarr", "fair", "train=0.7", "test=0.3").exit_code == 0
        shutil.copytree("deep.zarr", "hurt.zarr")
        damage.flip(damage.objects(folder / "hurt.zarr", "image")[0])
        damage.delete(damage.objects(folder / "hurt.zarr", "depth")[0])
        assert run("import", "files", "imported.zarr", "--quiet").exit_code == 0
        for name in ("deep", "imported"):
            assert run("convert", f"{name}.zarr", f"{name}.h5", "--quiet").exit_code == 0
        (folder / "deep.h5").rename("hurt.h5")
        damage.flip_hdf5_chunk(folder / "hurt.h5", "image")
        damage.flip_hdf5_chunk(folder / "imported.h5", "mask")
        damage.flip(damage.objects(folder / "imported.zarr", "mask")[0])
    return folder


@pytest.fixture
def workspace(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the small inputs, which is the working folder, with an empty models folder."""
    folder = tmp_path / "work"
    shutil.copytree(prepared, folder)
    (folder / "models").mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FGBGPACK_MODELS", str(folder / "models"))
    return folder
