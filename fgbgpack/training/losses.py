"""What the networks minimise."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

_SCALES = 4
_SMALLEST_DEVIATION = 1e-3


def median_and_deviation(depth: Tensor) -> tuple[Tensor, Tensor]:
    """Median of each map (n, 1, h, w) and mean absolute deviation from it, (n, 1, 1, 1) each."""
    median = depth.flatten(1).median(1).values[:, None, None, None]
    deviation = (depth - median).abs().mean((1, 2, 3), keepdim=True)
    return median, deviation.clamp(min=_SMALLEST_DEVIATION)


def normalised(depth: Tensor) -> Tensor:
    """Each map (n, 1, h, w) less its median, over its mean absolute deviation from it.

    That removes scale and shift, and outliers hardly move it (Ranftl et al., "Towards robust monocular depth
    estimation", 2020, equation 5).
    """
    median, deviation = median_and_deviation(depth)
    return (depth - median) / deviation


def scene_loss(depth: Tensor, label: Tensor) -> Tensor:
    """Mean absolute error free of scale and shift, and the same of gradients at several scales.

    The gradients (Li and Snavely, "MegaDepth", 2018, equation 10) put edges where they belong and keep walls
    flat. Both maps are (n, 1, h, w).
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
    """Mean absolute error over the foreground, weighted at its outline; each sample counts the same.

    Large values count by their square root: what stands right before the camera may be at 5 or at 15
    deviations, and either is plainly near. All are (n, 1, h, w): depth and label in the units of the
    background's inverse depth, the mask 0..1.
    """
    around = avg_pool2d(mask, 9, stride=1, padding=4, count_include_pad=False)
    weight = mask * (1.0 + 2.0 * (around < 0.95))
    weight = weight / weight.sum((1, 2, 3), keepdim=True).clamp(min=1.0)
    error = _compressed(depth) - _compressed(label)
    slope = sum(
        ((error.diff(dim=axis).abs()) * mask.narrow(axis, 1, mask.shape[axis] - 1)).mean() for axis in (2, 3)
    )
    return (weight * error.abs()).sum() / len(depth) + slope


def _compressed(depth: Tensor) -> Tensor:
    return torch.sign(depth) * ((1.0 + depth.abs()).sqrt() - 1.0) * 2.0
