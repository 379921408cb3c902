"""The two networks: the depth of a background, and where in it a pasted foreground stands.

Both are plain convolutions with batch normalisation, which is folded into them before export: at these sizes
a CPU runs full convolutions at low resolution faster than it moves the memory of depthwise ones.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu


class DepthNetwork(nn.Module):
    """An encoder of residual blocks to 1/32 of the picture, and a decoder back to some level.

    The mean over the whole picture is added at 1/32, so that every pixel knows the scene it is in. ``INPUTS``
    has the name and number of channels of each input, in order; heights and widths are multiples of
    ``MULTIPLE``.
    """

    INPUTS: ClassVar[dict[str, int]]
    MULTIPLE: ClassVar[int] = 32

    def __init__(self, widths: tuple[int, ...], blocks: tuple[int, ...], decoded: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = _convolution(sum(self.INPUTS.values()), widths[0], stride=2)
        self.stages = nn.ModuleList(
            nn.Sequential(_convolution(before, width, stride=2), *(_Residual(width) for _ in range(count)))
            for (before, width), count in zip(pairwise(widths), blocks, strict=True)
        )
        self.context = nn.Conv2d(widths[-1], widths[-1], 1)
        self.decoder = _Decoder(widths[::-1][: len(decoded)], decoded)

    def decode(self, inputs: Tensor) -> Tensor:
        """Features of the decoder's finest level for the inputs, (n, channels, h, w)."""
        levels = [self.stem(inputs)]
        for stage in self.stages:
            levels.append(stage(levels[-1]))
        levels[-1] = levels[-1] + self.context(levels[-1].mean((2, 3), keepdim=True))
        features: Tensor = self.decoder(levels)
        return features


class SceneNetwork(DepthNetwork):
    """RGB to relative inverse depth."""

    INPUTS: ClassVar = {"image": 3}

    def __init__(self) -> None:
        super().__init__((24, 32, 64, 128, 224), (1, 2, 3, 2), (96, 64, 32, 24, 16))
        self.head = nn.Sequential(_convolution(16, 16), nn.Conv2d(16, 1, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        """Inverse depth up to scale and shift, (n, 1, h / 2, w / 2), of pictures.

        ``image`` is (n, 3, h, w), RGB as (0..255 - 127.5) / 64; h and w are multiples of 32.
        """
        depth: Tensor = self.head(self.decode(image))
        return depth


class GuidedNetwork(DepthNetwork):
    """Composite, mask and the background's depth to the depth of the foreground.

    The answer is made at 1/8 and enlarged: a person is nearly flat in a room, and what a network adds to that
    at full size is the pattern of the clothes. The outline comes from the mask, not from the network.
    """

    INPUTS: ClassVar = {"image": 3, "mask": 1, "background_depth": 1}
    _RELIEF = 0.25

    def __init__(self) -> None:
        super().__init__((16, 32, 64, 112, 160), (0, 1, 1, 1), (96, 80, 64))
        self.head = nn.Sequential(_convolution(64, 32), nn.Conv2d(32, 1, 3, padding=1))

    def forward(self, image: Tensor, mask: Tensor, background_depth: Tensor) -> Tensor:
        """Inverse depth of foregrounds, (n, 1, h, w), in the background's units. It counts in the mask.

        Args:
            image: (n, 3, h, w), RGB as (0..255 - 127.5) / 64; h and w multiples of 32.
            mask: (n, 1, h, w), -1 (none) to 1 (opaque).
            background_depth: (n, 1, h, w), inverse depth of the empty background, less its median, over its
                mean absolute deviation from that.
        """
        features = self.decode(torch.cat([image, mask, background_depth.clamp(-6.0, 12.0)], 1))
        depth = interpolate(self.head(features), scale_factor=8.0, mode="bilinear")
        # A person is whole, feet to head: little relief is left.
        opacity = (mask + 1.0) / 2.0
        mean = (depth * opacity).sum((2, 3), keepdim=True) / opacity.sum((2, 3), keepdim=True).clamp(min=1.0)
        return mean + self._RELIEF * (depth - mean)


class _Residual(nn.Module):
    """Two convolutions of 3x3 and a way past them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _convolution(width, width)
        self.second = _convolution(width, width, active=False)

    def forward(self, x: Tensor) -> Tensor:
        return relu(x + self.second(self.first(x)))


class _Decoder(nn.Module):
    """From the coarsest level to a finer one: convolve, double, add the next level."""

    def __init__(self, levels: tuple[int, ...], widths: tuple[int, ...]) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c, width in zip(levels, widths, strict=True))
        self.steps = nn.ModuleList(_convolution(a, b) for a, b in pairwise(widths))

    def forward(self, levels: list[Tensor]) -> Tensor:
        """``levels``: from fine to coarse, each half the one before; the coarsest ones are decoded."""
        laterals = [lateral(level) for lateral, level in zip(self.lateral, reversed(levels), strict=False)]
        x = laterals[0]
        for step, lateral in zip(self.steps, laterals[1:], strict=True):
            x = interpolate(step(x), scale_factor=2.0, mode="bilinear") + lateral
        return relu(x)


def _convolution(inputs: int, outputs: int, *, stride: int = 1, active: bool = True) -> nn.Sequential:
    layers = [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if active else nn.Sequential(*layers)
