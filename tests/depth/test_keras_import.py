"""Keras networks brought to ONNX, against Keras' own answers and against NumPy."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import h5py
import numpy as np
import onnxruntime
import pytest

from fgbgpack.depth import DepthSession, Execution, load_model
from fgbgpack.depth.card import SizeRule
from fgbgpack.depth.keras import import_keras, write_densedepth
from fgbgpack.errors import DepthModelError

DATA = Path(__file__).parents[1] / "data" / "keras"
SMALL = DATA / "densedepth-small.h5"
ANSWERS = np.load(DATA / "answers.npz")

#: A picture of odd height, so that strides and padding do not come out even.
PICTURE = np.random.default_rng(7).normal(size=(2, 7, 10, 3)).astype(np.float32)


def run(model, picture):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {model.graph.input[0].name: picture})[0]


def assert_agree(answer, expected, part=1e-5):
    """Equal, but for rounding: within ``part`` of the range of what was expected."""
    assert answer.shape == expected.shape
    np.testing.assert_allclose(answer, expected, rtol=0, atol=part * np.ptp(expected))


# --- networks written by hand -------------------------------------------------------------------------------


def layer(kind, name, sources, config=None, weights=None):
    """A layer as Keras 2 writes it, with its weights."""
    entry = {
        "class_name": kind,
        "name": name,
        "config": {"name": name, **(config or {})},
        "inbound_nodes": [[[source, 0, 0, {}] for source in sources]] if sources else [],
    }
    return entry, weights or {}


def picture_layer(name="picture", channels=3, **config):
    return layer("InputLayer", name, [], {"batch_input_shape": [None, None, None, channels], **config})


def write_keras(path, layers, *, inputs=("picture",), outputs=None, kind="Model", as_bytes=False):
    """A Keras file of these layers; the last one is the output by default."""
    outputs = outputs or [layers[-1][0]["name"]]
    config = {
        "class_name": kind,
        "config": {
            "name": "model",
            "layers": [entry for entry, _ in layers],
            "input_layers": [[name, 0, 0] for name in inputs],
            "output_layers": [[name, 0, 0] for name in outputs],
        },
    }
    text = json.dumps(config)
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = np.bytes_(text) if as_bytes else text
        for entry, weights in layers:
            name = entry["name"]
            group = file.require_group("model_weights").require_group(name)
            group.attrs["weight_names"] = np.array([f"{name}/{key}:0".encode() for key in weights], "S")
            for key, array in weights.items():
                group[f"{name}/{key}:0"] = np.asarray(array, np.float32)
    return path


def answer_of(tmp_path, *layers, picture=PICTURE, **options):
    """What the imported network of these layers answers; ``picture_layer()`` comes before them."""
    path = write_keras(tmp_path / "network.h5", [picture_layer(), *layers])
    return run(import_keras(path, **options), picture)


CONV = {
    "filters": 4,
    "kernel_size": [3, 3],
    "strides": [1, 1],
    "padding": "valid",
    "data_format": "channels_last",
    "dilation_rate": [1, 1],
    "activation": "linear",
    "use_bias": True,
}


def conv_weights(size=(3, 3), inputs=3, filters=4, seed=0, bias=True):
    random = np.random.default_rng(seed)
    weights = {"kernel": random.normal(size=(*size, inputs, filters))}
    return weights | ({"bias": random.normal(size=filters)} if bias else {})


def normal_weights(channels=4, seed=1):
    random = np.random.default_rng(seed)
    return {
        "gamma": random.uniform(0.5, 2, channels),
        "beta": random.normal(size=channels),
        "moving_mean": random.normal(size=channels),
        "moving_variance": random.uniform(0.1, 2, channels),
    }


# --- the slow, obvious way ----------------------------------------------------------------------------------


def windows(x, size, strides, padding, dilation=(1, 1)):
    """For each output pixel, its window (n, kh, kw, c); NaN lies outside the picture."""
    if padding == "same":
        pads = [(0, 0)]
        for length, k, stride, step in zip(x.shape[1:3], size, strides, dilation, strict=True):
            reach = (k - 1) * step + 1
            total = max((math.ceil(length / stride) - 1) * stride + reach - length, 0)
            pads.append((total // 2, total - total // 2))
        x = np.pad(x, [*pads, (0, 0)], constant_values=np.nan)
    reach = [(k - 1) * step + 1 for k, step in zip(size, dilation, strict=True)]
    rows = range(0, x.shape[1] - reach[0] + 1, strides[0])
    columns = range(0, x.shape[2] - reach[1] + 1, strides[1])
    return [
        [x[:, y : y + reach[0] : dilation[0], c : c + reach[1] : dilation[1]] for c in columns] for y in rows
    ]


def naive(x, size, strides, padding, function, dilation=(1, 1)):
    rows = [[function(window) for window in row] for row in windows(x, size, strides, padding, dilation)]
    return np.stack([np.stack(row, 1) for row in rows], 1)


def naive_conv(x, weights, strides=(1, 1), padding="valid", dilation=(1, 1)):
    x, kernel = x.astype(np.float64), np.asarray(weights["kernel"], np.float64)
    answer = naive(
        x,
        kernel.shape[:2],
        strides,
        padding,
        lambda window: np.einsum("nhwi,hwio->no", np.nan_to_num(window), kernel),
        dilation,
    )
    return answer + np.asarray(weights.get("bias", 0.0))


def naive_normal(x, weights, epsilon):
    x = (x - weights["moving_mean"]) / np.sqrt(weights["moving_variance"] + epsilon)
    return x * weights.get("gamma", 1.0) + weights.get("beta", 0.0)


def naive_bilinear(x, factors, placing):
    for axis, factor in zip((1, 2), factors, strict=True):
        length = x.shape[axis]
        target = np.arange(length * factor)
        where = {
            "half_pixel": (target + 0.5) / factor - 0.5,
            "align_corners": target * (length - 1) / (length * factor - 1),
            "asymmetric": target / factor,
        }[placing]
        where = np.clip(where, 0, length - 1)
        low = np.floor(where).astype(int)
        high = np.minimum(low + 1, length - 1)
        part = np.expand_dims(where - low, tuple(i for i in range(x.ndim) if i != axis))
        x = np.take(x, low, axis) * (1 - part) + np.take(x, high, axis) * part
    return x


# --- against Keras ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["a", "b"])
@pytest.mark.parametrize("bilinear", ["half_pixel", "align_corners", "asymmetric"])
def test_small_densedepth_answers_as_keras_does_at_any_size(bilinear, key):
    picture = ANSWERS[f"picture_{key}"].astype(np.float32) / 255
    assert_agree(
        run(import_keras(SMALL, bilinear=bilinear), picture), ANSWERS[f"densedepth_{bilinear}_{key}"]
    )


def test_the_default_places_pixels_as_keras_does_today():
    picture = ANSWERS["picture_a"].astype(np.float32) / 255
    answer = run(import_keras(SMALL), picture)
    assert_agree(answer, ANSWERS["densedepth_half_pixel_a"])
    for other in ("align_corners", "asymmetric"):
        expected = ANSWERS[f"densedepth_{other}_a"]
        assert np.abs(answer - expected).max() > 0.01 * np.ptp(expected)


@pytest.mark.parametrize("key", ["a", "b"])
@pytest.mark.parametrize("name", ["every-layer", "every-layer-keras3"])
def test_every_layer_answers_as_keras_does_from_files_of_keras_2_and_3(name, key):
    picture = ANSWERS[f"picture_{key}"].astype(np.float32) / 255
    assert_agree(run(import_keras(DATA / f"{name}.h5"), picture), ANSWERS[f"every_layer_{key}"])


def test_batch_normalizations_are_folded_where_a_convolution_feeds_only_them():
    folded, plain = (import_keras(SMALL, fold=fold) for fold in (True, False))
    kinds = [[node.op_type for node in model.graph.node] for model in (folded, plain)]
    # conv1/bn and conv2_block1_1_bn follow a convolution; the other four do not.
    assert [ops.count("Mul") for ops in kinds] == [4, 6]
    picture = ANSWERS["picture_b"].astype(np.float32) / 255
    assert_agree(run(folded, picture), run(plain, picture))


def test_batch_height_and_width_are_free_and_axes_are_those_of_keras():
    model = import_keras(SMALL)
    (given,), (answer,) = model.graph.input, model.graph.output
    assert (given.name, answer.name) == ("input_1", "conv3")
    dims = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (given, answer)]
    assert dims == [["n", "height", "width", 3], ["n", "height_out", "width_out", 1]]
    random = np.random.default_rng(0)
    for n, height, width in ((1, 32, 32), (3, 64, 32), (2, 32, 160)):
        pictures = random.random((n, height, width, 3), np.float32)
        answers = run(model, pictures)
        assert answers.shape == (n, height // 2, width // 2, 1)
        assert_agree(answers[-1:], run(model, pictures[-1:]))


def test_the_same_file_gives_the_same_bytes():
    first, second = (import_keras(SMALL).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


# --- layer by layer, against NumPy --------------------------------------------------------------------------


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    ("size", "strides", "dilation"),
    [
        ((3, 3), (1, 1), (1, 1)),
        ((1, 1), (1, 1), (1, 1)),
        ((2, 4), (1, 1), (1, 1)),
        ((3, 3), (2, 2), (1, 1)),
        ((2, 3), (2, 1), (1, 1)),
        ((1, 1), (2, 2), (1, 1)),
        ((3, 2), (1, 1), (2, 3)),
    ],
)
def test_convolution(tmp_path, size, strides, dilation, padding):
    config = CONV | {
        "kernel_size": size,
        "strides": strides,
        "dilation_rate": dilation,
        "padding": padding,
    }
    weights = conv_weights(size)
    answer = answer_of(tmp_path, layer("Conv2D", "conv", ["picture"], config, weights))
    assert_agree(answer, naive_conv(PICTURE, weights, strides, padding, dilation))


def test_convolution_without_bias_and_with_relu(tmp_path):
    weights = conv_weights(bias=False)
    config = CONV | {"use_bias": False, "activation": "relu"}
    answer = answer_of(tmp_path, layer("Conv2D", "conv", ["picture"], config, weights))
    assert_agree(answer, np.maximum(naive_conv(PICTURE, weights), 0))
    assert answer.min() == 0


@pytest.mark.parametrize("without", [set(), {"gamma"}, {"beta"}, {"gamma", "beta"}])
def test_batch_normalization_on_its_own(tmp_path, without):
    weights = {key: value for key, value in normal_weights(3).items() if key not in without}
    config = {
        "axis": [3],
        "epsilon": 0.01,
        "scale": "gamma" not in without,
        "center": "beta" not in without,
    }
    answer = answer_of(tmp_path, layer("BatchNormalization", "bn", ["picture"], config, weights))
    assert_agree(answer, naive_normal(PICTURE, weights, 0.01))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_batch_normalization_after_a_convolution(tmp_path, activation, bias):
    weights, normal = conv_weights(bias=bias), normal_weights()
    layers = [
        layer("Conv2D", "conv", ["picture"], CONV | {"activation": activation, "use_bias": bias}, weights),
        layer("BatchNormalization", "bn", ["conv"], {"axis": 3, "epsilon": 1e-3}, normal),
    ]
    expected = naive_conv(PICTURE, weights)
    expected = naive_normal(np.maximum(expected, 0) if activation == "relu" else expected, normal, 1e-3)
    assert_agree(answer_of(tmp_path, *layers), expected)
    # A convolution that ends in an activation cannot take the normalization up.
    path = tmp_path / "network.h5"
    assert [node.op_type for node in import_keras(path).graph.node].count("Mul") == (activation == "relu")


def test_a_convolution_that_others_need_too_keeps_its_own_values(tmp_path):
    weights, normal = conv_weights(), normal_weights()
    layers = [
        layer("Conv2D", "conv", ["picture"], CONV, weights),
        layer("BatchNormalization", "bn", ["conv"], {"axis": 3, "epsilon": 1e-3}, normal),
        layer("Concatenate", "both", ["conv", "bn"], {"axis": 3}),
    ]
    plain = naive_conv(PICTURE, weights)
    expected = np.concatenate([plain, naive_normal(plain, normal, 1e-3)], 3)
    assert_agree(answer_of(tmp_path, *layers), expected)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    ("size", "strides"),
    [((2, 2), None), ((3, 3), (2, 2)), ((2, 3), (1, 1)), ((3, 2), (1, 2)), ((1, 1), (2, 2))],
)
@pytest.mark.parametrize(
    ("kind", "function"), [("MaxPooling2D", np.nanmax), ("AveragePooling2D", np.nanmean)]
)
def test_pooling_leaves_padding_out(tmp_path, kind, function, size, strides, padding):
    config = {"pool_size": size, "strides": strides, "padding": padding}
    answer = answer_of(tmp_path, layer(kind, "pool", ["picture"], config))
    expected = naive(PICTURE, size, strides or size, padding, lambda window: function(window, (1, 2)))
    assert_agree(answer, expected)


@pytest.mark.parametrize(
    ("padding", "pads"),
    [([[1, 2], [3, 0]], ((1, 2), (3, 0))), ([1, 2], ((1, 1), (2, 2))), (2, ((2, 2), (2, 2)))],
)
def test_zero_padding(tmp_path, padding, pads):
    answer = answer_of(tmp_path, layer("ZeroPadding2D", "pad", ["picture"], {"padding": padding}))
    np.testing.assert_array_equal(answer, np.pad(PICTURE, ((0, 0), *pads, (0, 0))))


@pytest.mark.parametrize(
    ("kind", "config", "function"),
    [
        ("Activation", {"activation": "relu"}, lambda x: np.maximum(x, 0)),
        ("Activation", {"activation": "linear"}, lambda x: x),
        ("ReLU", {}, lambda x: np.maximum(x, 0)),
        ("ReLU", {"max_value": None, "negative_slope": 0.0, "threshold": 0}, lambda x: np.maximum(x, 0)),
        ("LeakyReLU", {"alpha": 0.2}, lambda x: np.where(x < 0, np.float32(0.2) * x, x)),
        ("LeakyReLU", {"negative_slope": 0.3}, lambda x: np.where(x < 0, np.float32(0.3) * x, x)),
        (
            "LeakyReLU",
            {"alpha": {"type": "ndarray", "value": 0.2}},
            lambda x: np.where(x < 0, np.float32(0.2) * x, x),
        ),
    ],
)
def test_activations(tmp_path, kind, config, function):
    answer = answer_of(tmp_path, layer(kind, "activation", ["picture"], config))
    np.testing.assert_array_equal(answer, function(PICTURE))


@pytest.mark.parametrize("kind", ["BilinearUpSampling2D", "UpSampling2D"])
@pytest.mark.parametrize("factors", [(2, 2), (1, 3)])
@pytest.mark.parametrize("bilinear", ["half_pixel", "align_corners", "asymmetric"])
def test_bilinear_up_sampling(tmp_path, bilinear, factors, kind):
    config = {"size": factors, "data_format": "channels_last", "interpolation": "bilinear"}
    answer = answer_of(tmp_path, layer(kind, "up", ["picture"], config), bilinear=bilinear)
    assert_agree(answer, naive_bilinear(PICTURE.astype(np.float64), factors, bilinear))


def test_nearest_up_sampling(tmp_path):
    answer = answer_of(tmp_path, layer("UpSampling2D", "up", ["picture"], {"size": [2, 3]}))
    np.testing.assert_array_equal(answer, PICTURE.repeat(2, 1).repeat(3, 2))


def test_concatenate_keeps_the_order(tmp_path):
    layers = [
        layer("Activation", "relu", ["picture"], {"activation": "relu"}),
        layer("Concatenate", "both", ["relu", "picture", "relu"], {"axis": -1}),
    ]
    relu = np.maximum(PICTURE, 0)
    np.testing.assert_array_equal(answer_of(tmp_path, *layers), np.concatenate([relu, PICTURE, relu], 3))


def test_add_takes_two_or_more(tmp_path):
    layers = [
        layer("Activation", "relu", ["picture"], {"activation": "relu"}),
        layer("Add", "sum", ["picture", "relu", "picture"]),
    ]
    assert_agree(answer_of(tmp_path, *layers), 2 * PICTURE + np.maximum(PICTURE, 0))


def test_layers_may_stand_in_any_order_and_idle_ones_do_not_count(tmp_path):
    layers = [
        layer("Activation", "last", ["first"], {"activation": "relu"}),
        layer("ZeroPadding2D", "first", ["picture"], {"padding": 1}),
        layer("Softmax", "idle", ["first"]),
        picture_layer(),
    ]
    path = write_keras(tmp_path / "network.h5", layers, outputs=["last"], as_bytes=True)
    expected = np.pad(np.maximum(PICTURE, 0), ((0, 0), (1, 1), (1, 1), (0, 0)))
    np.testing.assert_array_equal(run(import_keras(path), PICTURE), expected)


# --- what cannot be imported --------------------------------------------------------------------------------


def refused(path, code, **options):
    with pytest.raises(DepthModelError) as caught:
        import_keras(path, **options)
    assert caught.value.code == code
    return caught.value


def refusal(tmp_path, *layers, **options):
    path = write_keras(tmp_path / "network.h5", [picture_layer(), *layers], **options)
    error = refused(path, "keras-unsupported")
    assert str(path) in error.message
    return error


def test_all_layers_that_are_not_supported_are_named_together(tmp_path):
    error = refusal(
        tmp_path,
        layer("Softmax", "soft", ["picture"]),
        layer("Functional", "encoder", ["soft"], {"layers": []}),
        layer("Conv2DTranspose", "up", ["encoder"]),
    )
    assert len(error.problems) == 3
    text = str(error)
    assert "'soft' (Softmax): not supported; supported are Activation, Add, " in text
    assert "'encoder' (Functional): a model within the model" in text
    assert "'up' (Conv2DTranspose): not supported" in text


@pytest.mark.parametrize(
    ("kind", "config", "weights", "problem"),
    [
        (
            "Conv2D",
            CONV | {"activation": "sigmoid"},
            conv_weights(),
            "activation = 'sigmoid'; expected 'linear'",
        ),
        ("Conv2D", CONV | {"groups": 3}, conv_weights(), "groups = 3; expected 1"),
        ("Conv2D", CONV | {"padding": "causal"}, conv_weights(), "padding = 'causal'; expected 'valid' or"),
        ("Conv2D", CONV | {"data_format": "channels_first"}, conv_weights(), "expected 'channels_last'"),
        (
            "MaxPooling2D",
            {"pool_size": [2, 1], "strides": [1, 2], "padding": "same"},
            {},
            "padding = 'same' with windows of (2, 1) at strides of (1, 2), which skip pixels",
        ),
        ("Conv2D", CONV, {}, "no weight 'kernel' of it; it has none"),
        ("Conv2D", CONV, conv_weights(bias=False), "no weight 'bias' of it; it has 'kernel'"),
        ("Conv2D", CONV, conv_weights(inputs=5), "'kernel' has shape (3, 3, 5, 4); expected (3, 3, 3, 4)"),
        (
            "Conv2D",
            {"filters": 4},
            conv_weights(),
            "configuration is not as Keras writes it (KeyError('kernel_s",
        ),
        (
            "BatchNormalization",
            {"axis": 1, "epsilon": 1e-3},
            normal_weights(3),
            "axis = 1; expected the channels",
        ),
        (
            "BatchNormalization",
            {"epsilon": 1e-3},
            normal_weights(3) | {"moving_variance": -np.ones(3)},
            "moving_variance is negative",
        ),
        ("Activation", {"activation": "tanh"}, {}, "activation = 'tanh'; expected 'linear' or 'relu'"),
        ("ReLU", {"max_value": 6.0}, {}, "max_value = 6.0; expected None"),
        ("ReLU", {"negative_slope": 0.1}, {}, "negative_slope = 0.1; expected 0"),
        ("UpSampling2D", {"size": 2, "interpolation": "bicubic"}, {}, "interpolation = 'bicubic'; expected"),
        ("Concatenate", {"axis": 1}, {}, "axis = 1; expected the channels, 3 or -1"),
        ("Add", {}, {}, "takes inputs of 3 channels; expected two or more"),
    ],
)
def test_options_of_layers_that_are_not_supported(tmp_path, kind, config, weights, problem):
    error = refusal(tmp_path, layer(kind, "it", ["picture"], config, weights))
    assert len(error.problems) == 1
    assert error.problems[0].startswith(f"layer 'it' ({kind}): ")
    assert problem in error.problems[0]


def test_one_mistake_is_told_once_and_others_beside_it_too(tmp_path):
    error = refusal(
        tmp_path,
        layer("Activation", "a", ["picture"], {"activation": "tanh"}),
        layer("Activation", "after", ["a"], {"activation": "elu"}),
        layer("Conv2D", "b", ["picture"], CONV),
        layer("Add", "sum", ["after", "b"]),
    )
    assert [problem.split(":")[0] for problem in error.problems] == [
        "layer 'a' (Activation)",
        "layer 'b' (Conv2D)",
    ]


def test_shared_layers_and_those_of_several_outputs(tmp_path):
    shared = layer("Activation", "shared", ["picture"], {"activation": "relu"})
    shared[0]["inbound_nodes"].append([["shared", 0, 0, {}]])
    second = layer("Activation", "second", [], {"activation": "relu"})
    second[0]["inbound_nodes"] = [[["shared", 1, 0, {}]]]
    error = refusal(tmp_path, shared, second)
    assert "'shared' (Activation): shared: used 2 times; expected once" in str(error)
    assert "'second' (Activation): takes output 0 of use 1 of 'shared'" in str(error)


def test_layers_that_run_in_training_mode(tmp_path):
    bn = layer("BatchNormalization", "bn", [], {"axis": 3, "epsilon": 1e-3}, normal_weights(3))
    bn[0]["inbound_nodes"] = [[["picture", 0, 0, {"training": True}]]]
    assert "'bn' (BatchNormalization): runs in training mode" in str(refusal(tmp_path, bn))


def test_several_inputs_or_outputs(tmp_path):
    relu = layer("Activation", "relu", ["picture"], {"activation": "relu"})
    error = refusal(tmp_path, relu, outputs=["relu", "picture"])
    assert "a network of 2 outputs (relu, picture); one was expected" in str(error)
    other = picture_layer("other")
    error = refusal(tmp_path, other, layer("Add", "sum", ["picture", "other"]), inputs=["picture", "other"])
    assert "a network of 2 inputs (picture, other); one was expected" in str(error)
    error = refusal(tmp_path, other, layer("Add", "sum", ["picture", "other"]))
    assert "'other' (InputLayer): a second input; expected one, 'picture'" in str(error)


def test_layers_that_are_missing_or_go_round_in_a_circle(tmp_path):
    error = refusal(tmp_path, layer("Activation", "relu", ["gone"], {"activation": "relu"}))
    assert error.problems[0].startswith("layer 'gone': ")
    circle = [
        layer("Add", "one", ["picture", "two"]),
        layer("Activation", "two", ["one"], {"activation": "relu"}),
    ]
    assert {"one", "two"} <= set(refusal(tmp_path, *circle).message.replace(":", "").split())


def test_models_that_are_not_functional(tmp_path):
    relu = layer("Activation", "relu", ["picture"], {"activation": "relu"})
    error = refusal(tmp_path, relu, kind="Sequential")
    assert "'Sequential'" in error.message


def test_weights_that_are_not_finite(tmp_path):
    weights = conv_weights()
    weights["kernel"][0, 0, 0, 0] = np.nan
    error = refusal(tmp_path, layer("Conv2D", "conv", ["picture"], CONV, weights))
    assert "layer 'conv': its weight 'conv/kernel:0' has values that are not finite" in str(error)


def test_an_input_that_is_no_picture(tmp_path):
    path = write_keras(
        tmp_path / "n.h5", [layer("InputLayer", "picture", [], {"batch_input_shape": [None, 9]})]
    )
    error = refused(path, "keras-unsupported")
    assert error.problems[0].startswith("layer 'picture' (InputLayer): has shape [None, 9]")


def test_a_way_of_placing_pixels_that_does_not_exist():
    assert "'corners'" in refused(SMALL, "keras-unsupported", bilinear="corners").message


# --- files that are no whole Keras model --------------------------------------------------------------------


def test_a_file_of_weights_only(tmp_path):
    path = tmp_path / "weights.h5"
    with h5py.File(SMALL) as source, h5py.File(path, "w") as file:
        for key in source["model_weights"]:
            source.copy(f"model_weights/{key}", file)
        file.attrs["layer_names"] = source["model_weights"].attrs["layer_names"]
    assert "save_weights" in refused(path, "model-file-corrupt").message


def test_an_hdf5_file_of_something_else(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.arange(3)
    refused(tmp_path / "other.h5", "model-file-corrupt")
    with h5py.File(tmp_path / "graph.h5", "w") as file:
        file.attrs["model_config"] = "{}"
    assert "model_weights" in refused(tmp_path / "graph.h5", "model-file-corrupt").message


@pytest.mark.parametrize(
    "config", ["{", "[]", '{"class_name": "Model"}', '{"class_name": "Model", "config": {"layers": 3}}']
)
def test_a_graph_that_cannot_be_understood(tmp_path, config):
    with h5py.File(tmp_path / "broken.h5", "w") as file:
        file.attrs["model_config"] = config
        file.create_group("model_weights")
    assert "model_config" in refused(tmp_path / "broken.h5", "model-file-corrupt").message


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.99])
def test_a_download_that_was_cut_short(tmp_path, kept):
    content = SMALL.read_bytes()
    path = tmp_path / "short.h5"
    path.write_bytes(content[: int(len(content) * kept)])
    assert f"{path} ({path.stat().st_size} bytes)" in refused(path, "model-file-corrupt").message


def test_a_file_whose_middle_is_damaged(tmp_path):
    path = tmp_path / "damaged.h5"
    content = bytearray(SMALL.read_bytes())
    with h5py.File(SMALL) as file:
        group = file["model_weights/conv2"]
        start = h5py.h5o.get_info(group["conv2/kernel:0"].id).addr
    content[start : start + 64] = b"\xff" * 64  # the head of one dataset
    path.write_bytes(content)
    refused(path, "model-file-corrupt")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"<!DOCTYPE html><html>404</html>", "(31 bytes)"),
        (b"", "(0 bytes)"),
        (b"PK\x03\x04rest of a zip", 'model.save("FILE.h5")'),
    ],
)
def test_a_file_that_is_no_hdf5(tmp_path, content, text):
    path = tmp_path / "nyu.h5"
    path.write_bytes(content)
    assert text in refused(path, "model-file-corrupt").message


def test_no_file_and_a_folder(tmp_path):
    for path in (tmp_path / "nyu.h5", tmp_path):
        assert str(path) in refused(path, "model-file-corrupt").message


def test_without_h5py_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert "fgbgpack[keras]" in refused(SMALL, "extra-missing").message


# --- DenseDepth with its card -------------------------------------------------------------------------------


def reader(path, gain=20.0, filters=1, channels=3):
    """A network that answers ``gain`` times red at half the size, in the place of DenseDepth."""
    kernel = np.zeros((1, 1, channels, filters))
    kernel[0, 0, 0] = gain
    pool = {"pool_size": [2, 2], "strides": [2, 2], "padding": "valid"}
    config = CONV | {"filters": filters, "kernel_size": [1, 1], "use_bias": False}
    layers = [
        picture_layer(channels=channels),
        layer("AveragePooling2D", "half", ["picture"], pool),
        layer("Conv2D", "conv3", ["half"], config, {"kernel": kernel}),
    ]
    return write_keras(path, layers)


@pytest.mark.parametrize(
    ("weights", "metres"),
    [
        # y is 0, 4, 20 and 200 / 3 from left to right: 1000 / y centimetres, from 10 to 1000.
        ("nyu", [10.0, 2.5, 0.5, 0.15]),
        # The same as 80 / y metres, from 1 to 80.
        ("kitti", [80.0, 20.0, 4.0, 1.2]),
    ],
)
def test_known_answers_become_metres(tmp_path, weights, metres):
    write_densedepth(reader(tmp_path / "k.h5", 200 / 3), tmp_path / "d.onnx", weights)
    model = load_model(tmp_path / "d.onnx")
    assert model.name == f"densedepth-{weights}"
    assert model.card.output.meaning == ("depth", "m")
    red = np.repeat(np.array([0, 4, 20, 200 / 3]) / (200 / 3) * 255, 16)
    images = np.zeros((1, 32, 64, 3), np.uint8)
    images[..., 0] = np.rint(red)
    out = np.empty((1, 16, 32), np.float16)
    DepthSession(model, (16, 32), scale=2, execution=Execution(device="cpu")).run(images, out)
    y = np.rint(red)[::2] / 255 * (200 / 3)
    with np.errstate(divide="ignore"):
        exact = np.clip(1000 / y, 10, 1000) / 100 if weights == "nyu" else np.clip(80 / y, 1, 80)
    np.testing.assert_allclose(out[0], np.broadcast_to(exact, (16, 32)), rtol=1e-3)
    np.testing.assert_allclose(out[0, 8, 4::8], metres, rtol=0.05)  # bytes give red only roughly


def test_depth_stays_within_what_the_network_was_trained_for(tmp_path):
    images = np.full((1, 32, 32, 3), 255, np.uint8)
    out = np.empty((1, 16, 16), np.float16)
    for weights, nearest in (("nyu", 0.1), ("kitti", 1.0)):
        write_densedepth(reader(tmp_path / "k.h5", 1e5), tmp_path / f"{weights}.onnx", weights)
        model = load_model(tmp_path / f"{weights}.onnx")
        DepthSession(model, (16, 16), scale=2, execution=Execution(device="cpu")).run(images, out)
        np.testing.assert_allclose(out, nearest, rtol=1e-3)


def test_the_files_that_are_written(tmp_path):
    out = tmp_path / "densedepth-nyu.onnx"
    out.write_bytes(b"an older file")
    write_densedepth(SMALL, out, "nyu", bilinear="align_corners")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["densedepth-nyu.json", "densedepth-nyu.onnx"]
    model = load_model(out)
    assert model.card.sha256 == model.sha256
    assert model.card.document["x-bilinear"] == "align_corners"
    assert model.card.input.size == SizeRule(multiple_of=32)
    assert (model.card.input.layout, model.card.output.axes) == ("NHWC", "NHW1")
    picture = ANSWERS["picture_a"].astype(np.float32) / 255
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    assert_agree(session.run(None, {"input_1": picture})[0], ANSWERS["densedepth_align_corners_a"])
    with h5py.File(SMALL) as file:
        assert "model_weights" in file  # the source is as it was


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda path: DATA / "every-layer.h5", (1, 32, 32, 2)),
        (lambda path: reader(path, filters=2), (1, 32, 32, 2)),
        (lambda path: reader(path, channels=1), (1, 64, 64, 1)),
    ],
)
def test_other_networks_are_not_taken_for_densedepth(tmp_path, make, shape):
    source = make(tmp_path / "k.h5")
    with pytest.raises(DepthModelError) as caught:
        write_densedepth(source, tmp_path / "d.onnx", "nyu")
    assert caught.value.code == "keras-unsupported"
    assert str(shape) in caught.value.message
    assert not list(tmp_path.glob("d.*"))


def test_a_network_whose_answer_is_not_finite(tmp_path):
    large = CONV | {"filters": 3, "kernel_size": [1, 1], "strides": [2, 2], "use_bias": False}
    layers = [
        picture_layer(),
        layer("Conv2D", "large", ["picture"], large, {"kernel": np.full((1, 1, 3, 3), 1e38)}),
        layer(
            "Conv2D",
            "conv3",
            ["large"],
            large | {"filters": 1, "strides": [1, 1]},
            {"kernel": np.full((1, 1, 3, 1), 9)},
        ),
    ]
    with pytest.raises(DepthModelError) as caught:
        write_densedepth(write_keras(tmp_path / "k.h5", layers), tmp_path / "d.onnx", "nyu")
    assert caught.value.code == "network-output-not-finite"


def test_options_and_places_that_cannot_be_used(tmp_path):
    (tmp_path / "taken.onnx").mkdir()
    for out, weights, code in (
        ("d.onnx", "sintel", "keras-unsupported"),
        ("d.h5", "nyu", "keras-unsupported"),
        ("gone/d.onnx", "nyu", "io-failed"),
        ("taken.onnx", "nyu", "io-failed"),
    ):
        with pytest.raises(DepthModelError) as caught:
            write_densedepth(SMALL, tmp_path / out, weights)
        assert caught.value.code == code
    assert [path.name for path in tmp_path.iterdir()] == ["taken.onnx"]
