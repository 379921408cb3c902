"""DenseDepth's networks with their cards."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from onnx import ModelProto

from fgbgpack.depth.keras.conversion import import_keras
from fgbgpack.depth.keras.layers import Bilinear
from fgbgpack.depth.keras.network import import_error
from fgbgpack.depth.onnx_file import listed
from fgbgpack.depth.registry import our_card
from fgbgpack.errors import DepthModelError
from fgbgpack.files import sha256_of, write_atomically

DenseDepthWeights = Literal["nyu", "kitti"]


def write_densedepth(
    path: str | Path, out: str | Path, weights: DenseDepthWeights, *, bilinear: Bilinear = "half_pixel"
) -> None:
    """Converts DenseDepth's Keras file, ``nyu.h5`` or ``kitti.h5``, to ``FILE.onnx``, with its card
    ``FILE.json``; existing files are replaced, each in one step.

    The card's transform gives metres. For NYU it is that of DenseDepth's published ``predict`` (Alhashim and
    Wonka, arXiv:1812.11941): clip(1000 / y, 10, 1000) / 100. For KITTI it is clip(80 / y, 1, 80), from what
    its author wrote of the range and of the predictions; the published code does not have it. The card
    records ``bilinear``, which is as in :func:`import_keras`.

    Raises:
        DepthModelError: As in :func:`import_keras`; or the network is not DenseDepth, or the files cannot be
            written.
    """
    path, out = Path(path), Path(out)
    if weights not in get_args(DenseDepthWeights):
        known = listed(get_args(DenseDepthWeights))
        raise import_error(f"weights: found {weights!r}, expected one of {known}.")
    if out.suffix != ".onnx":
        raise import_error(f"{out}: expected a name that ends with .onnx; the card goes beside it.")
    if not out.parent.is_dir():
        raise DepthModelError(f"{out} cannot be written: there is no folder {out.parent}.", code="io-failed")
    model = import_keras(path, bilinear=bilinear)
    content = model.SerializeToString(deterministic=True)
    _require_densedepth(path, model, content)
    card = {key: part for key, part in our_card(f"densedepth-{weights}").document.items() if key != "obtain"}
    card |= {
        "sha256": hashlib.sha256(content).hexdigest(),
        "x-keras-sha256": sha256_of(path),
        "x-bilinear": bilinear,
    }
    text = json.dumps(card, indent=2) + "\n"
    for file, written in ((out, content), (out.with_suffix(".json"), text.encode())):
        try:
            write_atomically(file, written)
        except OSError as exc:
            raise DepthModelError(f"{file} cannot be written: {exc.strerror}.", code="io-failed") from exc


def _require_densedepth(path: Path, model: ModelProto, content: bytes) -> None:
    """Runs the network on a small noisy picture; raises DepthModelError where it does not answer as
    DenseDepth does.
    """
    import onnxruntime

    side = 64
    channels = model.graph.input[0].type.tensor_type.shape.dim[3].dim_value
    picture = np.random.default_rng(0).random((1, side, side, channels), np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        (answer,) = session.run(None, {model.graph.input[0].name: picture})
    except Exception as exc:  # ONNX Runtime has an exception of its own for each kind of failure
        raise import_error(f"The network in {path} cannot run on a picture of {side}x{side}: {exc}") from exc
    expected = (1, side // 2, side // 2, 1)
    if channels != 3 or answer.shape != expected:
        raise import_error(
            f"{path} is not DenseDepth: from {picture.shape} its network makes {answer.shape}; DenseDepth "
            f"makes {expected} from {(1, side, side, 3)}. Other networks go through import_keras."
        )
    if not np.isfinite(answer).all():
        raise DepthModelError(
            f"The network in {path} gives values that are not finite: the file is damaged.",
            code="network-output-not-finite",
        )
