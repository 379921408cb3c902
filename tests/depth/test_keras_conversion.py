"""Whole Keras networks converted to ONNX, against Keras' own answers; and those that cannot be converted."""

from __future__ import annotations

import numpy as np
import pytest
from keras_files import (
    ANSWERS,
    CONV,
    DATA,
    SMALL,
    assert_agree,
    conv_weights,
    layer,
    normal_weights,
    picture_layer,
    run,
    write_keras,
)
from refusals import refused

from fgbgpack.depth.keras import import_keras
from fgbgpack.errors import DepthModelError


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


def import_refused(path, code, **options):
    with refused(DepthModelError, code) as caught:
        import_keras(path, **options)
    return caught.value


def refusal(tmp_path, *layers, **options):
    path = write_keras(tmp_path / "network.h5", [picture_layer(), *layers], **options)
    error = import_refused(path, "keras-unsupported")
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
    error = import_refused(path, "keras-unsupported")
    assert error.problems[0].startswith("layer 'picture' (InputLayer): has shape [None, 9]")


def test_a_way_of_placing_pixels_that_does_not_exist():
    assert "'corners'" in import_refused(SMALL, "keras-unsupported", bilinear="corners").message
