"""What an audit finds in folders of pictures, and its contact sheet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from picture_files import cutout, disc, noise, write
from PIL import Image

from fgbgpack.errors import SourceError
from fgbgpack.sources.audit import audit
from fgbgpack.spec import Reading
from fgbgpack.visual.contact_sheet import contact_sheet


def scene(height, width, seed):
    """Soft colours, unlike those of any other seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture
def looked_at(tmp_path):
    """Folders of backgrounds, of cut-outs and of masks with something odd in each."""
    bg, fg, masks = (tmp_path / name for name in ("bg", "fg", "masks"))
    for i in range(6):
        write(bg / f"b{i}.jpg", Image.fromarray(scene(120, 160, i)), quality=90)
        write(fg / f"f{i}.png", np.dstack([scene(100, 60, 50 + i), disc(100, 60)]))
        write(masks / f"m{i}.png", np.roll(disc(100, 60), i, axis=0))
    (bg / "copy.jpg").write_bytes((bg / "b1.jpg").read_bytes())
    write(bg / "smaller.jpg", Image.open(bg / "b2.jpg").resize((140, 105)), quality=60)
    data = (bg / "b3.jpg").read_bytes()
    write(bg / "cut.jpg", data[: len(data) // 2] + b"\xff\xd9")
    write(bg / "black.png", np.zeros((120, 160, 3), np.uint8))
    write(bg / "gray.png", Image.fromarray(scene(120, 160, 30)).convert("L"))
    write(bg / "tiny.png", scene(20, 24, 31))
    write(bg / "long.png", scene(60, 400, 32))
    write(bg / "holes.png", cutout(120, 160))
    write(fg / "opaque.png", scene(100, 60, 70))
    write(fg / "ones.png", np.dstack([scene(100, 60, 71), disc(100, 60) > 99]).astype(np.uint8))
    speck = np.zeros((100, 60), np.uint8)
    speck[50, 30:33] = 255
    write(fg / "speck.png", np.dstack([scene(100, 60, 72), speck]))
    write(masks / "classes.png", (disc(100, 60) > 99) * np.uint8(7))
    write(masks / "white.png", np.full((100, 60), 255, np.uint8))
    return tmp_path


def test_what_is_wrong_or_odd_is_found_and_nothing_else(looked_at):
    found = audit([looked_at / name for name in ("bg", "fg", "masks")])
    assert list(found.kinds.values()) == ["pictures", "cut-outs", "masks"]
    assert list(found.pictures.values()) == [14, 9, 8]
    names = [
        (one.kind, *(path.removeprefix(f"{looked_at}/") for path in one.paths)) for one in found.findings
    ]
    assert names == [
        ("refused", "bg/cut.jpg"),
        ("refused", "fg/ones.png"),
        ("refused", "fg/opaque.png"),
        ("refused", "masks/classes.png"),
        ("refused", "masks/white.png"),
        ("identical", "bg/b1.jpg", "bg/copy.jpg"),
        ("similar", "bg/b2.jpg", "bg/smaller.jpg"),
        ("mask", "bg/holes.png"),
        ("mask", "fg/speck.png"),
        ("colour", "bg/black.png"),
        ("colour", "bg/gray.png"),
        ("size", "bg/long.png"),
        ("size", "bg/tiny.png"),
    ]
    assert found.refused == 5


def test_options_say_what_masks_mean(looked_at):
    (looked_at / "masks/white.png").unlink()
    for name in [f"m{i}.png" for i in range(6)]:
        write(looked_at / "masks" / name, (disc(100, 60) > 99) * np.uint8(7))
    assert audit([looked_at / "masks"]).refused == 7
    assert audit([looked_at / "masks"], Reading(mask_value=7)).refused == 0


def test_pictures_of_noise_are_not_alike(tmp_path):
    for i in range(60):
        write(tmp_path / "in" / f"{i}.png", noise(40, 50, seed=i))
    assert audit([tmp_path / "in"]).findings == ()


def test_a_file_that_needs_a_plugin_or_has_a_bad_name_is_named(tmp_path):
    write(tmp_path / "in/a.png", scene(40, 40, 1))
    write(tmp_path / "in/a\nb.png", scene(40, 40, 2))
    found = audit([tmp_path / "in"])
    assert found.refused == 1
    assert "control characters" in found.findings[0].text
    with pytest.raises(SourceError) as caught:
        audit([tmp_path / "missing"])
    assert caught.value.code == "folder-missing"


def test_a_colon_in_a_path_is_no_end_of_it(tmp_path):
    folder = tmp_path / "in: one"
    write(folder / "a: 1.png", b"no picture")
    write(folder / "b: 2.png", scene(40, 40, 1))
    (folder / "c: 3.png").symlink_to("nowhere")
    found = {Path(*one.paths).name: one.text for one in audit([folder]).findings}
    assert found == {
        "a: 1.png": "not the content of any picture format; expected a picture",
        "c: 3.png": "no regular file (a broken link?); expected a picture file",
    }


def test_the_contact_sheet_shows_each_picture_at_its_place(looked_at):
    found = audit([looked_at / "bg"])
    sheet = np.asarray(contact_sheet(found, Reading(strict=False)))
    cells = sum(len(one.paths) for one in found.findings)
    assert cells == 10
    black = (sheet == 0).all(axis=-1).mean(axis=0)
    assert black.max() > 0.05  # the black picture
    nothing = audit([looked_at / "bg"], Reading(strict=False))
    assert "bg/cut.jpg" in str([one.paths for one in nothing.findings if one.kind == "remark"])


def test_the_command_reports_and_draws(looked_at, monkeypatch):
    monkeypatch.chdir(looked_at)
    result = run("audit", "bg", "fg", "-o", "sheet.png")
    assert result.exit_code == 3
    assert "3 files would be refused" in result.stdout
    assert "bg/b1.jpg, bg/copy.jpg: 2 files with the same bytes" in result.stdout
    with Image.open("sheet.png") as sheet:
        assert sheet.size[0] > 1000
    result = run("audit", "bg", "fg", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["refused"] == 3
    for name in ("cut.jpg", "black.png"):
        (looked_at / "bg" / name).unlink()
    assert run("audit", "bg").exit_code == 0
