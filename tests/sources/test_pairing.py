"""Which files belong together: by the names of folders and files, or by patterns."""

from __future__ import annotations

import re

import pytest

from fgbgpack.errors import SourceError, SpecError
from fgbgpack.sources.pairing import Pattern, find_pairs

KINDS = ("images", "masks", "depths")


def pairs(files, without=(), **given):
    return find_pairs(files, dict.fromkeys(KINDS) | given, folder="in", without=without)


def refusal(error, files, **given):
    with pytest.raises(error) as caught:
        pairs(files, **given)
    return caught.value


NUMBERED = [f"{kind}/{i}.{suffix}" for i in (10, 9, 2) for kind, suffix in
            (("images", "jpg"), ("masks", "png"), ("depth", "png"))]  # fmt: skip


# --- what pairs ------------------------------------------------------------------------------------


def test_numbers_in_names_count_as_numbers():
    found = pairs(NUMBERED)
    assert found.names == ["2", "9", "10"]
    assert found.files == {
        "images": ["images/2.jpg", "images/9.jpg", "images/10.jpg"],
        "masks": ["masks/2.png", "masks/9.png", "masks/10.png"],
        "depths": ["depth/2.png", "depth/9.png", "depth/10.png"],
    }
    assert found.patterns == {"images": "images/", "masks": "masks/", "depths": "depth/"}
    assert (found.left_out, len(found.unmatched)) == (0, 0)


def test_nested_folders_pair_by_their_paths():
    names = [f"bg{bg}/fg{fg}/00{n}" for bg in (2, 10, 1) for fg in (7, 12) for n in (0, 1)]
    files = [f"{kind}/{name}.png" for name in names for kind in ("fg_bg", "fg_bg_mask")]
    found = pairs([*files, "bg/1.png", "fg/1.png", "fg_mask/1.png"])
    assert found.names == [*names[8:], *names[:8]]
    assert found.files["masks"] == [f"fg_bg_mask/{name}.png" for name in found.names]
    assert found.patterns == {"images": "fg_bg/", "masks": "fg_bg_mask/", "depths": None}


@pytest.mark.parametrize(
    ("image", "mask", "depth"),
    [
        ("images/{}.png", "masks/{}_mask.png", "depth/{}_depth.png"),
        ("fgbg/fgbg_{}.png", "mask/mask_{}.png", "depthmap/dm_{}.png"),
        ("composites/img{}.png", "masks/mask{}.png", "depths/{}.png"),
        ("RGB/fg_bg_{}.png", "Masks/fg_bg_mask_{}.png", "Depth_Maps/fg_bg-{}-depth.png"),
        ("images/bg3_fg{}.png", "masks/bg3_fg{}_mask.png", "depth/bg3_fg{}.png"),
    ],
)
def test_names_may_say_what_a_file_is(image, mask, depth):
    kinds = dict(zip(KINDS, (image, mask, depth), strict=True))
    files = [pattern.format(i) for i in (9, 10, 11) for pattern in kinds.values()]
    found = pairs(files)
    assert found.files == {kind: [pattern.format(i) for i in (9, 10, 11)] for kind, pattern in kinds.items()}
    # A missing partner is expected under a name like those of its kind.
    found = pairs([file for file in files if file != mask.format(10)])
    assert (
        f"{image.format(10)}: there is no mask for it; expected {mask.format(10)}" in found.unmatched.lines()
    )


def test_patterns_say_what_files_share():
    parts = ((1, 2, 3), (1, 10, 3), (11, 0, 4))
    files = [
        path
        for bg, fg, n in parts
        for path in (f"all/{bg}_{fg}_{n}.png", f"all/{bg}_{fg}_{n}_m.png", f"deep/{bg}/{n}-of-{fg} v2.png")
    ]
    found = pairs(
        files,
        images="all/{bg}_{fg}_{n}.png",
        masks="all/{bg}_{fg}_{n}_m.png",
        depths="deep/{bg}/{n}-of-{fg} v*.png",
    )
    assert found.names == ["1_2_3", "1_10_3", "11_0_4"]
    assert [found.files[kind] for kind in KINDS] == [files[0::3], files[1::3], files[2::3]]


def test_folders_can_be_given_and_lie_in_one_another():
    files = [f"merged/{i}.jpg" for i in range(3)] + [f"merged/grey stuff/{i}.png" for i in range(3)]
    found = pairs([*files, "depth/0.png"], images="merged", masks="merged/grey stuff/", without=["depths"])
    assert found.files == {"images": files[:3], "masks": files[3:]}
    assert found.names == ["0", "1", "2"]
    assert found.patterns == {"images": "merged/", "masks": "merged/grey stuff/", "depths": None}
    at_the_root = pairs(["10.jpg", "masks/10.png"], images=".", masks="masks")
    assert (at_the_root.names, at_the_root.files["images"]) == (["10"], ["10.jpg"])


# --- what does not ---------------------------------------------------------------------------------


def test_files_without_partners_are_left_out_and_named():
    files = {*NUMBERED, "images/9.png", "images/4.jpg", "masks/4.png", "masks/5.png"}
    found = pairs(sorted(files - {"masks/2.png"}))
    assert found.names == ["10"]
    # Two pictures 9 with mask and depth, picture and depth 2, picture and mask 4, mask 5.
    assert found.left_out == 4 + 2 + 2 + 1
    assert found.unmatched.lines() == [
        "images/9.jpg, images/9.png: 2 pictures of the same name; expected one",
        "images/2.jpg: there is no mask for it; expected masks/2.png",
        "masks/5.png: there is no picture for it; expected images/5.jpg",
        "images/4.jpg: there is no depth map for it; expected depth/4.png",
    ]


@pytest.mark.parametrize(
    ("missing", "code"),
    [
        ("masks/2.png", "mask-missing"),
        ("images/2.jpg", "picture-missing"),
        ("depth/2.png", "depth-map-missing"),
    ],
)
def test_the_code_says_what_is_missing(missing, code):
    found = pairs([file for file in NUMBERED if file != missing])
    assert found.unmatched.code == code
    assert missing in found.unmatched.lines()[0]


def test_files_of_the_same_name_are_ambiguous():
    assert pairs([*NUMBERED, "masks/2.bmp"]).unmatched.code == "name-not-unique"


@pytest.mark.parametrize(
    ("given", "code", "problem"),
    [
        ({"images": "images/{id}.jpg"}, "patterns-differ", "--masks: not given"),
        (
            {"images": "images/{a}.jpg", "masks": "masks/{b}.png"},
            "patterns-differ",
            "--masks: it has the fields b, expected .*: a",
        ),
        ({"images": "images/{a}.jpg", "masks": "masks"}, "patterns-differ", "--masks: 'masks' has no field"),
    ],
)
def test_patterns_that_do_not_go_together(given, code, problem):
    error = refusal(SpecError, NUMBERED, **given)
    assert error.code == code
    assert re.match(problem, error.problems[0])


@pytest.mark.parametrize(
    "text",
    ["images/{a", "{a}*.jpg", "{a}{b}.jpg", "{a:3}.jpg", "{a!r}.jpg", "{}.jpg", "../{a}.jpg", "/data/{a}"],
)
def test_patterns_that_are_not_valid(text):
    with pytest.raises(SpecError) as caught:
        Pattern(text)
    assert caught.value.code == "pattern-invalid"
    assert repr(text) in caught.value.message


@pytest.mark.parametrize(
    ("text", "path", "fields"),
    [
        ("{a}/{a}.jpg", "3/3.jpg", {"a": "3"}),
        ("{a}/{a}.jpg", "3/4.jpg", None),
        ("{a}.jpg", "b/3.jpg", None),
        ("*/{{{a}}}_v*.jpg", "x/{3}_v2.jpg", {"a": "3"}),
        ("{a}.jpg", "3.jpgx", None),
    ],
)
def test_patterns_match_whole_paths(text, path, fields):
    assert Pattern(text).match(path) == fields
    if fields and "*" not in text:
        assert Pattern(text).fill(fields) == path


@pytest.mark.parametrize(
    ("files", "given", "code", "names"),
    [
        (NUMBERED, {"images": "img/{a}.jpg", "masks": "masks/{a}.png"}, "folder-without-pictures",
         ["--images 'img/{a}.jpg'", "depth/2.png"]),
        (NUMBERED, {"images": "nowhere"}, "folder-without-pictures", ["nowhere/"]),
        (["x.png"], {}, "folders-not-recognised", ["only files, such as x.png", "--images", "--masks"]),
        (["a/1.png", "b/1.png"], {}, "folders-not-recognised", ["there are a/, b/", "--images", "--masks"]),
        ([*NUMBERED, "fg_bg/1.png"], {}, "folders-not-recognised", ["fg_bg, images", "--images fg_bg"]),
        (["images/1.png", "masks/other.png"], {}, "names-differ", ["images/1.png", "masks/other.png"]),
    ],
)  # fmt: skip
def test_folders_that_tell_nothing(files, given, code, names):
    error = refusal(SourceError, files, **given)
    assert error.code == code
    assert all(name in str(error) for name in names)
