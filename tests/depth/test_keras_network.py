"""Files that are not whole Keras models."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from keras_files import SMALL
from refusals import refused

from fgbgpack.depth.keras import import_keras
from fgbgpack.errors import DepthModelError


def import_refused(path, code, **options):
    with refused(DepthModelError, code) as caught:
        import_keras(path, **options)
    return caught.value


def test_a_file_of_weights_only(tmp_path):
    path = tmp_path / "weights.h5"
    with h5py.File(SMALL) as source, h5py.File(path, "w") as file:
        for key in source["model_weights"]:
            source.copy(f"model_weights/{key}", file)
        file.attrs["layer_names"] = source["model_weights"].attrs["layer_names"]
    assert "save_weights" in import_refused(path, "model-file-corrupt").message


def test_an_hdf5_file_of_something_else(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.arange(3)
    import_refused(tmp_path / "other.h5", "model-file-corrupt")
    with h5py.File(tmp_path / "graph.h5", "w") as file:
        file.attrs["model_config"] = "{}"
    assert "model_weights" in import_refused(tmp_path / "graph.h5", "model-file-corrupt").message


@pytest.mark.parametrize(
    "config", ["{", "[]", '{"class_name": "Model"}', '{"class_name": "Model", "config": {"layers": 3}}']
)
def test_a_graph_that_cannot_be_understood(tmp_path, config):
    with h5py.File(tmp_path / "broken.h5", "w") as file:
        file.attrs["model_config"] = config
        file.create_group("model_weights")
    assert "model_config" in import_refused(tmp_path / "broken.h5", "model-file-corrupt").message


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.99])
def test_a_download_that_was_cut_short(tmp_path, kept):
    content = SMALL.read_bytes()
    path = tmp_path / "short.h5"
    path.write_bytes(content[: int(len(content) * kept)])
    assert f"{path} ({path.stat().st_size} bytes)" in import_refused(path, "model-file-corrupt").message


def test_a_file_whose_middle_is_damaged(tmp_path):
    path = tmp_path / "damaged.h5"
    content = bytearray(SMALL.read_bytes())
    with h5py.File(SMALL) as file:
        group = file["model_weights/conv2"]
        start = h5py.h5o.get_info(group["conv2/kernel:0"].id).addr
    content[start : start + 64] = b"\xff" * 64  # the head of one dataset
    path.write_bytes(content)
    import_refused(path, "model-file-corrupt")


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
    assert text in import_refused(path, "model-file-corrupt").message


def test_no_file_and_a_folder(tmp_path):
    for path in (tmp_path / "nyu.h5", tmp_path):
        assert str(path) in import_refused(path, "model-file-corrupt").message
