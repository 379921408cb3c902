"""Single Keras layers converted to ONNX, against NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from keras_files import (
    CONV,
    PICTURE,
    answer_of,
    assert_agree,
    conv_weights,
    layer,
    normal_weights,
    picture_layer,
    run,
    write_keras,
)

from fgbgpack.depth.keras import import_keras


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
