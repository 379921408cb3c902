"""From PyTorch to ONNX: batch normalisation folded, weights kept in half precision, checked."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fgbgpack.errors import DepthModelError

_OPSET = 18
#: Smaller tensors, biases mostly, stay as they are.
_LEAST_HALVED = 64
#: Largest difference to PyTorch that is let pass, over the answer's standard deviation. Half precision has 11
#: bits, and what it does to a weight is small beside what the weight does.
_TOLERANCE = 0.02


def export(network: nn.Module, path: Path, *, inputs: dict[str, int], multiple: int) -> float:
    """Write a network as an ONNX file with free batch, height and width.

    Args:
        network: The network; its answer is called ``depth``.
        path: The file.
        inputs: The name and number of channels of each input, in order.
        multiple: Heights and widths are multiples of this.

    Returns:
        The largest difference between the file's answer and PyTorch's, over the answer's standard deviation,
        on noise of several sizes.

    Raises:
        DepthModelError: The difference is too large.
    """
    folded = _folded(network)
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
        raise DepthModelError("PyTorch gave no ONNX program.")
    model = _bare(program.model_proto, inputs)
    _halve(model)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return _difference(folded, path, inputs, multiple)


def _folded(network: nn.Module) -> nn.Module:
    """A copy without batch normalisation: each is folded into the convolution before it."""
    network = copy.deepcopy(network).to("cpu").float().eval()
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential):
            for index in range(len(module) - 1):
                first, second = module[index], module[index + 1]
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    module[index], module[index + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
    return network


def _bare(model: ModelProto, inputs: dict[str, int]) -> ModelProto:
    """Only what runs: no notes of where each node came from, and axes with plain names."""
    graph = model.graph
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*graph.value_info, *graph.input, *graph.output):
        del value.metadata_props[:]
    for tensor in graph.initializer:
        del tensor.metadata_props[:]
    del graph.value_info[:], graph.metadata_props[:], model.metadata_props[:], model.functions[:]
    named = [(value, inputs[value.name]) for value in graph.input] + [(graph.output[0], 1)]
    for value, channels in named:
        sides: list[int | str | None]
        sides = ["n", channels, "h", "w"] if value.name in inputs else ["n", 1, "depth_h", "depth_w"]
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, sides))
    model.producer_name, model.producer_version = "fgbgpack", ""
    return model


def _halve(model: ModelProto) -> None:
    """Keep weights in float16, made float32 where they are used: half the file, the same speed."""
    casts = []
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.dtype != np.float32 or weights.size < _LEAST_HALVED:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(weights.astype(np.float16), f"{name}/half"))
        casts.append(
            helper.make_node("Cast", [tensor.name], [name], name=f"{name}/cast", to=TensorProto.FLOAT)
        )
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _noise(inputs: dict[str, int], shape: tuple[int, int, int]) -> tuple[Tensor, ...]:
    n, height, width = shape
    made = torch.Generator().manual_seed(0)
    return tuple(
        nn.functional.interpolate(
            torch.randn((n, channels, height // 8, width // 8), generator=made),
            (height, width),
            mode="bilinear",
        ).clamp(-2, 2)
        for channels in inputs.values()
    )


@torch.no_grad()
def _difference(network: nn.Module, path: Path, inputs: dict[str, int], multiple: int) -> float:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for shape in ((1, multiple, multiple), (3, 4 * multiple, 3 * multiple), (2, 7 * multiple, 12 * multiple)):
        given = _noise(inputs, shape)
        expected = network(*given).numpy()
        fed = {name: tensor.numpy() for name, tensor in zip(inputs, given, strict=True)}
        (found,) = session.run(["depth"], fed)
        if found.shape != expected.shape:
            raise DepthModelError(f"{path} answers with shape {found.shape}, PyTorch with {expected.shape}.")
        worst = max(worst, float(np.abs(found - expected).max() / max(expected.std(), 1e-6)))
    if not worst <= _TOLERANCE:
        raise DepthModelError(
            f"{path} differs from PyTorch by {worst:.3g} standard deviations of its answer; at most "
            f"{_TOLERANCE} was expected."
        )
    return worst
