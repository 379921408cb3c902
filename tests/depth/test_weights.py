"""Weights in files beside an ONNX file: found, checked, part of the digest, and given to the session."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from compiled_graphs import run
from depth_sessions import depth_of, open_session
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data
from onnx_models import FLOAT, card, gray, write_network
from refusals import refused

from fgbgpack import DepthSpec, create, fill_depth, open_dataset
from fgbgpack.depth import load_model
from fgbgpack.depth.graph import compile_graph
from fgbgpack.errors import DepthModelError, RecipeMismatchError

IMAGES = np.full((2, 4, 4, 3), (8, 16, 32), np.uint8)


def wide(path: Path, value: float = 0.01, **options) -> Path:
    """A network with weights of 12 KB beside it: the sum of the colours, times 1000 * ``value``."""
    nodes = [
        helper.make_node("Conv", ["input", "first"], ["features"]),
        helper.make_node("Conv", ["features", "second"], ["output"]),
    ]
    weights = {
        "first": np.full((1000, 3, 1, 1), value, np.float32),
        "second": np.ones((1, 1000, 1, 1), np.float32),
    }
    return write_network(path, nodes, weights=weights, external=True, **options)


def external(tensor: TensorProto, path: Path) -> None:
    """Moves the values of a tensor into a file beside ``path``."""
    content = tensor.raw_data
    path.write_bytes(bytes(16) + content)
    set_external_data(tensor, path.name, 16, len(content))
    tensor.ClearField("raw_data")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_large_weights_stay_beside_the_file_and_small_ones_are_embedded(tmp_path, precision):
    path = wide(tmp_path / "weights beside" / "m.onnx", 2**-10)
    names = {t.name for t in onnx.load(path, load_external_data=False).graph.initializer if t.external_data}
    assert names == {"first", "second"}
    compiled = compile_graph(load_model(path), (4, 4))
    assert [t.name for t in compiled.graph.initializer if t.external_data] == ["network/first"]
    session = open_session(path, height=4, width=4, precision=precision)
    np.testing.assert_allclose(depth_of(session, IMAGES), 1000 / 1024 * 56, atol=0.02)


def test_links_into_a_cache_of_downloads(tmp_path):
    made = gray(tmp_path / "made" / "model.onnx", external=True)
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "revision"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for number, name in enumerate(("model.onnx", "model.weights", "model.json")):
        (made.parent / name).rename(blobs / str(number))
        (snapshot / name).symlink_to(f"../../blobs/{number}")
    np.testing.assert_array_equal(run(snapshot / "model.onnx", IMAGES), np.full((2, 4, 4), 18))


def test_a_link_to_the_file_alone(tmp_path):
    made = wide(tmp_path / "made" / "m.onnx")
    link = tmp_path / "link.onnx"
    link.symlink_to(made)
    made.with_suffix(".json").rename(link.with_suffix(".json"))
    np.testing.assert_allclose(run(link, IMAGES), np.full((2, 4, 4), 560), atol=1)


def test_constants_within_nodes_and_within_graphs(tmp_path):
    """ONNX Runtime takes neither from a file."""
    channel = numpy_helper.from_array(np.array([1]), "value")
    factor = numpy_helper.from_array(np.full((1, 1, 1, 1), 2, np.float32), "factor")
    branch = helper.make_graph(
        [helper.make_node("Mul", ["chosen", "factor"], ["twice"])],
        "branch",
        [],
        [helper.make_tensor_value_info("twice", FLOAT, None)],
        [factor],
    )
    nodes = [
        helper.make_node("Constant", [], ["channel"], value=channel),
        helper.make_node("Gather", ["input", "channel"], ["chosen"], axis=1),
        helper.make_node("If", ["always"], ["output"], then_branch=branch, else_branch=branch),
    ]
    path = write_network(tmp_path / "m.onnx", nodes, weights={"always": np.array(True)})
    network = onnx.load(path)
    external(network.graph.node[0].attribute[0].t, tmp_path / "channel.bin")
    for attribute in network.graph.node[2].attribute:
        external(attribute.g.initializer[0], tmp_path / "factor.bin")
    path.write_bytes(network.SerializeToString())
    np.testing.assert_array_equal(run(path, IMAGES), np.full((2, 4, 4), 32))


def test_the_digest_has_all_files(tmp_path):
    path = gray(tmp_path / "m.onnx", external=True)
    before = load_model(path).sha256

    def digest(name):
        return hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()

    text = f"{digest('m.onnx')}\n{digest('m.weights')}  m.weights\n"
    assert before == hashlib.sha256(text.encode()).hexdigest()
    weights = (tmp_path / "m.weights").read_bytes()
    (tmp_path / "m.weights").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    after = load_model(path).sha256
    assert after != before
    gray(tmp_path / "m.onnx", external=True, card=card(sha256=after))
    with refused(DepthModelError, "card-invalid", f"this file has {before}"):
        load_model(path)


def test_a_network_without_such_files_has_the_digest_of_its_file(tmp_path):
    path = gray(tmp_path / "m.onnx")
    assert load_model(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_other_weights_are_another_network(tmp_path, pictures):
    path = wide(tmp_path / "m.onnx")
    create(tmp_path / "it.zarr", pictures.spec())
    depth = DepthSpec(model=str(path), mode="per-sample", scale=1)
    fill_depth(tmp_path / "it.zarr", depth)
    with open_dataset(tmp_path / "it.zarr") as dataset:
        before = dataset.depth[:].astype(np.float64)
    wide(path, 0.02)
    with refused(RecipeMismatchError, "dataset-differs", "model's file"):
        fill_depth(tmp_path / "it.zarr", depth)
    fill_depth(tmp_path / "it.zarr", depth, overwrite=True)
    with open_dataset(tmp_path / "it.zarr") as dataset:
        np.testing.assert_allclose(dataset.depth[:], 2 * before, rtol=0.01, atol=1)


def test_a_missing_and_a_short_file(tmp_path):
    path = wide(tmp_path / "m.onnx")
    content = (tmp_path / "m.weights").read_bytes()
    (tmp_path / "m.weights").write_bytes(content[:-1])
    with refused(
        DepthModelError, "card-invalid", f"found {len(content) - 1} bytes.*up to byte {len(content)}"
    ):
        load_model(path)
    (tmp_path / "m.weights").unlink()
    with refused(DepthModelError, "card-invalid", "m.weights: not found"):
        load_model(path)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret", "C:\\secret"])
def test_files_elsewhere_are_not_read(tmp_path, name):
    (tmp_path / "secret").write_bytes(bytes(100))
    (tmp_path / "a").mkdir()
    path = gray(tmp_path / "models" / "m.onnx", external=True)
    network = onnx.load(path, load_external_data=False)
    network.graph.initializer[0].external_data[0].value = name
    path.write_bytes(network.SerializeToString())
    with refused(DepthModelError, "card-invalid", "expected a file in the model's folder"):
        load_model(path)
