"""Specs: ranges, all problems at once, round trips through JSON, TOML and files."""

from __future__ import annotations

import dataclasses
import json
import pickle
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgbgpack import schema
from fgbgpack.errors import SpecError
from fgbgpack.scene_spec import PRESETS
from fgbgpack.spec import DatasetSpec, DepthSpec, read_config

NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20
) | st.sampled_from(["bg", "with space", 'quote"d', "back\\slash", "größe", "背景"])


@st.composite
def specs(draw):
    height = draw(st.integers(8, 8192))
    guided, by_value = draw(st.booleans()), draw(st.booleans())
    depth = st.builds(
        DepthSpec,
        NAMES.filter(lambda name: name != "none"),
        mode=st.just("guided") if guided else st.sampled_from([None, "per-sample"]),
        guide=st.none() | NAMES if guided else st.none(),
        scale=st.none() | st.integers(1, 16 if guided else 4),
        bits=st.integers(4, 10),
    )
    return DatasetSpec(
        backgrounds=draw(NAMES),
        foregrounds=draw(NAMES),
        masks=draw(st.none() | NAMES),
        mask_pattern=draw(st.none() | st.sampled_from(["{name}", "{name}_mask.png", "m-{name}"])),
        mask_value=draw(st.none() | st.integers(0, 65535)) if by_value else None,
        mask_threshold=None if by_value else draw(st.none() | st.integers(1, 255)),
        invert_masks=draw(st.booleans()),
        frame=draw(st.none() | st.integers(0, 1_000_000)),
        premultiplied=draw(st.booleans()),
        vary_copies=draw(st.booleans()),
        strict=draw(st.booleans()),
        exif=draw(st.sampled_from(["apply", "ignore"])),
        width=draw(st.integers(8, 8192)),
        height=height,
        fit=draw(st.sampled_from(["crop", "stretch"])),
        foreground_height=draw(st.integers(1, height)),
        placements=draw(st.integers(1, 10**6)),
        flip=draw(st.booleans()),
        seed=draw(st.integers(0, 2**64 - 1)),
        chunk=draw(st.none() | st.integers(1, 65536)),
        depth=draw(st.none() | depth),
    )


def toml(document):
    """A document as TOML, which has no null: None is left out, and no depth is the model none."""
    if "depth" in document and document["depth"] is None:
        document = document | {"depth": {"model": "none"}}
    lines, tables = [], []
    for key, value in document.items():
        if isinstance(value, dict):
            tables.append(f"[{key}]\n{toml(value)}")
        elif value is not None:
            lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join([*lines, *tables])


@pytest.mark.slow
@given(specs())
def test_a_spec_survives_json(spec):
    document = json.loads(json.dumps(spec.to_dict()))
    assert schema.problems("spec", document) == []
    assert DatasetSpec.from_dict(document) == spec
    del document["schema"]
    assert DatasetSpec.from_dict(document) == spec


@pytest.mark.slow
@given(specs())
def test_a_spec_survives_toml(spec):
    assert DatasetSpec.from_dict(tomllib.loads(toml(spec.to_dict()))) == spec


def test_defaults_are_those_of_the_schema():
    document = DatasetSpec("bg", "fg").to_dict()
    properties = schema.load_schema("spec")["properties"]
    assert set(document) == set(properties)
    for key, described in properties.items():
        if "default" in described:
            assert document[key] == described["default"], key
    depth = dataclasses.asdict(DepthSpec())
    assert set(depth) == set(properties["depth"]["properties"])
    for key, described in properties["depth"]["properties"].items():
        if "default" in described:
            assert depth[key] == described["default"], key


def test_a_spec_cannot_be_changed():
    spec = DatasetSpec("bg", "fg")
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.width = 3


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("backgrounds", ["", None, 3]),
        ("foregrounds", ["", None]),
        ("masks", ["", 3]),
        ("width", [0, 7, 8193, -1, "128", 128.5, 128.0, None, True]),
        ("height", [0, 8193]),
        ("fit", ["cover", "", None]),
        ("foreground_height", [0, -1, 129, 8193]),
        ("placements", [0, -1, 1_000_001, 2.0]),
        ("flip", [0, 1, "yes", None]),
        ("seed", [-1, 2**64, 1.0, "0"]),
        ("placement", ["outside", None]),
        ("foreground_height", ["90-20", "0-9", "20%-101%", "20-86%", "x", "", 50.0, None]),
        ("objects", [0, 17, "3-1", "1-17", "0-2", "1-2-3", "10%", "", None, 2.5]),
        ("samples", [0, -1, 2**40 + 1, 2.0, "10"]),
        ("empty", [-0.1, 1.1, "0.5", None, True]),
        ("truncate", [-0.1, 0.91, None]),
        ("overlap", [-0.1, 1.01, None]),
        ("rotation", [-1, 45.1, "10", None, True]),
        ("blend", ["", "sharp", "soft,", "soft hard", None]),
        ("light_match", [0, "yes", None]),
        ("shadow", [1, None]),
        ("occlude", [1, "yes", None]),
        ("chunk", [0, -1, 65537, 40.0]),
        ("depth", [DepthSpec(""), DepthSpec("m", scale=0), DepthSpec("m", scale=5), DepthSpec("m", bits=3)]),
        ("depth", [DepthSpec("m", bits=11), DepthSpec("m", bits=9.0), DepthSpec("m", mode="both")]),
        ("depth", [DepthSpec(scale=17), DepthSpec("m", mode="guided", scale=17), DepthSpec(scale=0)]),
        ("depth", [DepthSpec(mode="per-sample", scale=5), DepthSpec("m", guide="g", scale=17)]),
        ("depth", [DepthSpec(mode="per-sample", guide="g"), DepthSpec(guide="")]),
    ],
)
def test_a_field_out_of_range_is_refused_by_name(field, values):
    for value in values:
        with pytest.raises(SpecError) as caught:
            DatasetSpec(**{"backgrounds": "bg", "foregrounds": "fg", field: value})
        assert caught.value.code == "spec-invalid"
        assert len(caught.value.problems) == 1, value
        assert caught.value.problems[0].startswith(field), value


def test_the_ends_of_every_range_are_allowed():
    DatasetSpec("b", "f", width=8, height=8, foreground_height=8, placements=1, seed=0, chunk=1)
    DatasetSpec(
        "b",
        "f",
        width=8192,
        height=8192,
        foreground_height=8192,
        placements=10**6,
        seed=2**64 - 1,
        chunk=65536,
    )


def test_all_problems_are_reported_at_once():
    with pytest.raises(SpecError) as caught:
        DatasetSpec.from_dict(
            {"backgrounds": "bg", "width": 0, "hight": 3, "seed": -1, "depth": {"bits": 99, "model": "m"}}
        )
    text = "\n".join(caught.value.problems)
    assert caught.value.code == "schema-violated"
    assert len(caught.value.problems) == 5
    for word in ("foregrounds", "width", "hight", "seed", "depth.bits"):
        assert word in text


def test_what_no_schema_says_is_reported_with_what_it_says():
    wrong = {"backgrounds": "bg", "foregrounds": "fg", "seed": -1, "objects": "0-20", "blend": "softt"}
    wrong |= {"mask_value": 1, "mask_threshold": 1, "depth_factor": 2}
    for make in (lambda fields: DatasetSpec(**fields), DatasetSpec.from_dict):
        with pytest.raises(SpecError) as caught:
            make(wrong)
        found = [problem.partition(":")[0] for problem in caught.value.problems]
        assert sorted(found) == ["blend", "depth_factor", "mask_threshold", "objects", "seed"]


def test_a_field_that_violates_the_schema_is_no_problem_of_another():
    with pytest.raises(SpecError) as caught:
        DatasetSpec("bg", "fg", foreground_height="all", placement="floor", empty=2.0)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["empty", "foreground_height"]
    with pytest.raises(SpecError) as caught:
        DatasetSpec("bg", "fg", height=9000, foreground_height=200)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["height"]


def test_a_foreground_higher_than_the_sample_is_refused():
    with pytest.raises(SpecError) as caught:
        DatasetSpec("b", "f", height=50, foreground_height=60)
    assert caught.value.code == "spec-invalid"
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["foreground_height"]


def test_a_name_that_is_no_unicode_is_refused():
    with pytest.raises(SpecError) as caught:
        DatasetSpec("b\udcff", "f", masks="m\udcff")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["backgrounds", "masks"]


def test_the_recipe_is_what_pixels_depend_on():
    base = DatasetSpec("b", "f")
    for same in ({"backgrounds": "x"}, {"masks": "m"}, {"chunk": 3}, {"depth": None}):
        assert dataclasses.replace(base, **same).recipe == base.recipe
    for other in (
        {"width": 127},
        {"height": 127},
        {"fit": "stretch"},
        {"foreground_height": 49},
        {"placements": 19},
        {"flip": False},
        {"seed": 1},
    ):
        assert dataclasses.replace(base, **other).recipe != base.recipe


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [(128, 128, 2), (127, 300, 3), (256, 256, 1), (255, 400, 2), (64, 64, 4), (8, 8, 4), (2000, 300, 1)],
)
def test_the_automatic_depth_scale_brings_the_short_side_to_256(height, width, scale):
    assert DepthSpec("m").resolved_scale(height, width) == scale
    assert DepthSpec("m", scale=3).resolved_scale(height, width) == 3


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [(128, 128, 3), (127, 300, 4), (384, 384, 1), (383, 400, 2), (24, 24, 16), (8, 8, 16), (2000, 300, 2)],
)
def test_on_backgrounds_it_brings_the_short_side_to_384(height, width, scale):
    for depth in (DepthSpec(), DepthSpec("m", mode="guided"), DepthSpec("m", guide="g")):
        assert depth.resolved_scale(height, width) == scale
    assert DepthSpec(scale=12).resolved_scale(height, width) == 12


@pytest.mark.parametrize(
    ("depth", "mode", "guide"),
    [
        (DepthSpec(), "layered", None),
        (DepthSpec(mode="guided"), "guided", "fgbgpack-guided"),
        (DepthSpec("fgbgpack-scene", guide="mine"), "guided", "mine"),
        (DepthSpec("fgbgpack-scene", mode="per-sample"), "per-sample", None),
        (DepthSpec("other"), "per-sample", None),
        (DepthSpec("other", mode="guided"), "guided", "fgbgpack-guided"),
        (DepthSpec("other", guide="mine.onnx"), "guided", "mine.onnx"),
        (DepthSpec("./fgbgpack-scene.onnx"), "per-sample", None),
    ],
)
def test_our_scene_network_means_layers_and_any_guide_guided_depth(depth, mode, guide):
    assert (depth.resolved_mode, depth.resolved_guide) == (mode, guide)
    assert DatasetSpec("b", "f", depth=depth).depth == depth


def test_depth_is_filled_unless_it_says_that_there_is_none():
    assert DatasetSpec("b", "f").depth == DepthSpec()
    for fields, depth in (
        ({}, DepthSpec()),
        ({"depth": {}}, DepthSpec()),
        ({"depth": {"scale": 2}}, DepthSpec(scale=2)),
        ({"depth": {"guide": "mine"}}, DepthSpec(guide="mine")),
        ({"depth": None}, None),
        ({"depth": {"model": "none"}}, None),
    ):
        assert DatasetSpec.from_dict({"backgrounds": "b", "foregrounds": "f", **fields}).depth == depth


# --- config files ----------------------------------------------------------------------------------


def test_folders_in_a_config_file_are_relative_to_it(tmp_path):
    fields = {
        "backgrounds": "bg",
        "foregrounds": "../fg",
        "masks": "/abs/masks",
        "width": 64,
        "depth": {"model": "nets/small.onnx", "guide": "../guide.onnx", "scale": 2},
    }
    for name, text in (("a b.json", json.dumps(fields)), ("c.toml", toml(fields))):
        path = tmp_path / "größe" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        read = read_config(path)
        assert read["backgrounds"] == str(path.parent / "bg")
        assert read["foregrounds"] == str(path.parent / "../fg")
        assert read["masks"] == "/abs/masks"
        assert read["depth"] == {
            "model": str(path.parent / "nets/small.onnx"),
            "guide": str(path.parent / "../guide.onnx"),
            "scale": 2,
        }
        assert DatasetSpec.from_dict(read).width == 64


def test_the_name_of_a_model_in_a_config_file_stays_a_name(tmp_path):
    path = tmp_path / "spec.json"
    path.write_text('{"depth": {"model": "small", "guide": "large"}}')
    assert read_config(path) == {"depth": {"model": "small", "guide": "large"}}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("spec.json", content) for content in (b"{", b"[1]", b'"bg"', b"3", b"null", b'"\xf6"')),
        ("bad.toml", b"width ="),
        ("latin.toml", b'backgrounds = "gr\xf6\xdfe"'),
        ("nowhere.toml", None),
        (".", None),
    ],
)
def test_a_config_file_that_holds_no_fields_is_refused(tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        read_config(path)
    assert caught.value.code == "config-unreadable"
    assert str(path) in caught.value.message


def test_wrong_types_in_a_config_file_are_left_to_the_spec(tmp_path):
    path = tmp_path / "spec.json"
    path.write_text('{"backgrounds": 3, "foregrounds": null, "depth": {"model": 4}}')
    with pytest.raises(SpecError) as caught:
        DatasetSpec.from_dict(read_config(path))
    assert len(caught.value.problems) == 3


def test_ranges_mean_numbers():
    spec = DatasetSpec("b", "f", height=200, foreground_height="20%-86%", objects="1-3", blend="feather,soft")
    scene = spec.scene
    assert (scene.height_range, scene.object_range, scene.blends) == ((40, 172), (1, 3), ("soft", "feather"))
    assert DatasetSpec("b", "f", foreground_height="26-110").scene.height_range == (26, 110)
    assert DatasetSpec("b", "f", height=9, foreground_height="50%").scene.height_range == (5, 5)


@pytest.mark.parametrize(
    "fields",
    [
        {"samples": 5},
        {"objects": 2},
        {"objects": "1-2"},
        {"empty": 0.1},
        {"foreground_height": "40-50"},
        {"truncate": 0.1},
        {"overlap": 0.1},
        {"rotation": 10},
        {"placement": "anchored"},
        {"blend": "hard"},
        {"light_match": True},
        {"shadow": True},
    ],
)
def test_any_option_of_scenes_makes_scenes(fields):
    assert DatasetSpec("b", "f", **fields).is_scene
    assert DatasetSpec("b", "f", **fields) != DatasetSpec("b", "f")
    assert DatasetSpec.from_dict(DatasetSpec("b", "f", **fields).to_dict()) == DatasetSpec("b", "f", **fields)


def test_what_is_the_same_as_by_default_makes_no_scenes():
    same = {"objects": "1-1", "foreground_height": "50-50", "empty": 0, "blend": "soft,soft", "flip": False}
    assert not DatasetSpec("b", "f", **same).is_scene
    assert DatasetSpec("b", "f", samples=7).sample_count(3, 2) == 7
    assert DatasetSpec("b", "f", placements=2).sample_count(3, 2) == 24


def test_presets_are_options_that_can_be_used():
    for name, fields in PRESETS.items():
        assert DatasetSpec("b", "f", **fields).is_scene == (name == "scenes")


def test_a_spec_that_was_used_is_pickled_as_a_fresh_one() -> None:
    spec = DatasetSpec(backgrounds="bg", foregrounds="fg", objects="1-3")
    fresh = pickle.dumps(spec)
    assert spec.is_scene
    assert pickle.dumps(spec) == fresh
    again = pickle.loads(fresh)
    assert (again, again.scene, again.is_scene) == (spec, spec.scene, True)
    assert not dataclasses.replace(spec, objects=1).is_scene
