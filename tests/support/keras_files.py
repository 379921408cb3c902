"""Keras files with small networks, and their answers."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import onnxruntime

from fgbgpack.depth.keras import import_keras

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
