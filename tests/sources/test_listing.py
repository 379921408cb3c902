"""Folders of files: what is a picture, in what order, which mask belongs to it, what is wrong with them."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
import unicodedata
from pathlib import Path

import pytest
from picture_files import cutout, disc, encoded, noise, write
from PIL import Image

from fgbgpack.errors import SourceError
from fgbgpack.source_info import SourceInfo
from fgbgpack.sources import listing
from fgbgpack.sources.decoding import hash_file
from fgbgpack.sources.listing import find_files, find_sources
from fgbgpack.sources.names import normal


def refusal(folders, masks=False):
    with pytest.raises(SourceError) as caught:
        folders.find(masks)
    assert all(line in str(caught.value) for line in caught.value.problems)
    return caught.value


def test_pictures_are_in_order_of_their_normalised_names(good):
    decomposed = unicodedata.normalize("NFD", "été.png")
    # Two of the same content are two.
    for name in ("zebra.png", "b 2.PNG", "a.jpeg", decomposed, "naïve café 日本.png", "ö.tif"):
        good.background(name, encoded(noise(8, 8), "PNG"))
    assert [source.name for source in good.find().backgrounds] == [
        "a.jpeg",
        "b 2.PNG",
        "good.png",
        "naïve café 日本.png",
        "zebra.png",
        decomposed,
        "ö.tif",
    ]


def test_names_digests_and_paths(good):
    mask = good.mask("good.tif", disc(40, 30))
    found = good.find(masks=True)
    (source,) = found.foregrounds
    data = (good.foregrounds / "good.png").read_bytes()
    assert source.sha256 == hashlib.sha256(data).hexdigest()
    assert (source.mask_name, source.mask_sha256) == ("good.tif", hash_file(mask))
    assert (source.path, source.mask_path) == (good.foregrounds / "good.png", mask)
    assert source.word == int.from_bytes(hashlib.sha256(data).digest()[:4], "big")
    assert (found.backgrounds[0].mask_name, found.backgrounds[0].mask_path) == (None, None)


def test_a_source_equals_what_a_dataset_says_of_it(good):
    (found,) = good.find().foregrounds
    stated = SourceInfo(found.name, found.sha256, license="MIT")
    assert found == stated == pickle.loads(pickle.dumps(found))
    assert len({found, stated, dataclasses.replace(found, path=Path("elsewhere"))}) == 1
    for other in ({"name": "x"}, {"sha256": "0" * 64}, {"mask_name": "m"}, {"mask_sha256": "0" * 64}):
        assert dataclasses.replace(stated, **other) != found
    assert found != found.name


def test_what_is_no_picture_is_ignored(good):
    notes = good.background("notes.txt", b"hello")
    script = good.background("page.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n")
    good.background(".hidden.png", b"")
    write(good.foregrounds / "more.png" / "inner.png", b"")
    found = good.find()
    assert found.ignored == (str(notes), str(script), f"{good.foregrounds / 'more.png'}/")
    assert len(found.backgrounds) == len(found.foregrounds) == 1


def test_places_that_are_no_folders_of_pictures_are_named_with_their_options(folders):
    file = folders.background("x", b"")
    for name in ("people", "dogs"):
        (folders.masks / name).mkdir()
    missing = folders.foregrounds / "nowhere"
    with pytest.raises(SourceError) as caught:
        find_sources(file, missing, folders.masks)
    background, foreground, mask = caught.value.problems
    assert background == f"--backgrounds {file}: it is a file; expected a folder of pictures"
    assert foreground == f"--foregrounds {missing}: there is no such folder; expected a folder of pictures"
    assert mask.startswith(f"--masks {folders.masks}: only subfolders (dogs, people)")
    assert caught.value.code == "sources-unusable"
    with pytest.raises(SourceError) as caught:
        find_sources(file, missing)
    assert caught.value.code == "folder-missing"
    for given in ("s3://bucket/x", "https://me:secret@host/x"):
        with pytest.raises(SourceError) as caught:
            find_sources(Path(given), folders.foregrounds, folders.masks)
        url = given.replace("me:secret", "***")
        assert caught.value.problems[0].startswith(f"--backgrounds {url}: it is a URL, and pictures are read")


def test_folders_without_pictures(folders):
    folders.background(".only-hidden.png", noise(4, 4))
    for index in range(4):
        folders.foreground(f"{index}.txt", b"")
    error = refusal(folders)
    assert error.code == "folder-without-pictures"
    background, foreground = error.problems
    assert background.startswith(f"--backgrounds {folders.backgrounds}: the folder is empty")
    assert "no picture among 4 entries (0.txt, 1.txt, 2.txt, ...)" in foreground


def test_shared_stems_are_all_named_in_each_folder(folders):
    decomposed = unicodedata.normalize("NFD", "é.png")
    for name in ("a.png", "a.jpg", "A.png", decomposed, "é.gif"):
        folders.background(name, encoded(noise(8, 8), "PNG"))
    for name in ("p.png", "p.webp", "p.tif", "q.png"):
        folders.foreground(name, cutout())
    for name in ("p.png", "q.png", "q.bmp"):
        folders.mask(name, disc(40, 30))
    error = refusal(folders, masks=True)
    assert error.code == "stem-not-unique"
    expected = [
        ("--backgrounds", "2 files", "(a.jpg, a.png)"),
        ("--backgrounds", decomposed, "é.gif"),
        ("--foregrounds", "3 files", "(p.png, p.tif, p.webp)"),
        ("--masks", "(q.bmp, q.png)"),
    ]
    for line, parts in zip(error.problems, expected, strict=True):
        assert all(part in line for part in parts), line


def test_missing_masks_are_all_named_and_spare_ones_ignored(good):
    for name in ("one.png", "two.png", "three.png"):
        good.foreground(name, cutout())
    good.mask("two.png", disc(40, 30))
    spare = good.mask("spare.png", disc(40, 30))
    error = refusal(good, masks=True)
    assert error.code == "mask-missing"
    for name, line in zip(("good", "one", "three"), error.problems, strict=True):
        assert line.startswith(f"{good.foregrounds / name}.png: ")
        assert str(good.masks) in line
    for name in ("good.png", "one.png", "three.png"):
        good.mask(name, disc(40, 30))
    assert good.find(masks=True).ignored == (str(spare),)


def test_masks_match_by_normalised_stem_and_any_extension(good):
    good.mask("good.bmp", disc(40, 30))
    good.foreground(unicodedata.normalize("NFD", "señora 1.a.png"), cutout())
    good.mask(unicodedata.normalize("NFC", "señora 1.a.tif"), disc(40, 30))
    found = good.find(masks=True)
    assert [source.mask_name for source in found.foregrounds] == ["good.bmp", "señora 1.a.tif"]


def test_masks_in_the_folder_of_foregrounds_are_a_mistake(good):
    with pytest.raises(SourceError, match=str(good.foregrounds)) as caught:
        find_sources(good.backgrounds, good.foregrounds, good.foregrounds)
    assert caught.value.code == "masks-in-foregrounds"


def named_in_latin_1(folder) -> None:
    """Writes a file whose name is no UTF-8."""
    try:
        Path((bytes(folder) + b"/caf\xe9.png").decode(errors="surrogateescape")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes Unicode names only")


def test_broken_links_and_names_that_are_not_unicode(good):
    (good.backgrounds / "gone.png").symlink_to(good.backgrounds / "nothing.png")
    error = refusal(good)
    assert error.code == "picture-not-a-file"
    assert "gone.png" in error.problems[0]
    named_in_latin_1(good.foregrounds)
    link, name = refusal(good).problems
    assert "gone.png" in link
    assert "caf\\udce9.png" in name


def test_damaged_files_are_named_along_with_problems_of_folders(good):
    good.background("zero.png", b"")
    good.foreground("good.jpg", b"")
    error = refusal(good)
    assert error.code == "sources-unusable"
    for name, line in zip(("'good'", "zero.png", "good.jpg"), error.problems, strict=True):
        assert name in line


# --- all files below a folder ----------------------------------------------------------------------


def test_files_below_a_folder_with_their_sizes(tmp_path):
    for name in ("a.PNG", "b/c/d.jpg", "b/x.npy"):
        write(tmp_path / name, b"12345")
    for name in (".hidden.png", "__MACOSX/a.png", "b/.git/a.png", "notes.txt", "b/more.txt"):
        write(tmp_path / name, b"")
    (tmp_path / "b/loop").symlink_to(tmp_path)
    assert find_files(tmp_path) == ({"a.PNG": 5, "b/c/d.jpg": 5}, 3)
    assert find_files(tmp_path, [".npy"]) == ({"a.PNG": 5, "b/c/d.jpg": 5, "b/x.npy": 5}, 2)


def test_a_folder_without_files_to_import(tmp_path):
    write(tmp_path / "notes.txt", b"")
    for place, code in (
        (tmp_path, "folder-without-pictures"),
        (tmp_path / "notes.txt", "folder-missing"),
        (tmp_path / "nowhere", "folder-missing"),
    ):
        with pytest.raises(SourceError, match=str(place)) as caught:
            find_files(place)
        assert caught.value.code == code


def test_files_to_import_need_names_in_unicode(tmp_path):
    named_in_latin_1(tmp_path)
    with pytest.raises(SourceError, match=r"caf\\udce9\.png") as caught:
        find_files(tmp_path)
    assert caught.value.code == "name-not-unicode"


# --- what masks are called ---------------------------------------------------------------------------


def found_masks(found):
    return {source.name: source.mask_name for source in found.foregrounds}


def test_masks_in_a_folder_are_called_as_the_pattern_says(good):
    good.foreground("é.png", cutout())
    good.mask("good_mask.png", disc(40, 30))
    good.mask(unicodedata.normalize("NFD", "é_mask.jpg"), encoded(disc(40, 30), "JPEG"))
    masks = (good.backgrounds, good.foregrounds, good.masks)
    found = find_sources(*masks, "{name}_mask")
    assert [normal(name) for name in found_masks(found).values()] == ["good_mask.png", "é_mask.jpg"]
    with pytest.raises(SourceError) as caught:
        find_sources(*masks, "{name}_mask.png")
    assert caught.value.code == "mask-missing"
    assert "é_mask.png" in caught.value.problems[0]


def test_masks_beside_the_foregrounds_are_told_from_these_by_their_names(good):
    good.foreground("good_mask.png", disc(40, 30))
    good.foreground("other.jpg", encoded(noise(40, 30), "JPEG"))
    good.foreground("other_mask.png", disc(40, 30))
    good.foreground("spare_mask.png", disc(40, 30))
    expected = {"good.png": "good_mask.png", "other.jpg": "other_mask.png"}
    for masks in (None, good.foregrounds):
        found = find_sources(good.backgrounds, good.foregrounds, masks, "{name}_mask.png")
        assert found_masks(found) == expected
        assert found.ignored == (str(good.foregrounds / "spare_mask.png"),)


def test_masks_of_another_type_may_have_the_same_stem(good):
    (good.foregrounds / "good.png").unlink()
    good.foreground("a.jpg", encoded(noise(40, 30), "JPEG"))
    good.foreground("a.png", disc(40, 30))
    found = find_sources(good.backgrounds, good.foregrounds, None, "{name}.png")
    assert found_masks(found) == {"a.jpg": "a.png"}


def test_missing_masks_beside_the_foregrounds_are_named(good):
    with pytest.raises(SourceError) as caught:
        find_sources(good.backgrounds, good.foregrounds, None, "{name}_mask.png")
    assert caught.value.code == "mask-missing"
    assert "good_mask.png" in caught.value.problems[0]


def test_one_folder_may_hold_backgrounds_and_foregrounds(good):
    good.mask("good.png", disc(40, 30))
    found = find_sources(good.foregrounds, good.foregrounds, good.masks)
    assert found.backgrounds[0].mask_name is None
    assert found.foregrounds[0].mask_name == "good.png"


def test_files_of_phones_with_several_pictures_are_pictures(good):
    first, second = (Image.fromarray(noise(32, 32, seed=seed)) for seed in (1, 2))
    good.background("a.mpo", encoded(first, "MPO", save_all=True, append_images=[second]))
    assert [source.name for source in good.find().backgrounds] == ["a.mpo", "good.png"]
    assert len(good.load().background) == 2


def test_pictures_that_need_a_plugin_are_refused_and_not_ignored(good, monkeypatch):
    monkeypatch.setattr(listing, "lacking_plugins", lambda: {".heic": "some-package, which lacks"})
    monkeypatch.setattr(listing, "picture_suffixes", lambda: frozenset({".jpg", ".png"}))
    good.background("a.HEIC", b"whatever")
    with pytest.raises(SourceError) as caught:
        good.find()
    assert caught.value.code == "picture-plugin-missing"
    assert "some-package, which lacks" in caught.value.problems[0]
    with pytest.raises(SourceError) as caught:
        find_files(good.backgrounds)
    assert caught.value.code == "picture-plugin-missing"


def test_a_pipe_as_a_table_of_credits_is_refused_at_once(good):
    os.mkfifo(good.backgrounds / "sources.csv")
    with pytest.raises(SourceError) as caught:
        good.find()
    assert caught.value.code == "credits-unreadable"
