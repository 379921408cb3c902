from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from compiled_graphs import FILTERS, HALF_SPACING, arriving, pictures, pillow, run, smooth_pictures
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx_models import FLOAT, FLOAT16, UINT8, card, echo, gray, halving, write_network
from refusals import refused

from fgbgpack.depth.nodes import resampling
from fgbgpack.errors import DepthModelError

# What arrives in the network


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_layout_and_channel_order(tmp_path, layout, channels):
    document = card(
        input={"layout": layout, "channels": channels},
        output={"axes": "N1HW" if layout == "NCHW" else "NHW1"},
    )
    images = pictures(5, 7)
    expected = images[..., ::-1] if channels == "BGR" else images
    path = echo(tmp_path / "m.onnx", channel=2, card=document)
    there = arriving(path, images)
    assert there.dtype == np.float32
    np.testing.assert_array_equal(there, expected if layout == "NHWC" else expected.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(run(path, images), expected[..., 2])  # 0..255 is exact in float16


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_range_mean_and_std(tmp_path, layout):
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    document = card(
        input={"layout": layout, "range": [-1, 3], "mean": mean, "std": std},
        output={"axes": "N1HW" if layout == "NCHW" else "NHW1"},
    )
    images = pictures(6, 4)
    there = arriving(echo(tmp_path / "m.onnx", card=document), images)
    expected = ((images / 255 * 4 - 1) - mean) / std
    np.testing.assert_allclose(
        there if layout == "NHWC" else there.transpose(0, 2, 3, 1), expected, rtol=1e-6, atol=2e-6
    )


def test_range_without_mean_and_std(tmp_path):
    images = pictures(6, 4)
    there = arriving(echo(tmp_path / "m.onnx", card=card(input={"range": [0, 1]})), images)
    np.testing.assert_allclose(there, images.transpose(0, 3, 1, 2) / 255, rtol=2e-7)


@pytest.mark.parametrize("filter_name", FILTERS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("size", [(24, 40), (9, 7), (13, 29), (17, 20)])
def test_resizing_is_what_pillow_does(tmp_path, filter_name, layout, size):
    document = card(
        input={"layout": layout, "size": {"fixed": list(size)}, "filter": filter_name, "channels": "BGR"},
        output={"axes": "N1HW" if layout == "NCHW" else "NHW1"},
    )
    images = pictures(17, 20)
    there = arriving(echo(tmp_path / "m.onnx", card=document), images)
    there = there.transpose(0, 3, 1, 2) if layout == "NHWC" else there
    for sample, picture in zip(there, images, strict=True):
        for channel in range(3):
            expected = pillow(picture[..., 2 - channel], size, filter_name)
            np.testing.assert_allclose(sample[channel], expected, atol=1e-3)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(list(FILTERS)))
def test_resampling_weights(source, target, filter_name):
    weights = resampling(source, target, filter_name)
    assert weights.shape == (target, source)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    line = np.random.default_rng(source * 41 + target).uniform(0, 255, source)
    expected = pillow(line[None], (1, target), filter_name)[0]
    np.testing.assert_allclose(weights @ line, expected, atol=1e-3)


def test_sizes_go_to_the_nearest_multiple(tmp_path):
    path = echo(tmp_path / "m.onnx", card=card(input={"size": {"multiple_of": 8}}))
    assert arriving(path, pictures(20, 13)).shape == (2, 3, 24, 16)
    path = echo(
        tmp_path / "n.onnx", card=card(input={"size": {"multiple_of": 8, "target": {"short_side": 32}}})
    )
    assert arriving(path, pictures(20, 40), scale=2).shape == (2, 3, 32, 64)


def test_float16_input_and_output(tmp_path):
    path = echo(
        tmp_path / "m.onnx",
        input=("input", FLOAT16, ["n", 3, "h", "w"]),
        output=("output", FLOAT16, ["n", 1, "h", "w"]),
        card=card(input={"dtype": "float16"}),
    )
    images = pictures(4, 6)
    there = arriving(path, images)
    assert there.dtype == np.float16
    np.testing.assert_array_equal(there, images.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(run(path, images), images[..., 0])


@pytest.mark.parametrize("size", [None, (7, 11)])
def test_uint8_input(tmp_path, size):
    nodes = [
        helper.make_node("Gather", ["input", "channel"], ["one"], axis=1),
        helper.make_node("Cast", ["one"], ["output"], to=FLOAT),
    ]
    rule = {"fixed": list(size)} if size else {"multiple_of": 1}
    path = write_network(
        tmp_path / "m.onnx",
        nodes,
        input=("input", UINT8, ["n", 3, "h", "w"]),
        weights={"channel": np.array([1])},
        card=card(input={"dtype": "uint8", "size": rule, "filter": "bicubic"}),
    )
    images = pictures(5, 6)
    images[0, :, :3] = 255  # where bicubic overshoots, and the bytes must not wrap round
    images[0, :, 3:] = 0
    there = arriving(path, images)
    assert there.dtype == np.uint8
    for sample, picture in zip(there, images, strict=True):
        expected = pillow(picture[..., 1], size, "bicubic") if size else picture[..., 1]
        np.testing.assert_allclose(sample[1], np.clip(expected, 0, 255), atol=0.501)


# From the network's answer to what is stored


def test_densedepth_transform(tmp_path):
    document = card(
        output={
            "quantity": "depth",
            "unit": "m",
            "transform": [{"reciprocal_of": 1000}, {"clip": [10, 1000]}, {"multiply": 0.01}],
        }
    )
    images = pictures(8, 8, n=1)
    images[0, 0, :2, 0] = [0, 255]  # 1000 / 0 is infinite, and clipped
    expected = np.clip(1000 / np.maximum(images[0, ..., 0], 1e-9), 10, 1000) / 100
    depth = run(echo(tmp_path / "m.onnx", card=document), images)
    assert (depth[0, 0, 0], depth.max()) == (10, 10)
    np.testing.assert_allclose(depth[0], expected, rtol=2**-11)


def test_steps_of_a_transform_apply_in_order(tmp_path):
    steps = [{"add": -10}, {"multiply": 2}, {"clip": [0, 200]}, {"add": 1}]
    images = pictures(8, 8)
    depth = run(echo(tmp_path / "m.onnx", card=card(output={"transform": steps})), images)
    np.testing.assert_array_equal(depth, np.clip((images[..., 0] - 10.0) * 2, 0, 200) + 1)


def test_clipping_does_not_hide_what_is_not_a_number(tmp_path):
    nodes = [
        helper.make_node("Gather", ["input", "channel"], ["red"], axis=1),
        helper.make_node("Sub", ["red", "some"], ["shifted"]),
        helper.make_node("Sqrt", ["shifted"], ["output"]),
    ]
    weights = {"channel": np.array([0]), "some": np.array(100, np.float32)}
    document = card(output={"transform": [{"clip": [1, 5]}]})
    images = np.full((1, 4, 4, 3), 150, np.uint8)
    images[0, 1, 2] = 0
    depth = run(write_network(tmp_path / "m.onnx", nodes, weights=weights, card=document), images)
    assert np.isnan(depth[0, 1, 2])


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_rendered_larger_and_averaged_down(tmp_path, scale):
    images = pictures(6 * scale, 10 * scale)
    depth = run(gray(tmp_path / "m.onnx"), images, scale=scale)
    full = images @ [0.25, 0.5, 0.25]
    expected = full.reshape(2, 6, scale, 10, scale).mean(axis=(2, 4))
    assert depth.shape == (2, 6, 10)
    np.testing.assert_allclose(depth, expected, atol=HALF_SPACING)


def test_answer_of_half_the_size_is_resized(tmp_path):
    images = pictures(8, 12)
    halves = images.reshape(2, 4, 2, 6, 2, 3).mean(axis=(2, 4, 5))
    depth = run(halving(tmp_path / "m.onnx"), images)
    for sample, half in zip(depth, halves, strict=True):
        np.testing.assert_allclose(sample, pillow(half, (8, 12), "bilinear"), atol=HALF_SPACING)


def test_answer_of_half_a_double_rendering_is_taken_as_it_is(tmp_path):
    images = pictures(16, 24)
    halves = images.reshape(2, 8, 2, 12, 2, 3).mean(axis=(2, 4, 5))
    depth = run(halving(tmp_path / "m.onnx"), images, scale=2)
    np.testing.assert_allclose(depth, halves, atol=HALF_SPACING)


@pytest.mark.parametrize("network_size", [(13, 40), (50, 9), (5, 5)])
def test_answer_of_any_other_size_is_resized_to_the_rendering_and_averaged(tmp_path, network_size):
    document = card(input={"size": {"fixed": list(network_size)}})
    images = pictures(18, 24)
    depth = run(echo(tmp_path / "m.onnx", card=document), images, scale=3)
    for sample, picture in zip(depth, images, strict=True):
        answer = pillow(picture[..., 0], network_size, "bilinear")
        expected = pillow(answer, (18, 24), "bilinear").reshape(6, 3, 8, 3).mean(axis=(1, 3))
        np.testing.assert_allclose(sample, expected, atol=HALF_SPACING)


@pytest.mark.parametrize("axes", ["N1HW", "NHW1", "NHW"])
def test_output_axes(tmp_path, axes):
    shape = {"N1HW": [0, 1, 5, 7], "NHW1": [0, 5, 7, 1], "NHW": [0, 5, 7]}[axes]
    nodes = [
        helper.make_node("Gather", ["input", "channel"], ["red"], axis=1),
        helper.make_node("Reshape", ["red", "shape"], ["output"]),
    ]
    path = write_network(
        tmp_path / "m.onnx",
        nodes,
        output=("output", FLOAT, None),
        weights={"channel": np.array([0]), "shape": np.array(shape)},
        card=card(output={"axes": axes}),
    )
    images = pictures(5, 7)
    np.testing.assert_array_equal(run(path, images), images[..., 0])


def test_axes_that_only_a_run_shows_to_be_wrong(tmp_path):
    path = write_network(
        tmp_path / "m.onnx",
        [helper.make_node("Identity", ["input"], ["output"])],
        output=("output", FLOAT, None),
        card=card(),
    )
    with refused(DepthModelError, "card-invalid", r"\[1, 3, 5, 7\].*N1HW"):
        run(path, pictures(5, 7))


# All of it at once, against feeding the same file by hand


def some_network(path, document):
    """Two convolutions with a curve between them, that answer at half the size: about 0 to 4."""
    rng = np.random.default_rng(3)
    nodes = [
        helper.make_node("Conv", ["input", "first"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("Tanh", ["features"], ["bent"]),
        helper.make_node("AveragePool", ["bent"], ["smaller"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["smaller", "second", "bias"], ["output"], pads=[2, 2, 2, 2]),
    ]
    weights = {
        "first": rng.normal(size=(8, 3, 3, 3)).astype(np.float32) / 3,
        "second": rng.normal(size=(1, 8, 5, 5)).astype(np.float32) / 8,
        "bias": np.array([2], np.float32),
    }
    if document["input"]["layout"] == "NHWC":
        nodes[0].input[0] = "planes"
        nodes.insert(0, helper.make_node("Transpose", ["input"], ["planes"], perm=[0, 3, 1, 2]))
        given = ("input", FLOAT, ["n", "h", "w", 3])
    else:
        given = ("input", FLOAT, ["n", 3, "h", "w"])
    return write_network(
        path,
        nodes,
        input=given,
        output=("output", FLOAT, ["n", 1, "h2", "w2"]),
        weights=weights,
        card=document,
    )


def by_hand(path, document, images, size, scale):
    """Pillow resizes, NumPy normalises, a bare session runs the file, NumPy does the rest."""
    given, result = document["input"], document["output"]
    planes = np.stack(
        [
            np.stack([pillow(picture[..., c], size, given.get("filter", "bilinear")) for c in range(3)], -1)
            for picture in images
        ]
    )
    if given["channels"] == "BGR":
        planes = planes[..., ::-1]
    low, high = given["range"]
    planes = (planes / 255 * (high - low) + low - given.get("mean", 0)) / given.get("std", 1)
    if given["layout"] == "NCHW":
        planes = planes.transpose(0, 3, 1, 2)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    answer = session.run(None, {"input": planes.astype(np.float32)})[0][:, 0].astype(np.float64)
    for step in result.get("transform", []):
        ((kind, value),) = step.items()
        match kind:
            case "clip":
                answer = np.clip(answer, *value)
            case "multiply":
                answer = answer * value
            case "add":
                answer = answer + value
            case _:
                answer = value / answer
    height, width = images.shape[1] // scale, images.shape[2] // scale
    if answer.shape[1] % height or answer.shape[2] % width:
        answer = np.stack([pillow(one, images.shape[1:3], "bilinear") for one in answer])
    down, right = answer.shape[1] // height, answer.shape[2] // width
    return answer.reshape(len(answer), height, down, width, right).mean(axis=(2, 4))


IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}

#: A size rule, the rendered size, the scale, and the size at which the network then sees the picture.
SIZES = {
    "fixed, enlarging": ({"fixed": [64, 96]}, (33, 47), 1, (64, 96)),
    "fixed, shrinking": ({"fixed": [22, 18]}, (63, 87), 3, (22, 18)),
    "fixed, another aspect": ({"fixed": [30, 30]}, (20, 66), 2, (30, 30)),
    "fixed, the rendered size": ({"fixed": [26, 34]}, (26, 34), 2, (26, 34)),
    "multiple of 32, enlarging": ({"multiple_of": 32}, (51, 81), 3, (64, 96)),
    "multiple of 14, shrinking": ({"multiple_of": 14}, (47, 31), 1, (42, 28)),
    "multiple of 2, as it is": ({"multiple_of": 2}, (44, 60), 4, (44, 60)),
    "short side": ({"multiple_of": 14, "target": {"short_side": 56}}, (37, 75), 1, (56, 112)),
    "long side": ({"multiple_of": 16, "target": {"long_side": 64}}, (99, 45), 3, (64, 32)),
    "height": ({"multiple_of": 8, "target": {"height": 40}}, (25, 85), 1, (40, 136)),
}

WAYS = {
    "NCHW, RGB, ImageNet, bicubic": ({"range": [0, 1], "filter": "bicubic"} | IMAGENET, []),
    "NHWC, BGR, -1 to 1": (
        {"layout": "NHWC", "channels": "BGR", "range": [-1, 1]},
        [{"clip": [0.5, 8]}, {"reciprocal_of": 10}],
    ),
    "NCHW, RGB, 0 to 1, nearest": (
        {"range": [0, 1], "filter": "nearest"},
        [{"add": 3}, {"multiply": 0.5}, {"clip": [1.5, 3]}],
    ),
}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rule", SIZES)
def test_the_compiled_graph_equals_feeding_the_file_by_hand(tmp_path, rule, way, precision):
    size_rule, rendered, scale, size = SIZES[rule]
    given, transform = WAYS[way]
    document = card(input={"size": size_rule, **given}, output={"transform": transform})
    path = some_network(tmp_path / "m.onnx", document)
    images = smooth_pictures(*rendered)
    expected = by_hand(path, document, images, size, scale)
    depth = run(path, images, scale=scale, precision=precision)
    assert depth.shape == expected.shape
    assert np.ptp(expected) > 0.1
    # In fp32 it is float16's own rounding of what is stored, and a little for sums in another order. In fp16
    # weights and what lies between the layers are rounded as well: a hundredth of the range.
    atol = 2e-5 if precision == "fp32" else 0.01 * np.ptp(expected)
    np.testing.assert_allclose(depth, expected, rtol=2**-11, atol=atol)


def test_step_is_given_with_each_run(tmp_path):
    path, images = gray(tmp_path / "m.onnx"), pictures(8, 8)
    exact = images @ [0.25, 0.5, 0.25]
    for step in (0.25, 8.0, 64.0):
        np.testing.assert_array_equal(run(path, images, step=step) % step, 0)
        np.testing.assert_allclose(run(path, images, step=step), exact, atol=step / 2)
    np.testing.assert_array_equal(run(path, images), exact.astype(np.float16))


@pytest.mark.parametrize("layout", ["N1CHW", "N1HWC"])
@pytest.mark.parametrize("size", [(6, 4), (9, 7)])
def test_layouts_with_an_axis_of_length_one(tmp_path, layout, size):
    axis = layout.index("C")
    shape = ["n", 1, 3, *size] if layout == "N1CHW" else ["n", 1, *size, 3]
    path = write_network(
        tmp_path / "m.onnx",
        [helper.make_node("Gather", ["input", "channel"], ["output"], axis=axis)],
        input=("input", FLOAT, shape),
        weights={"channel": np.array(1)},
        output=("output", FLOAT, ["n", 1, *size]),
        card=card(input={"layout": layout, "size": {"fixed": list(size)}}),
    )
    images = pictures(6, 4)
    there = arriving(path, images)
    assert there.shape == (len(images), *shape[1:])
    if size == (6, 4):
        np.testing.assert_array_equal(np.moveaxis(there, axis, -1)[:, 0], images)
        np.testing.assert_array_equal(run(path, images), images[..., 1])


@pytest.mark.parametrize("element", [UINT8, TensorProto.INT32, TensorProto.BFLOAT16, TensorProto.DOUBLE])
def test_outputs_of_any_type_of_numbers(tmp_path, element):
    path = write_network(
        tmp_path / "m.onnx",
        [
            helper.make_node("Gather", ["input", "channel"], ["red"], axis=1),
            helper.make_node("Cast", ["red"], ["output"], to=element),
        ],
        weights={"channel": np.array([0])},
        output=("output", element, ["n", 1, "h", "w"]),
    )
    images = pictures(6, 4)
    # Integers up to 256 are exact in bfloat16.
    np.testing.assert_array_equal(run(path, images), images[..., 0])
