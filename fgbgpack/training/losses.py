"""What the networks are trained for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

_SCALES = 4
_SMALLEST_DEVIATION = 1e-3


def normalised(depth: Tensor) -> Tensor:
    """Each map less its median, over its mean absolute deviation from it.

    That takes scale and shift away, and is little moved by what is very near or far (Ranftl et al., "Towards
    robust monocular depth estimation", 2020, equation 5).

    Args:
        depth: (n, 1, h, w).
    """
    flat = depth.flatten(1)
    centred = flat - flat.median(1, keepdim=True).values
    spread = centred.abs().mean(1, keepdim=True).clamp(min=_SMALLEST_DEVIATION)
    return (centred / spread).view_as(depth)


def scene_loss(depth: Tensor, label: Tensor) -> Tensor:
    """Mean absolute error free of scale and shift, and the same of gradients at several scales.

    The gradients (Li and Snavely, "MegaDepth", 2018, equation 10) put edges where they belong and keep walls
    flat.

    Args:
        depth: (n, 1, h, w), what the network gave.
        label: (n, 1, h, w), normalised.

    Returns:
        A scalar.
    """
    error = normalised(depth) - normalised(label)
    return error.abs().mean() + 0.5 * gradient_loss(error)


def gradient_loss(error: Tensor) -> Tensor:
    """Mean absolute difference between neighbours, over scales from 1 to 1/8.

    At scale 1/2**k neighbours lie 2**k pixels apart, so the sums are over the same lengths.
    """
    total = error.new_zeros(())
    for _ in range(_SCALES):
        total = total + error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
        error = avg_pool2d(error, 2)
    return total


def foreground_loss(depth: Tensor, label: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error where the foreground is, more at its outline; each sample counts the same.

    Far out errors count less, by the square root: what stands right before the camera may be at 5 or at 15
    deviations, and either is plainly near.

    Args:
        depth: (n, 1, h, w), what the network gave.
        label: (n, 1, h, w), the foreground's inverse depth in the units of the background's.
        mask: (n, 1, h, w), 0..1.
    """
    around = avg_pool2d(mask, 9, stride=1, padding=4, count_include_pad=False)
    weight = mask * (1.0 + 2.0 * (around < 0.95))
    weight = weight / weight.sum((1, 2, 3), keepdim=True).clamp(min=1.0)
    error = _softened(depth) - _softened(label)
    slope = sum(
        ((error.diff(dim=axis).abs()) * mask.narrow(axis, 1, mask.shape[axis] - 1)).mean() for axis in (2, 3)
    )
    return (weight * error.abs()).sum() / len(depth) + slope


def _softened(depth: Tensor) -> Tensor:
    return torch.sign(depth) * ((1.0 + depth.abs()).sqrt() - 1.0) * 2.0
