"""DenseDepth converted, with its card."""

from __future__ import annotations

import h5py
import numpy as np
import onnxruntime
import pytest
from keras_files import ANSWERS, CONV, DATA, SMALL, assert_agree, layer, picture_layer, write_keras
from refusals import refused

from fgbgpack.depth import DepthSession, Execution, load_model
from fgbgpack.depth.card import SizeRule
from fgbgpack.depth.keras import write_densedepth
from fgbgpack.errors import DepthModelError


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
    with refused(DepthModelError, "keras-unsupported") as caught:
        write_densedepth(source, tmp_path / "d.onnx", "nyu")
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
    with refused(DepthModelError, "network-output-not-finite"):
        write_densedepth(write_keras(tmp_path / "k.h5", layers), tmp_path / "d.onnx", "nyu")


def test_options_and_places_that_cannot_be_used(tmp_path):
    (tmp_path / "taken.onnx").mkdir()
    for out, weights, code in (
        ("d.onnx", "sintel", "keras-unsupported"),
        ("d.h5", "nyu", "keras-unsupported"),
        ("gone/d.onnx", "nyu", "io-failed"),
        ("taken.onnx", "nyu", "io-failed"),
    ):
        with refused(DepthModelError, code):
            write_densedepth(SMALL, tmp_path / out, weights)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.onnx"]
