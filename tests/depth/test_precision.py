"""Networks in float16: what is taken in it, what never is, and what a dataset says of it."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from builders import depth_of
from onnx import helper
from onnx_models import FLOAT, FLOAT16, card, echo, gray, write_network
from refusals import refused

from fgbgpack import create, fill_depth, open_dataset
from fgbgpack.depth import DepthSession, Execution, load_model
from fgbgpack.depth.graph import compile_graph, new_session, session_options
from fgbgpack.depth.precision import in_half
from fgbgpack.depth.providers import Gpu, UnavailableError
from fgbgpack.errors import DepthModelError, RecipeMismatchError
from fgbgpack.pipeline import Notice
from fgbgpack.visual.info import describe

RNG = np.random.default_rng(5)


def drawn(height=6, width=8, n=2):
    return RNG.integers(0, 256, (n, height, width, 3), np.uint8)


def compiled(path, images, precision="fp16"):
    model = load_model(path)
    return model, compile_graph(model, images.shape[1:3], precision=precision)


def run(path, images, precision="fp16"):
    model, graph = compiled(path, images, precision)
    session = new_session(model, graph, session_options(), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images, "step": np.zeros(1, np.float32)})[0].astype(np.float64)


def types_of(path, images):
    """The element type of the first output of each node of the compiled graph, by operator."""
    graph = onnx.shape_inference.infer_shapes(compiled(path, images)[1]).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
    return {
        node.op_type: types[node.output[0]]
        for node in graph.node
        if any(name.startswith(("network/", "half/network/")) for name in node.output)
    }


CHANNEL_MIX = np.array([0.25, 0.5, 0.25], np.float32).reshape(1, 3, 1, 1)


def network(path, nodes, weights=None, **options):
    """A network that begins with a product: ``gray`` is 0.25 R + 0.5 G + 0.25 B."""
    nodes = [helper.make_node("Conv", ["input", "mix"], ["gray"]), *nodes]
    return write_network(path, nodes, weights={"mix": CHANNEL_MIX, **(weights or {})}, **options)


def mixed(images):
    return (images @ [0.25, 0.5, 0.25]).astype(np.float32)


def test_products_are_taken_in_float16(tmp_path):
    path = network(
        tmp_path / "m.onnx",
        [
            helper.make_node("Relu", ["gray"], ["positive"]),
            helper.make_node("Mul", ["positive", "third"], ["output"]),
        ],
        {"third": np.array(1 / 3, np.float32)},
    )
    images = drawn()
    assert types_of(path, images) == {
        "Identity": FLOAT,
        "Conv": FLOAT16,
        "Relu": FLOAT16,
        "Mul": FLOAT16,
        "Cast": FLOAT,
    }
    half = mixed(images).astype(np.float16).astype(np.float32) * np.float32(np.float16(1 / 3))
    np.testing.assert_allclose(run(path, images), half, rtol=2**-10)


def test_before_and_after_the_network_all_is_float32(tmp_path):
    steps = [{"multiply": 100000.0}, {"multiply": 0.00001}]
    document = card(
        input={"range": [0, 1], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        output={"transform": steps},
    )
    path = gray(tmp_path / "m.onnx", card=document)
    images = drawn()
    np.testing.assert_allclose(run(path, images), run(path, images, "fp32"), atol=4e-3)


def test_sizes_worked_out_in_floating_point_stay_exact(tmp_path):
    # 2051 is no float16: as one, the network would ask for 2052 columns.
    nodes = [
        helper.make_node("Shape", ["gray"], ["shape"]),
        helper.make_node("Cast", ["shape"], ["as_float"], to=FLOAT),
        helper.make_node("Mul", ["as_float", "one"], ["scaled"]),
        helper.make_node("Floor", ["scaled"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["wanted"], to=onnx.TensorProto.INT64),
        helper.make_node("Reshape", ["gray", "wanted"], ["output"]),
    ]
    path = network(tmp_path / "m.onnx", nodes, {"one": np.array(1, np.float32)})
    images = drawn(2, 2051, n=1)
    np.testing.assert_array_equal(run(path, images), mixed(images).astype(np.float16))


def test_weights_that_float16_cannot_hold_stay_float32(tmp_path):
    nodes = [
        helper.make_node("Mul", ["gray", "much"], ["large"]),
        helper.make_node("Mul", ["large", "little"], ["output"]),
    ]
    weights = {"much": np.array(1e6, np.float32), "little": np.array(1e-6, np.float32)}
    path = network(tmp_path / "m.onnx", nodes, weights)
    assert types_of(path, drawn())["Mul"] == FLOAT
    images = drawn()
    np.testing.assert_allclose(run(path, images), mixed(images), rtol=2**-10)


@pytest.mark.parametrize("as_node", [False, True])
def test_the_small_number_that_keeps_a_division_from_zero(tmp_path, as_node):
    nodes = [
        helper.make_node("Sub", ["gray", "gray"], ["nothing"]),
        helper.make_node("Add", ["nothing", "small"], ["never_zero"]),
        helper.make_node("Div", ["nothing", "never_zero"], ["output"]),
    ]
    if as_node:
        nodes.insert(0, helper.make_node("Constant", [], ["small"], value_float=1e-12))
    path = network(tmp_path / "m.onnx", nodes, None if as_node else {"small": np.array(1e-12, np.float32)})
    assert types_of(path, drawn())["Div"] == FLOAT16
    np.testing.assert_array_equal(run(path, drawn()), 0)


def layer_norm(name):
    """Normalisation over the width, written out as exporters do; the squares of its values exceed 65504."""
    return [
        helper.make_node("Mul", ["gray", "five"], ["wide"]),
        helper.make_node("ReduceMean", ["wide"], ["mean"], axes=[3]),
        helper.make_node("Sub", ["wide", "mean"], ["off"]),
        helper.make_node("Pow", ["off", "two"], ["squared"]),
        helper.make_node("ReduceMean", ["squared"], ["variance"], axes=[3]),
        helper.make_node("Add", ["variance", "small"], ["above_zero"]),
        helper.make_node("Sqrt", ["above_zero"], ["deviation"]),
        helper.make_node("Div", ["off", "deviation"], [name]),
    ]


def test_sums_of_squares_do_not_overflow_unseen(tmp_path):
    weights = {
        "five": np.array(5, np.float32),
        "two": np.array(2, np.float32),
        "small": np.array(1e-5, np.float32),
        "second": np.full((1, 1, 1, 1), 2, np.float32),
    }
    nodes = [*layer_norm("normal"), helper.make_node("Conv", ["normal", "second"], ["output"])]
    path = network(tmp_path / "m.onnx", nodes, weights)
    images = drawn(4, 40)
    found, expected = run(path, images), run(path, images, "fp32")
    assert expected.max() > 2  # in float16 all through, the division is by infinity, and all is 0
    np.testing.assert_allclose(found, expected, atol=0.01)
    assert types_of(path, images)["Conv"] == FLOAT16


def test_operators_that_take_several_kinds_of_numbers(tmp_path):
    nodes = [
        helper.make_node("Resize", ["gray", "", "factors"], ["larger"], mode="linear"),
        helper.make_node("BatchNormalization", ["larger", "g", "b", "m", "v"], ["normal"]),
        helper.make_node("Concat", ["normal", "normal", "larger"], ["three"], axis=1),
        helper.make_node("Clip", ["three", "low", "high"], ["clipped"]),
        helper.make_node("TopK", ["clipped", "one"], ["best", "where"], axis=1),
        helper.make_node("MaxPool", ["best"], ["output"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    weights = {
        "factors": np.array([1, 1, 2, 2], np.float32),
        "g": np.array([2], np.float32),
        "b": np.array([1], np.float32),
        "m": np.array([3], np.float32),
        "v": np.array([4], np.float32),
        "low": np.array(-1e5, np.float32),
        "high": np.array(3e38, np.float32),
        "one": np.array([1]),
    }
    path = network(tmp_path / "m.onnx", nodes, weights)
    images = drawn()
    np.testing.assert_allclose(run(path, images), run(path, images, "fp32"), rtol=2**-8)
    assert types_of(path, images)["Resize"] == FLOAT16


def test_graphs_within_the_graph_are_left_in_float32(tmp_path):
    def branch(factor):
        return helper.make_graph(
            [helper.make_node("Mul", ["half_size", factor], ["scaled"])],
            factor,
            [],
            [helper.make_tensor_value_info("scaled", FLOAT, None)],
        )

    nodes = [
        helper.make_node("Relu", ["gray"], ["half_size"]),
        helper.make_node("ReduceMax", ["half_size"], ["largest"], keepdims=0),
        helper.make_node("Greater", ["largest", "much"], ["bright"]),
        helper.make_node("If", ["bright"], ["chosen"], then_branch=branch("two"), else_branch=branch("half")),
        helper.make_node("Conv", ["chosen", "same"], ["output"]),
    ]
    weights = {
        "much": np.array(100, np.float32),
        "half": np.array(0.5, np.float32),
        "two": np.array(2, np.float32),
        "same": np.ones((1, 1, 1, 1), np.float32),
    }
    path = network(tmp_path / "m.onnx", nodes, weights)
    for value, expected in [(64, 32), (200, 400)]:
        assert (run(path, np.full((1, 4, 4, 3), value, np.uint8)) == expected).all()


def test_functions_of_the_models_own(tmp_path):
    path = gray(tmp_path / "m.onnx", opset=17, ir_version=9)
    model = onnx.load(str(path))
    mix = helper.make_function(
        "example", "Mix", ["x", "w"], ["y"], [helper.make_node("Conv", ["x", "w"], ["y"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    model.functions.append(mix)
    model.opset_import.append(helper.make_opsetid("example", 1))
    model.graph.node[0].CopyFrom(helper.make_node("Mix", ["input", "weights"], ["output"], domain="example"))
    onnx.save(model, str(path))
    images = drawn()
    assert types_of(path, images)["Conv"] == FLOAT16
    np.testing.assert_array_equal(run(path, images), mixed(images).astype(np.float16))


@pytest.mark.parametrize("opset", [11, 13, 18, 22])
def test_opsets_and_weights_beside_the_file(tmp_path, opset):
    path = gray(tmp_path / "there" / "m.onnx", opset=opset, ir_version=10 if opset > 20 else 7, external=True)
    images = drawn()
    assert types_of(path, images)["Conv"] == FLOAT16
    np.testing.assert_array_equal(run(path, images), mixed(images).astype(np.float16))


def test_weights_that_nothing_needs_in_float32_are_dropped(tmp_path):
    weights = RNG.normal(size=(8, 3, 9, 9)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["input", "many"], ["features"], pads=[4] * 4),
        helper.make_node("ReduceMean", ["features"], ["output"], axes=[1]),
    ]
    path = write_network(tmp_path / "m.onnx", nodes, weights={"many": weights})
    images = drawn()
    sizes = [compiled(path, images, p)[1].ByteSize() for p in ("fp32", "fp16")]
    assert sizes[0] - sizes[1] > 0.45 * weights.nbytes


def test_a_network_in_float16_is_taken_as_it_is(tmp_path):
    path = echo(
        tmp_path / "m.onnx",
        input=("input", FLOAT16, ["n", 3, "h", "w"]),
        output=("output", FLOAT16, ["n", 1, "h", "w"]),
        card=card(input={"dtype": "float16"}),
    )
    model = load_model(path)
    before = onnx.load(str(path))
    assert in_half(before, model).SerializeToString() == onnx.load(str(path)).SerializeToString()
    images = drawn()
    np.testing.assert_array_equal(run(path, images), images[..., 0])


def test_a_network_without_products_is_refused(tmp_path):
    path = echo(tmp_path / "m.onnx")
    with refused(DepthModelError, "precision-unsupported") as caught:
        DepthSession(load_model(path), (6, 8), execution=Execution("fp16", "cpu"))
    assert str(path) in caught.value.message


def test_what_is_not_finite_in_float16_may_be_so_in_float32(tmp_path):
    nodes = [
        helper.make_node("Sub", ["gray", "much"], ["negative"]),
        helper.make_node("Sqrt", ["negative"], ["output"]),
    ]
    model = load_model(network(tmp_path / "m.onnx", nodes, {"much": np.array(1e4, np.float32)}))
    for precision, hint in [("fp32", False), ("fp16", True)]:
        with refused(DepthModelError, "network-output-not-finite") as caught:
            DepthSession(model, (6, 8), execution=Execution(precision, "cpu"))
        assert ("try --precision fp32" in caught.value.message) is hint


# --- the dataset -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_dataset_says_what_precision_its_depth_is_of(tmp_path, pictures, depth_model):
    notices = []
    path = tmp_path / "it.zarr"
    spec = pictures.spec(depth=depth_of(depth_model, precision="fp16"))
    create(path, spec, on_event=lambda e: isinstance(e, Notice) and notices.append(e.message))
    dataset = open_dataset(path)
    section, depth_spec = dataset.document.depth, dataset.document.spec.depth
    assert (section.precision, section.provider) == ("fp16", "CPUExecutionProvider")
    (device,) = section.devices
    assert (device.onnxruntime, device.ranges) == (onnxruntime.__version__, None)
    assert depth_spec.precision == "fp16"
    assert describe(dataset)["depth"]["precision"] == "fp16"
    assert json.loads(json.dumps(spec.to_dict()))["depth"]["precision"] == "fp16"
    text = "\n".join(notices)
    assert "on CPUExecutionProvider in fp16" in text
    assert "fp16 is for GPUs" in text

    exact = depth_of(depth_model)
    with pytest.raises(RecipeMismatchError) as caught:
        fill_depth(path, exact)
    assert caught.value.problems == ("depth precision: the dataset has fp16, asked for fp32",)
    half = np.asarray(dataset.depth[:], np.float64)
    fill_depth(path, exact, overwrite=True)
    dataset = open_dataset(path)
    assert dataset.document.depth.precision == "fp32"
    full = np.asarray(dataset.depth[:], np.float64)
    assert 0 < np.abs(half - full).max() < 0.01 * np.ptp(full)


def test_what_auto_passed_over_is_told(tmp_path, pictures, depth_model, monkeypatch):
    def refuse(onnxruntime, device):
        raise UnavailableError(f"no {device}" if device == "cuda" else "no such thing.")

    notices = []
    monkeypatch.setattr(Gpu, "require", refuse)
    spec = pictures.spec(depth=depth_of(depth_model))
    create(tmp_path / "it.zarr", spec, on_event=lambda e: isinstance(e, Notice) and notices.append(e.message))
    assert notices == [
        "Depth by tiny on CPUExecutionProvider in fp32.",
        "Depth on the CPU: no tensorrt, as no such thing; no cuda, as no cuda.",
        "Measuring the range of depth on 16 samples.",
    ]


def test_devices_that_fail_for_one_reason_are_told_of_in_one_line(
    tmp_path, pictures, depth_model, monkeypatch
):
    def refuse(onnxruntime, device):
        raise UnavailableError("there is no NVIDIA driver")

    notices = []
    monkeypatch.setattr(Gpu, "require", refuse)
    spec = pictures.spec(depth=depth_of(depth_model))
    create(tmp_path / "it.zarr", spec, on_event=lambda e: isinstance(e, Notice) and notices.append(e.message))
    assert notices[1:-1] == ["Depth on the CPU: there is no NVIDIA driver."]
