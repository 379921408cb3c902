"""The schemas, what is reported of documents that violate them, and older and newer versions."""

from __future__ import annotations

import copy
import warnings
from collections import Counter

import onnx_models
import pytest
from jsonschema import Draft202012Validator

from fgbgpack import schema
from fgbgpack.conformance import conformance
from fgbgpack.depth.registry import our_card
from fgbgpack.errors import DatasetError, DepthModelError, SpecError

SPEC = {"schema": "spec/1.0", "backgrounds": "bg", "foregrounds": "fg"}
DIGEST = "0" * 64
DEVICE = {"provider": "CPUExecutionProvider", "hardware": "A", "onnxruntime": "1.20", "ranges": None}
DATASET = {
    "schema": "dataset/1.0",
    "generation": "0123456789abcdef" * 2,
    "complete": True,
    "spec": SPEC,
    "recipe": {"sha256": DIGEST, "samples": 3},
    "sources": {
        "backgrounds": [{"name": "b.png", "sha256": DIGEST}],
        "foregrounds": [{"name": "f.png", "sha256": DIGEST, "mask_name": "f.png", "mask_sha256": DIGEST}],
    },
    "pixels": {"complete": True},
    "depth": {
        "complete": False,
        "mode": "per-sample",
        "model": onnx_models.CARD,
        "sha256": DIGEST,
        "guide": None,
        "scale": 2,
        "bits": 9,
        "precision": "fp32",
        "step": 0.0625,
        "devices": [DEVICE],
    },
    "software": {"fgbgpack": "0.1"},
    "manifest": {
        "path": "manifest/0123456789abcdef",
        "arrays": {"image": {"sha256": DIGEST, "first": 0, "chunks": 3}},
        "parts": ["0123abcd"],
    },
}
EXPORT = {
    "schema": "export/1.0",
    "format": "coco",
    "samples": 3,
    "selection": DIGEST,
    "options": {"depth_bits": 16},
    "height": 16,
    "width": 24,
    "fields": ["image", "mask", "depth"],
    "parts": {"train": 2, "val": 1},
    "depth": {
        "quantity": "inverse_depth",
        "unit": None,
        "mapping": {"low": -1.5, "high": 4.0, "bits": 16, "to_depth": "a formula", "unknown": None},
    },
    "details": {"mask_above": 127},
    "dataset": {"schema": "dataset/1.0", "sha256": DIGEST, "recipe": {"sha256": DIGEST, "samples": 3}},
    "software": {"fgbgpack": "0.1"},
}
BINS = {"least": 0, "greatest": 1.0, "counts": [3, 0]}
COUNTED = {
    "samples": 3,
    "image": {"mean": [0.5, 0, 1], "std": [0.1, 0, 0], "total": [9, 0, 9], "squares": [9, 0, 9]},
    "mask": {"share": 0.25, "pixels": 4, "alpha": 0.3, "empty": 1, "histogram": BINS},
    "depth": None,
    "backgrounds": 1,
    "foregrounds": 2,
}
STATS = {
    "schema": "stats/1.0",
    "generation": "0123",
    "total": 3,
    "height": 16,
    "width": 24,
    "whole": COUNTED,
    "places": [[3, 1]],
    "counts": None,
    "sizes": None,
    "same_backgrounds": 0,
    "same_foregrounds": 0,
    "same_samples": None,
    "split": {"name": "fair", "by": "background", "seed": 0, "parts": {"train": 0.5}},
    "parts": {"train": COUNTED},
    "shared": [],
}
GOOD = {
    "stats": STATS,
    "cutout-model": our_card("birefnet-general").document,
    "spec": SPEC,
    "dataset": DATASET,
    "depth-model": our_card("midas-v2.1-small").document,
    "export": EXPORT,
}


# --- the schemas -----------------------------------------------------------------------------------


def test_there_is_a_schema_for_each_document():
    assert sorted(schema.CURRENT) == sorted(GOOD) == sorted(path.name for path in schema.folder().iterdir())


@pytest.mark.parametrize("name", sorted(schema.CURRENT))
def test_a_schema_is_valid_2020_12_with_an_id_and_a_title(name):
    document = schema.load_schema(name)
    Draft202012Validator.check_schema(document)
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert document["$id"] == f"urn:fgbgpack:schema:{name}:{schema.CURRENT[name]}"
    assert document["title"]
    assert document["properties"]["schema"]["const"] == f"{name}/{schema.CURRENT[name]}"


def described(root, node, where):
    """Every property below a schema, with what describes it."""
    if not isinstance(node, dict):
        return
    for key, value in node.get("properties", {}).items():
        target = value
        if "$ref" in value and "description" not in value:
            target = root
            for part in value["$ref"].removeprefix("#/").split("/"):
                target = target[part]
        yield f"{where}.{key}", target.get("description")
        yield from described(root, value, f"{where}.{key}")
    for key in ("items", "additionalProperties"):
        yield from described(root, node.get(key), f"{where}[]")
    for key, value in node.get("$defs", {}).items():
        yield f"{where}.$defs.{key}", value.get("description")
        yield from described(root, value, f"{where}.$defs.{key}")


@pytest.mark.parametrize("name", sorted(schema.CURRENT))
def test_every_property_has_a_description(name):
    document = schema.load_schema(name)
    found = dict(described(document, document, name))
    assert len(found) > 10
    assert [where for where, text in found.items() if not text] == []


@pytest.mark.parametrize("name", sorted(schema.CURRENT))
def test_defaults_are_allowed_by_their_own_schema(name):
    def defaults(node):
        for value in node.get("properties", {}).values():
            if "default" in value:
                yield value
            yield from defaults(value)

    for value in defaults(schema.load_schema(name)):
        assert Draft202012Validator(value).is_valid(value["default"]), value


@pytest.mark.parametrize(
    ("words", "listed"),
    [
        (("sample",), "cutout-model, dataset, depth-model, export, spec, stats"),
        (("spec", "0.9"), "It has 1.0"),
        (("spec", "../spec/1.0x"), "It has 1.0"),
        (("spec", "1.0/../1.1x"), "It has 1.0"),
    ],
)
def test_an_unknown_name_or_version_is_refused_with_a_list(words, listed):
    with pytest.raises(SpecError) as caught:
        schema.load_schema(*words)
    assert caught.value.code == "schema-unknown"
    assert listed in caught.value.message


# --- problems --------------------------------------------------------------------------------------


def test_guided_depth_names_both_networks_and_may_wait_for_its_grid():
    devices = [DEVICE | {"ranges": [[0, 10], [20, 25]]}, DEVICE]
    guide = {"model": onnx_models.CARD, "sha256": DIGEST, "devices": devices}
    guided = DATASET["depth"] | {"mode": "guided", "guide": guide, "scale": 16, "step": None}
    assert schema.problems("dataset", DATASET | {"depth": guided}) == []
    of_files = {"model": None, "sha256": None, "devices": []}
    assert schema.problems("dataset", DATASET | {"depth": guided | of_files}) == []
    for wrong in (
        {"guide": {"model": onnx_models.CARD}},
        {"mode": "both"},
        {"step": 0},
        {"scale": 17},
        {"devices": []},
        {"guide": guide | {"devices": []}},
        {"model": None},
        {"model": None, "devices": []},
        {"model": None, "sha256": None},
        {"sha256": None},
        {"devices": [DEVICE | {"ranges": []}]},
        {"devices": [DEVICE | {"ranges": [[1]]}]},
    ):
        assert schema.problems("dataset", DATASET | {"depth": guided | wrong}), wrong


@pytest.mark.parametrize("name", sorted(GOOD))
def test_a_good_document_has_no_problems_and_is_not_changed(name):
    before = copy.deepcopy(GOOD[name])
    assert schema.problems(name, GOOD[name]) == []
    read = schema.read(name, GOOD[name], where="it")
    assert read == before == GOOD[name]
    assert read is not GOOD[name]


def test_all_problems_are_reported_each_with_its_place():
    broken = copy.deepcopy(DATASET)
    broken["sources"]["backgrounds"][0]["sha256"] = "12"
    broken["pixels"] = {"complete": "yes", "more": 1}
    broken["depth"]["bits"] = 11
    del broken["software"]
    with pytest.raises(DatasetError) as caught:
        schema.read("dataset", broken, where="lobby.zarr")
    problems = caught.value.problems
    assert caught.value.code == "schema-violated"
    assert "lobby.zarr" in caught.value.message
    for place in ("sources.backgrounds.0.sha256", "pixels.complete", "pixels:", "depth.bits", "software"):
        assert any(place in problem for problem in problems), place
    assert len(problems) == 5


def test_a_problem_says_what_was_found_and_what_was_expected():
    (problem,) = schema.problems("spec", {**SPEC, "width": 7})
    assert problem.startswith("width: 7 ")
    assert "8 to 8192 pixels" in problem


def test_a_long_value_does_not_fill_the_screen():
    (problem,) = schema.problems("spec", {**SPEC, "placements": list(range(5000))})
    assert len(problem) < 500


@pytest.mark.parametrize("value", [True, 3.0, 3.5, "3", None, float("nan"), float("inf")])
def test_a_count_is_an_integer_and_nothing_like_one(value):
    problems = schema.problems("spec", {**SPEC, "placements": value})
    assert problems
    assert all(problem.startswith("placements: ") for problem in problems)


# --- the fast way and the one that explains -------------------------------------------------------

ODD = (None, True, 0, 1, 1.0, -1, 2**70, 0.5, float("nan"), float("inf"), "", "x", "ab.png\n", "a/b")
ODD += (DIGEST, f"{DIGEST}\n", "guided", "imported", [], [1, 2], ["rgb", "rgb"], {}, {"x-a": 1}, {"a": {}})


def altered(value):
    """The same with one thing changed, in every place and in many ways."""
    yield from ODD
    if isinstance(value, dict):
        for key in value:
            yield {name: field for name, field in value.items() if name != key}
            for other in altered(value[key]):
                yield value | {key: other}
        yield from (value | {key: odd} for key in ("other", "x-other", "imported") for odd in (1, {}))
    if isinstance(value, list):
        yield from (value[1:], [*value, *value])
        for i, item in enumerate(value[:2]):
            for other in altered(item):
                yield [*value[:i], other, *value[i + 1 :]]


@pytest.mark.parametrize("name", sorted(schema.CURRENT))
def test_documents_are_found_right_that_jsonschema_finds_right_and_no_others(name):
    follows, validator = conformance(schema.load_schema(name)), schema._validator(name)
    verdicts = Counter()
    for document in altered(GOOD[name]):
        right = validator.is_valid(document)
        assert follows(document) == right, document
        verdicts[right] += 1
    assert min(verdicts[True], verdicts[False]) > 10, verdicts


def test_a_keyword_of_a_schema_that_is_not_known_is_not_overlooked():
    with pytest.raises(ValueError, match="multipleOf"):
        conformance({"properties": {"a": {"type": "integer", "multipleOf": 2}}})


@pytest.mark.parametrize(
    ("value", "others"),
    [(1, [True, "1", 2]), (True, [1, 1.0]), (None, [False, 0, [], {}]), ("a", [["a"], {"a": 1}, "b"])],
)
def test_a_constant_is_nothing_that_python_calls_equal(value, others):
    assert conformance({"const": value})(value)
    assert not any(map(conformance({"enum": [value]}), others))


# --- kinds and versions ----------------------------------------------------------------------------


def refusal(name, document):
    """The code of the error that a document is refused with."""
    with pytest.raises(SpecError) as caught:
        schema.read(name, document, where="it", error=SpecError)
    return caught.value.code


@pytest.mark.parametrize("document", [None, 3, [], "spec/1.0", {}, {"schema": 1}, {"schema": "dataset/1.0"}])
def test_something_else_is_not_a_document(document):
    assert refusal("spec", document) == "schema-mismatch"


@pytest.mark.parametrize("tag", ["spec/1", "spec/1.0.0", "spec/x.y", "spec/-1.0", "spec/1.0\n", " spec/1.0"])
def test_a_mangled_version_is_refused(tag):
    assert refusal("spec", {**SPEC, "schema": tag}) == "schema-mismatch"


@pytest.mark.parametrize("tag", ["spec/2.0", "spec/2.7", "spec/10.0"])
def test_a_newer_major_version_is_refused(tag):
    assert refusal("spec", {**SPEC, "schema": tag, "anything": 1}) == "schema-newer"


def test_a_version_that_was_never_released_is_refused():
    assert refusal("spec", {**SPEC, "schema": "spec/0.9"}) == "schema-unknown"


def test_a_newer_minor_version_is_read_with_a_warning_without_what_is_new():
    newer = copy.deepcopy(DATASET) | {"schema": "dataset/1.12", "licence": "CC0"}
    newer["recipe"]["colours"] = 3
    newer["sources"]["backgrounds"][0]["licence"] = "CC0"
    newer["depth"]["focal"] = 1.5
    with pytest.warns(schema.NewerSchemaWarning, match=r"lobby\.zarr has schema dataset/1\.12"):
        read = schema.read("dataset", newer, where="lobby.zarr")
    assert read == DATASET


def test_a_newer_minor_card_keeps_the_extensions_of_others():
    newer = copy.deepcopy(onnx_models.CARD) | {"schema": "depth-model/1.1", "x-mine": {"a": 1}, "novel": 2}
    newer["input"]["x-note"] = "kept"
    with pytest.warns(schema.NewerSchemaWarning):
        read = schema.read("depth-model", newer, where="it", error=DepthModelError)
    assert "novel" not in read
    assert read["x-mine"] == {"a": 1}
    assert read["input"]["x-note"] == "kept"


def test_a_newer_minor_version_is_still_checked():
    with pytest.warns(schema.NewerSchemaWarning), pytest.raises(DatasetError) as caught:
        schema.read("dataset", {**DATASET, "schema": "dataset/1.1", "complete": 1}, where="it")
    assert caught.value.code == "schema-violated"


def test_this_version_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schema.read("dataset", DATASET, where="it")


def test_older_versions_go_up_step_by_step(monkeypatch):
    steps = {
        ("spec", "0.8"): lambda d: {**d, "schema": "spec/0.9", "foregrounds": d["foregrounds"] + "9"},
        ("spec", "0.9"): lambda d: {**d, "schema": "spec/1.0", "foregrounds": d["foregrounds"] + "10"},
    }
    monkeypatch.setattr(schema, "_UPGRADES", steps)
    old = {**SPEC, "schema": "spec/0.8"}
    assert schema.read("spec", old, where="it")["foregrounds"] == "fg910"
    assert old["schema"] == "spec/0.8"


def dataset_with(**fields):
    return copy.deepcopy(DATASET) | fields


def named(name):
    document = copy.deepcopy(DATASET)
    document["sources"]["backgrounds"][0]["name"] = name
    return document


@pytest.mark.parametrize("name", ["", "a/b", "a\x00", "a\n", "\x7f", "x" * 256])
def test_names_of_files_are_names_of_files(name):
    (line,) = schema.problems("dataset", named(name))
    assert line.startswith("sources.backgrounds.0.name: ")
    assert schema.problems("dataset", named("größe \\ 背景.png")) == []


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_are_those_that_json_has(number):
    document = copy.deepcopy(DATASET)
    document["depth"]["step"] = number
    assert [line.partition(":")[0] for line in schema.problems("dataset", document)] == ["depth.step"]


def test_a_million_wrong_values_are_not_all_told():
    document = dataset_with(software={str(i): i for i in range(1_000_000)})
    assert len(schema.problems("dataset", document)) == 100


def test_many_items_are_compared_in_little_time():
    # Each with each, these would take hours.
    fields = [[i] if i % 2 else i for i in range(200_000)]
    found = schema.problems("export", copy.deepcopy(EXPORT) | {"fields": fields})
    assert len(found) == 100
    twice = schema.problems("export", copy.deepcopy(EXPORT) | {"fields": ["image", "mask", "image"]})
    assert len(twice) == 1


@pytest.mark.parametrize("tag", ["dataset/" + "9" * 5000 + ".0", "dataset/1.²", "dataset/٣.0"])
def test_absurd_versions_are_no_versions(tag):
    with pytest.raises(DatasetError) as caught:
        schema.read("dataset", dataset_with(schema=tag), where="it")
    assert caught.value.code == "schema-mismatch"
