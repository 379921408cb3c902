from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_models import FLOAT16, UINT8, card, echo, gray, write_network

from fgbgpack import schema
from fgbgpack.depth import Card, load_model
from fgbgpack.errors import DepthModelError


def refusal(path: Path | str, code: str = "card-invalid") -> DepthModelError:
    with pytest.raises(DepthModelError) as caught:
        load_model(path)
    assert (caught.value.code, caught.value.exit_status) == (code, 5)
    return caught.value


def assert_problem(error: DepthModelError, *words: str) -> None:
    """One of the problems starts with the first word and has the others."""
    first, *others = words
    assert any(p.startswith(first) and all(w in p for w in others) for p in error.problems), error.problems


def with_size(**rule):
    return card(input={"size": rule})


def test_loads_file_and_card(tmp_path):
    path = gray(tmp_path / "mein Modell ä.onnx")
    model = load_model(path)
    assert (model.path, model.card.document, model.name) == (path, card(), "tiny")
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert load_model(str(path)) == model


# How published networks are fed and what they give, as cards: the schema must be able to say all of it.
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
UNIT_RANGE = {"name": "x", "layout": "NCHW", "channels": "RGB", "range": [0, 1]}
RELATIVE = {"name": "y", "axes": "N1HW", "quantity": "inverse_depth", "unit": None}
METRES = {"name": "y", "axes": "N1HW", "quantity": "depth", "unit": "m"}
PUBLISHED = {
    "densedepth-nyu": (
        UNIT_RANGE | {"layout": "NHWC", "size": {"fixed": [480, 640]}},
        METRES
        | {
            "axes": "NHW1",
            "transform": [{"reciprocal_of": 1000}, {"clip": [10, 1000]}, {"multiply": 0.01}],
        },
    ),
    "midas-v2.1-small": (
        UNIT_RANGE
        | IMAGENET
        | {"size": {"multiple_of": 32, "target": {"short_side": 256}}, "filter": "bicubic"},
        RELATIVE | {"axes": "NHW"},
    ),
    "midas-onnx": (UNIT_RANGE | {"size": {"fixed": [384, 384]}}, RELATIVE | {"axes": "NHW"}),
    "dpt-large": (
        UNIT_RANGE | HALF | {"size": {"multiple_of": 32, "target": {"short_side": 384}}},
        RELATIVE | {"axes": "NHW"},
    ),
    "depth-anything-v2-small": (
        UNIT_RANGE
        | IMAGENET
        | {"size": {"multiple_of": 14, "target": {"short_side": 518}}, "filter": "bicubic"},
        RELATIVE | {"axes": "NHW"},
    ),
    "zoedepth": (UNIT_RANGE | HALF | {"size": {"multiple_of": 32, "target": {"height": 384}}}, METRES),
    "tcmonodepth-small": (UNIT_RANGE | {"range": [0, 255], "size": {"multiple_of": 16}}, RELATIVE),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_schema_can_say_what_published_networks_need(name):
    given, result = PUBLISHED[name]
    document = card(name=name, input=given, output=result, licence="MIT", source="somewhere", made_by="x")
    assert schema.problems("depth-model", document) == []


def test_schema_describes_everything():
    def fields(part, where):
        for key, value in part.get("properties", {}).items():
            yield f"{where}.{key}", value
            yield from fields(value, f"{where}.{key}")
        if "items" in part:
            yield f"{where}[]", part["items"]
            yield from fields(part["items"], f"{where}[]")

    found = dict(fields(schema.load_schema("depth-model"), ""))
    assert len(found) > 35
    assert [where for where, field in found.items() if not {"title", "description"} <= set(field)] == []


def test_extension_fields_are_kept(tmp_path):
    document = card(**{"x-mine": {"a": 1}}, input={"x-note": "hello"})
    assert load_model(gray(tmp_path / "m.onnx", card=document)).card.document == document


@pytest.mark.parametrize(
    ("rule", "picture", "expected"),
    [
        ({"fixed": [480, 640]}, (128, 128), (480, 640)),
        ({"multiple_of": 16}, (128, 256), (128, 256)),
        ({"multiple_of": 16}, (100, 136), (96, 144)),  # 136 lies in the middle: up
        ({"multiple_of": 32}, (8, 15), (32, 32)),
        ({"multiple_of": 14, "target": {"short_side": 518}}, (128, 128), (518, 518)),
        ({"multiple_of": 14, "target": {"short_side": 518}}, (480, 640), (518, 686)),
        ({"multiple_of": 14, "target": {"short_side": 518}}, (640, 480), (686, 518)),
        ({"multiple_of": 32, "target": {"height": 384}}, (480, 640), (384, 512)),
        ({"multiple_of": 32, "target": {"long_side": 256}}, (100, 300), (96, 256)),
        ({"multiple_of": 1, "target": {"long_side": 256}}, (1, 3000), (1, 256)),
    ],
)
def test_size_rule(rule, picture, expected):
    assert Card.from_dict(with_size(**rule), where="a card").input.size.size_for(*picture) == expected


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (card(name="Spaces And Capitals"), ["name:", "small letters"]),
        (card(typo=1), ["the document", "'typo'"]),
        (card(input={"layout": "HWC"}), ["input.layout", "'HWC'", "NHWC"]),
        (card(input={"range": ...}), ["input: 'range' is a required property"]),
        (card(input={"range": [1, 1]}), ["input.range: found [1, 1]", "smaller first"]),
        (card(input={"range": [255, 0]}), ["input.range: found [255, 0]"]),
        (card(input={"mean": [0.5, 0.5]}), ["input.mean", "three numbers"]),
        (card(input={"std": [0.5, 0, 0.5]}), ["input.std.1: 0", "above 0"]),
        (card(input={"dtype": "int8"}), ["input.dtype", "'int8'"]),
        (with_size(), ["input.size", "multiple_of"]),
        (with_size(fixed=[8, 8], multiple_of=8), ["input.size", "either"]),
        (with_size(multiple_of=0), ["input.size.multiple_of: 0"]),
        (with_size(multiple_of=8, target={"area": 9}), ["input.size.target", "'area'"]),
        (with_size(fixed=[8, 8], target={"height": 9}), ["input.size", "multiple_of"]),
        (card(output={"unit": "m"}), ["output.unit: 'm'", "null, since"]),
        (card(output={"unit": "feet", "quantity": "depth"}), ["output.unit", "'feet'"]),
        (card(output={"axes": "HWN1"}), ["output.axes", "N1HW"]),
        (card(output={"transform": [{"clip": [2, 1]}]}), ["output.transform.0.clip: found [2, 1]"]),
        (card(output={"transform": [{"power": 2}]}), ["output.transform.0", "'power'"]),
        (card(output={"transform": [{"multiply": 0}]}), ["output.transform.0.multiply", "other than 0"]),
        (card(output={"transform": [{}]}), ["output.transform.0", "clip"]),
        (card(sha256="12"), ["sha256", "64"]),
    ],
)
def test_a_card_that_breaks_its_schema_or_contradicts_itself(tmp_path, document, words):
    error = refusal(gray(tmp_path / "m.onnx", card=document))
    assert str(tmp_path / "m.json") in error.message
    assert_problem(error, *words)


@pytest.mark.parametrize(
    ("tag", "code"), [("dataset/1.0", "schema-mismatch"), ("depth-model/2.0", "schema-newer")]
)
def test_a_card_of_another_schema(tmp_path, tag, code):
    refusal(gray(tmp_path / "m.onnx", card=card(schema=tag)), code)


@pytest.mark.parametrize(
    ("options", "document", "words"),
    [
        ({}, card(input={"name": "image"}), ["input.name", "no input 'image'; it has 'input'"]),
        ({}, card(output={"name": "depth"}), ["output.name", "no output 'depth'; it has 'output'"]),
        (
            {},
            card(input={"layout": "NHWC"}),
            ["input.layout: NHWC", "(free, 3, free, free)", "has a free axis; expected 3"],
        ),
        ({}, card(output={"axes": "NHW"}), ["output.axes", "(free, 1, free, free)", "the card says NHW"]),
        ({}, card(output={"axes": "NHW1"}), ["output.axes", "the card says NHW1"]),
        (
            {"output": ("output", 1, ["n", 2, "h", "w"])},
            card(),
            ["output.axes", "(free, 2, free, free)", "the card says N1HW"],
        ),
        ({}, card(input={"dtype": "float16"}), ["input.dtype", "'input' is float", "the card says float16"]),
        (
            {"input": ("input", FLOAT16, ["n", 3, "h", "w"])},
            card(),
            ["input.dtype", "'input' is float16", "float32"],
        ),
        ({"input": ("input", 1, ["n", 3, "hw"])}, card(), ["input.layout", "(free, 3, free)"]),
        ({"input": ("input", 1, ["n", 4, "h", "w"])}, card(), ["input.layout", "has 4; expected 3"]),
        (
            {"input": ("input", 1, [1, 3, 64, 96])},
            card(),
            ["input.size", "takes one size only", '{"fixed": [64, 96]}', "found multiples of 1"],
        ),
        (
            {"output": ("output", 9, ["n", 1, "h", "w"])},
            card(),
            ["output.name", "'output' is bool, not a type of numbers"],
        ),
        (
            {"input": ("input", UINT8, ["n", 3, "h", "w"])},
            card(input={"dtype": "uint8", "range": [0, 1]}),
            ["input.dtype: uint8 takes pixels unchanged"],
        ),
    ],
)
def test_a_card_that_does_not_fit_its_graph(tmp_path, options, document, words):
    assert_problem(refusal(gray(tmp_path / "m.onnx", card=document, **options)), *words)


def test_an_input_that_the_card_does_not_feed(tmp_path):
    path = gray(tmp_path / "m.onnx")
    network = onnx.load(str(path))
    network.graph.input.append(helper.make_tensor_value_info("mask", 1, ["n", 1, "h", "w"]))
    onnx.save(network, str(path))
    assert_problem(refusal(path), "input: the graph also needs 'mask'")


def test_weights_listed_as_inputs_are_no_inputs(tmp_path):
    load_model(gray(tmp_path / "m.onnx", opset=9, ir_version=3, weights_as_inputs=True))


def test_all_problems_are_told_at_once(tmp_path):
    document = card(
        input={"name": "a", "range": [1, 0]},
        output={"name": "b", "transform": [{"clip": [1, 0]}]},
        sha256="0" * 64,
    )
    with pytest.raises(DepthModelError) as caught:
        load_model(gray(tmp_path / "m.onnx", card=document))
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "input.range",
        "output.transform.0.clip",
        "input.name",
        "output.name",
        "sha256",
    ]


def test_digest(tmp_path):
    path = gray(tmp_path / "m.onnx", card=card(sha256="0" * 64))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert_problem(refusal(path), "sha256:", "0" * 64, digest)
    path.with_suffix(".json").write_text(json.dumps(card(sha256=digest)))
    assert load_model(path).sha256 == digest


def test_no_card_shows_one_to_start_from(tmp_path):
    path = echo(tmp_path / "My Net.onnx", card=None)
    message = refusal(path, "card-missing").message
    assert str(tmp_path / "My Net.json") in message
    start = json.loads(message[message.index("{") :])
    assert start["name"] == "my-net"
    assert (start["input"]["name"], start["output"]["name"]) == ("input", "output")
    path.with_suffix(".json").write_text(json.dumps(start))
    load_model(path)


def test_the_card_to_start_from_fits_a_network_of_fixed_size(tmp_path):
    path = write_network(
        tmp_path / "m.onnx",
        [helper.make_node("ReduceMean", ["input"], ["output"], axes=[3], keepdims=0)],
        input=("input", 1, [1, 24, 32, 3]),
        output=("output", 1, [1, 24, 32]),
        card=None,
    )
    message = refusal(path, "card-missing").message
    start = json.loads(message[message.index("{") :])
    assert (start["input"]["layout"], start["output"]["axes"]) == ("NHWC", "NHW")
    assert start["input"]["size"] == {"fixed": [24, 32]}
    path.with_suffix(".json").write_text(json.dumps(start))
    load_model(path)


@pytest.mark.parametrize("text", ['{"schema": ', "[NaN]", "[" * 100_000, '{"a": 1, "a": 1}', "[1e999]"])
def test_a_card_that_is_no_json(tmp_path, text):
    path = gray(tmp_path / "m.onnx")
    path.with_suffix(".json").write_text(text, encoding="utf-8")
    assert str(path.with_suffix(".json")) in refusal(path).message


def test_a_card_that_is_no_text(tmp_path):
    path = gray(tmp_path / "m.onnx")
    path.with_suffix(".json").write_bytes(b"\xff\xfe\x00")
    refusal(path)


def test_files_that_are_no_model(tmp_path):
    gray(tmp_path / "m.onnx")
    whole = (tmp_path / "m.onnx").read_bytes()
    for content in (
        b"",
        b"version https://git-lfs.github.com/spec/v1\n",
        b"\x89PNG\r\n\x1a\n",
        whole[: len(whole) // 2],
        onnx.ModelProto(ir_version=7).SerializeToString(),
    ):
        (tmp_path / "m.onnx").write_bytes(content)
        assert str(tmp_path / "m.onnx") in refusal(tmp_path / "m.onnx", "model-file-corrupt").message


def test_references_to_nothing(tmp_path):
    gray(tmp_path / "m.onnx")
    for reference in ("midas", tmp_path / "n.onnx", tmp_path / "midas", tmp_path, tmp_path / "m.json"):
        assert str(reference) in refusal(reference, "model-unknown").message


def test_weights_in_a_file_beside(tmp_path):
    path = gray(tmp_path / "m.onnx", external=True)
    load_model(path)
    (tmp_path / "m.weights").unlink()
    assert_problem(refusal(path), str(tmp_path / "m.weights"))


def test_a_card_of_a_newer_minor_version_is_read_with_a_warning(tmp_path):
    path = gray(tmp_path / "m.onnx", card=card(schema="depth-model/1.9", news=True))
    with pytest.warns(schema.NewerSchemaWarning, match=r"depth-model/1\.9"):
        model = load_model(path)
    assert model.card.document == card()


def test_weights_do_not_have_to_be_float32(tmp_path):
    path = write_network(
        tmp_path / "m.onnx",
        [helper.make_node("Conv", ["input", "weights"], ["output"])],
        input=("input", FLOAT16, ["n", 3, "h", "w"]),
        output=("output", FLOAT16, ["n", 1, "h", "w"]),
        weights={"weights": np.ones((1, 3, 1, 1), np.float16)},
        card=card(input={"dtype": "float16"}),
    )
    load_model(path)
