"""Compiling ONNX files of any opset, with external weights, inner graphs, and defects."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from compiled_graphs import HALF_SPACING, pictures, run
from onnx import helper
from onnx_models import FLOAT, card, gray, write_network
from refusals import refused

from fgbgpack.depth import load_model
from fgbgpack.depth.graph import compile_graph
from fgbgpack.errors import DepthModelError


@pytest.mark.parametrize("opset", [11, 12, 13, 17, 18, 21, 22])
def test_opsets(tmp_path, opset):
    path = gray(tmp_path / "m.onnx", opset=opset, ir_version=10 if opset > 20 else 7)
    compiled = compile_graph(load_model(path), (4, 6), scale=2)
    assert [(entry.domain, entry.version) for entry in compiled.opset_import] == [("", opset)]
    images = np.full((2, 8, 12, 3), (8, 16, 32), np.uint8)
    np.testing.assert_array_equal(run(path, images, scale=2), np.full((2, 4, 6), 18))


@pytest.mark.parametrize("ir_version", [3, 4])
def test_old_opset_is_converted(tmp_path, ir_version):
    nodes = [
        helper.make_node("Conv", ["input", "weights"], ["half"], strides=[2, 2]),
        helper.make_node("Upsample", ["half", "scales"], ["output"], mode="nearest"),
    ]
    weights = {
        "weights": np.full((1, 3, 2, 2), 1 / 12, np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    path = write_network(
        tmp_path / "m.onnx",
        nodes,
        weights=weights,
        opset=9,
        ir_version=ir_version,
        weights_as_inputs=ir_version == 3,
    )
    images = pictures(8, 6)
    expected = images.reshape(2, 4, 2, 3, 2, 3).mean(axis=(2, 4, 5)).repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(run(path, images), expected, atol=HALF_SPACING)


def test_old_opset_that_cannot_be_converted(tmp_path):
    nodes = [
        helper.make_node("Gather", ["input", "channel"], ["red"], axis=1),
        helper.make_node("NoSuchOperator", ["red"], ["output"]),
    ]
    path = write_network(tmp_path / "m.onnx", nodes, weights={"channel": np.array([0])}, opset=9)
    with refused(DepthModelError, "model-not-runnable") as caught:
        run(path, pictures(4, 4))
    assert f"{path} is of ONNX opset 9" in caught.value.message


def test_a_graph_that_breaks_onnx(tmp_path):
    nodes = [
        helper.make_node("Conv", ["input", "weights"], ["output"], colour="blue"),
    ]
    weights = {"weights": np.ones((1, 3, 1, 1), np.float32)}
    path = write_network(tmp_path / "m.onnx", nodes, weights=weights)
    with refused(DepthModelError, "model-file-corrupt", "colour"):
        run(path, pictures(4, 4))


def test_names_of_the_network_cannot_collide_with_ours(tmp_path):
    nodes = [
        helper.make_node("Gather", ["images", "fgbgpack/1_Transpose"], ["n"], axis=1, name="fgbgpack/2_Cast"),
        helper.make_node("Identity", ["n"], ["depth"]),
    ]
    path = write_network(
        tmp_path / "m.onnx",
        nodes,
        input=("images", FLOAT, ["n", 3, "h", "w"]),
        output=("depth", FLOAT, ["n", 1, "h", "w"]),
        weights={"fgbgpack/1_Transpose": np.array([0])},
        card=card(input={"name": "images"}, output={"name": "depth"}),
    )
    images = pictures(4, 4)
    np.testing.assert_array_equal(run(path, images), images[..., 0])


def test_graphs_within_the_graph_see_the_same_names(tmp_path):
    def branch(factor):
        return helper.make_graph(
            [helper.make_node("Mul", ["red", factor], ["scaled"])],
            factor,
            [],
            [helper.make_tensor_value_info("scaled", FLOAT, None)],
        )

    nodes = [
        helper.make_node("Gather", ["input", "channel"], ["red"], axis=1),
        helper.make_node("ReduceMax", ["red"], ["largest"], keepdims=0),
        helper.make_node("Greater", ["largest", "much"], ["bright"]),
        helper.make_node("If", ["bright"], ["output"], then_branch=branch("half"), else_branch=branch("two")),
    ]
    weights = {
        "channel": np.array([0]),
        "much": np.array(100, np.float32),
        "half": np.array(0.5, np.float32),
        "two": np.array(2, np.float32),
    }
    path = write_network(tmp_path / "m.onnx", nodes, weights=weights)
    for value, expected in [(64, 128), (200, 100)]:
        assert (run(path, np.full((1, 4, 4, 3), value, np.uint8)) == expected).all()


def test_size_of_the_answer_is_measured_where_it_cannot_be_inferred(tmp_path):
    # The size comes from data, by a way that shape inference does not follow.
    nodes = [
        helper.make_node("Conv", ["input", "weights"], ["gray"]),
        helper.make_node("Shape", ["gray"], ["shape"]),
        helper.make_node("Cast", ["shape"], ["shape_float"], to=FLOAT),
        helper.make_node("Mul", ["shape_float", "factors"], ["wanted_float"]),
        helper.make_node("Ceil", ["wanted_float"], ["wanted_whole"]),
        helper.make_node("Cast", ["wanted_whole"], ["wanted"], to=7),
        helper.make_node("Resize", ["gray", "", "", "wanted"], ["output"], mode="nearest"),
    ]
    weights = {
        "weights": np.ones((1, 3, 1, 1), np.float32),
        "factors": np.array([1, 1, 0.5, 0.5], np.float32),
    }
    path = write_network(tmp_path / "m.onnx", nodes, weights=weights, output=("output", FLOAT, None))
    network = onnx.load(str(path))
    for dim, length in zip(network.graph.input[0].type.tensor_type.shape.dim, (1, 3, 8, 8), strict=True):
        dim.dim_value = length
    inferred = onnx.shape_inference.infer_shapes(network, data_prop=True).graph.output[0]
    assert not any(d.HasField("dim_value") for d in inferred.type.tensor_type.shape.dim)
    images = np.full((3, 8, 8, 3), 10, np.uint8)
    np.testing.assert_array_equal(run(path, images, scale=2), np.full((3, 4, 4), 30))


def test_a_network_that_cannot_run_at_this_size(tmp_path):
    nodes = [
        helper.make_node("Gather", ["input", "channel"], ["red"], axis=1),
        helper.make_node("Reshape", ["red", "shape"], ["output"]),
    ]
    weights = {"channel": np.array([0]), "shape": np.array([-1, 1, 32, 32])}
    path = write_network(tmp_path / "m.onnx", nodes, weights=weights, output=("output", FLOAT, None))
    images = pictures(33, 31)
    with refused(DepthModelError, "model-not-runnable", r"\[1, 3, 33, 31\]") as caught:
        run(path, images)
    assert str(path) in caught.value.message


def test_stored_intermediate_shapes_of_another_size_do_no_harm(tmp_path):
    path = gray(tmp_path / "m.onnx", output=("output", FLOAT, ["n", 1, 64, 64]))
    images = np.full((2, 4, 4, 3), (8, 16, 32), np.uint8)
    np.testing.assert_array_equal(run(path, images), np.full((2, 4, 4), 18))
