"""The batches that each network is trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from fgbgpack.training.fit import Fit
from fgbgpack.training.losses import foreground_loss, median_and_deviation, scene_loss
from fgbgpack.training.networks import DepthNetwork, GuidedNetwork, SceneNetwork
from fgbgpack.training.views import LABEL, VIEW, Views

N = TypeVar("N", bound=DepthNetwork)

#: The scene network first trains on views of half the size, of which many more are seen in the same time.
_SCENE_COARSE = 0.65
_RATE = 2e-3
_SCENE_SIDES = (320, 384)
_GUIDED_SIDES = (96, 128, 128, 160, 192)
#: Shares of a batch: photographs, backgrounds, rendered rooms.
_SHARES = (0.4, 0.33, 0.27)
#: Largest bend and error of depth that imitates another network's.
_BEND, _ERROR = 0.3, 0.35

#: Called with the network's name, the step, the number of steps, and the mean loss since the last call.
OnStep = Callable[[str, int, int, float], None]


@dataclass(frozen=True)
class Schedule:
    """Steps of both networks, and views in a batch of half and of full size, composites in a batch."""

    scene_steps: int
    guided_steps: int
    coarse_batch: int = 32
    scene_batch: int = 8
    guided_batch: int = 32


@dataclass(frozen=True)
class Trainer:
    """Trains both networks on views; checkpoints are kept in ``folder``."""

    views: Views
    folder: Path
    seed: int
    schedule: Schedule
    device: torch.device

    def train_scene(self, on_step: OnStep) -> SceneNetwork:
        """The scene network, trained."""
        return self._train("scene", SceneNetwork, self._scene_loss, self.schedule.scene_steps, on_step)

    def train_guided(self, on_step: OnStep) -> GuidedNetwork:
        """The guided network, trained."""
        return self._train("guided", GuidedNetwork, self._guided_loss, self.schedule.guided_steps, on_step)

    def _train(
        self,
        name: str,
        network: Callable[[], N],
        loss: Callable[[N, int], Tensor],
        steps: int,
        on_step: OnStep,
    ) -> N:
        torch.manual_seed(self.seed)
        checkpoint = self.folder / f"{name}.pt"
        fit = Fit(network(), loss, steps=steps, rate=_RATE, checkpoint=checkpoint, device=self.device)
        return fit.run(lambda *event: on_step(name, *event))

    def _scene_loss(self, network: SceneNetwork, step: int) -> Tensor:
        rng = np.random.default_rng([self.seed, 11, step])
        coarse = step < _SCENE_COARSE * self.schedule.scene_steps
        batch = self.schedule.coarse_batch if coarse else self.schedule.scene_batch
        ranges = [self.views.counts.ranges[kind] for kind in rng.choice(3, batch, p=_SHARES)]
        items = [int(kind.start + rng.integers(len(kind))) for kind in ranges]
        side = int(rng.choice(_SCENE_SIDES))
        images = np.empty((batch, side, side, 3), np.uint8)
        labels = np.empty((batch, side // 2, side // 2), np.float16)
        for image, label, item in zip(images, labels, items, strict=True):
            top, left = (2 * int(rng.integers(0, (VIEW - side) // 2 + 1)) for _ in range(2))
            mirror = slice(None, None, -1 if rng.random() < 0.5 else 1)
            image[...] = self.views.image[item, top : top + side, left : left + side][:, mirror]
            half = slice(top // 2, (top + side) // 2), slice(left // 2, (left + side) // 2)
            label[...] = self.views.label[item][half][:, mirror]
        image_batch, label_batch = _network_input(images, rng), _tensor(labels)
        if coarse:
            image_batch, label_batch = avg_pool2d(image_batch, 2), avg_pool2d(label_batch, 2)
        depth = network(image_batch.to(self.device))
        return scene_loss(depth.float(), label_batch.to(self.device))

    def _guided_loss(self, network: GuidedNetwork, step: int) -> Tensor:
        rng = np.random.default_rng([self.seed, 12, step])
        views = self.views
        items = np.sort(rng.integers(0, views.counts.composites, self.schedule.guided_batch))
        depths = _tensor(views.label[views.view[items]]), _tensor(views.foreground[items])
        background, foreground = _augment_depth(*depths, rng)
        image = _network_input(views.composite[items], rng)
        mask = torch.from_numpy(views.mask[items].astype(np.float32) / 255)[:, None]
        batch: tuple[Tensor, ...] = (image, mask, background, foreground)
        side = int(rng.choice(_GUIDED_SIDES))
        if side != LABEL:
            batch = tuple(
                interpolate(x, (side, side), mode="bilinear", antialias=True, align_corners=False)
                for x in batch
            )
        if rng.random() < 0.5:
            batch = tuple(x.flip(3) for x in batch)
        image, mask, background, foreground = (x.to(self.device) for x in batch)
        image = image.contiguous(memory_format=torch.channels_last)
        depth = network(image, 2 * mask - 1, background)
        return foreground_loss(depth.float(), foreground, mask)


def _network_input(images: NDArray[np.uint8], rng: np.random.Generator) -> Tensor:
    """(n, 3, h, w), as the networks take it, in other light."""
    n = len(images)
    image = (torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2) - 127.5) / 64
    contrast, brightness, tint = (
        torch.from_numpy(rng.uniform(low, high, (n, channels, 1, 1)).astype(np.float32))
        for low, high, channels in ((0.8, 1.2, 1), (-0.2, 0.2, 1), (-0.08, 0.08, 3))
    )
    image = image * contrast + brightness + tint
    return image.clamp(-2.0, 2.0).contiguous(memory_format=torch.channels_last)


def _tensor(maps: NDArray[np.float16]) -> Tensor:
    return torch.from_numpy(maps.astype(np.float32))[:, None]


def _augment_depth(background: Tensor, foreground: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Depth as another scene network might give it, so that the guided network works with any.

    Half are smoothed, some enlarge near depth or far depth, all err in large patches; the foreground follows
    its background. A third stay as they are. Both are (n, 1, h, w), normalised with the background, before
    and after.
    """
    n, _, height, width = background.shape

    def uniform(low: float, high: float) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (n, 1, 1, 1)).astype(np.float32))

    bend = uniform(-_BEND, _BEND)
    coarse = interpolate(background, (int(rng.integers(12, 49)),) * 2, mode="bilinear", antialias=True)
    soft = interpolate(coarse, (height, width), mode="bilinear")
    patches = torch.from_numpy(rng.normal(size=(n, 1, 6, 6)).astype(np.float32))
    patches = interpolate(patches, (height, width), mode="bicubic")
    other = torch.where(uniform(0, 1) < 0.5, soft, background)
    other = _bend(other, bend) + uniform(0.0, _ERROR) * patches
    unchanged = uniform(0, 1) < 0.33
    background = torch.where(unchanged, background, other)
    foreground = torch.where(unchanged, foreground, _bend(foreground, bend))
    median, deviation = median_and_deviation(background)
    return (background - median) / deviation, (foreground - median) / deviation


def _bend(depth: Tensor, bend: Tensor) -> Tensor:
    """An increasing curve through 0: steeper far out where ``bend`` is above 0, flatter below."""
    amount = bend.abs().clamp(min=1e-3)
    steep = torch.sinh((amount * depth).clamp(-6.0, 6.0)) / amount
    return torch.where(bend > 0, steep, torch.asinh(4.0 * amount * depth) / (4.0 * amount))
