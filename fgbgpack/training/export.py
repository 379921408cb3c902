"""From PyTorch to ONNX: batch normalisation folded, weights in half precision, checked against PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fgbgpack.errors import DepthModelError
from fgbgpack.files import write_atomically
from fgbgpack.training.networks import DepthNetwork

_OPSET = 18
#: Smaller tensors, biases mostly, stay in float32.
_LEAST_HALVED = 64


def export(network: DepthNetwork, path: Path, *, tolerance: float = 0.02) -> float:
    """Writes a network as an ONNX file with free batch, height and width, and the answer ``depth``.

    Returns the largest difference between the file's answer and PyTorch's, over the answer's standard
    deviation, on noise of several sizes. Half precision has 11 bits, so it changes a weight by little.

    Raises:
        DepthModelError: The difference is above ``tolerance`` (``export-differs``). No file is written.
    """
    inputs, multiple = network.INPUTS, network.MULTIPLE
    folded = _fold_batch_norm(network)
    example = _noise(inputs, (2, 4 * multiple, 5 * multiple))
    sizes = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    program = torch.onnx.export(
        folded,
        example,
        input_names=list(inputs),
        output_names=["depth"],
        opset_version=_OPSET,
        dynamo=True,
        dynamic_shapes=tuple(sizes for _ in inputs),
        verbose=False,
    )
    if program is None:
        raise DepthModelError("PyTorch gave no ONNX program.", code="export-failed")
    model = _strip(program.model_proto, inputs)
    _halve_weights(model)
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    difference = max(
        _difference(folded, content, _noise(inputs, (n, height * multiple, width * multiple)))
        for n, height, width in ((1, 1, 1), (3, 4, 3), (2, 7, 12))
    )
    if not difference <= tolerance:
        raise DepthModelError(
            f"{path} differs from PyTorch by {difference:.3g} standard deviations of its answer; at most "
            f"{tolerance} was expected.",
            code="export-differs",
        )
    write_atomically(path, content)
    return difference


def _fold_batch_norm(network: nn.Module) -> nn.Module:
    """A copy in which each batch normalisation is folded into the convolution before it."""
    network = copy.deepcopy(network).to("cpu").float().eval()
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential):
            for index in range(len(module) - 1):
                first, second = module[index], module[index + 1]
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    module[index], module[index + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
    return network


def _strip(model: ModelProto, inputs: Mapping[str, int]) -> ModelProto:
    """Removes all but what runs, such as notes of where nodes came from, and gives axes plain names."""
    graph = model.graph
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*graph.value_info, *graph.input, *graph.output):
        del value.metadata_props[:]
    for tensor in graph.initializer:
        del tensor.metadata_props[:]
    del graph.value_info[:], graph.metadata_props[:], model.metadata_props[:], model.functions[:]
    for value in (*graph.input, graph.output[0]):
        sides = ("h", "w") if value.name in inputs else ("depth_h", "depth_w")
        shape: list[str | int | None] = ["n", inputs.get(value.name, 1), *sides]
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, shape))
    model.producer_name, model.producer_version = "fgbgpack", ""
    return model


def _halve_weights(model: ModelProto) -> None:
    """Keeps weights in float16, cast to float32 where they are used: half the file, the same speed."""
    casts = []
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.dtype != np.float32 or weights.size < _LEAST_HALVED:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(weights.astype(np.float16), f"{name}/half"))
        cast = helper.make_node("Cast", [tensor.name], [name], name=f"{name}/cast", to=TensorProto.FLOAT)
        casts.append(cast)
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _noise(inputs: Mapping[str, int], shape: tuple[int, int, int]) -> tuple[Tensor, ...]:
    n, height, width = shape
    rng = torch.Generator().manual_seed(0)
    return tuple(
        nn.functional.interpolate(
            torch.randn((n, channels, height // 8, width // 8), generator=rng),
            (height, width),
            mode="bilinear",
        ).clamp(-2, 2)
        for channels in inputs.values()
    )


@torch.no_grad()
def _difference(network: nn.Module, model: bytes, inputs: tuple[Tensor, ...]) -> float:
    """Largest difference between both answers, over the standard deviation of PyTorch's."""
    expected = network(*inputs).numpy()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    feed = {value.name: x.numpy() for value, x in zip(session.get_inputs(), inputs, strict=True)}
    (found,) = session.run(["depth"], feed)
    if found.shape != expected.shape:
        raise DepthModelError(
            f"The ONNX network answers with shape {found.shape}, PyTorch's with {expected.shape}.",
            code="export-differs",
        )
    return float(np.abs(found - expected).max() / max(expected.std(), 1e-6))
