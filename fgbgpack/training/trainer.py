"""The course of the training: what each network is shown at each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from fgbgpack.training.fit import Fit
from fgbgpack.training.losses import foreground_loss, scene_loss
from fgbgpack.training.networks import GuidedNetwork, SceneNetwork
from fgbgpack.training.views import LABEL, VIEW, Counts, Views

#: Most of what there is to know of a scene is learnt from views of half the size, of which many more can be
#: looked at in the same time; then what a picture is like at full size.
_SCENE_COARSE = 0.65
_SCENE_COARSE_BATCH, _SCENE_BATCH, _GUIDED_BATCH = 32, 8, 32
_SCENE_RATE, _GUIDED_RATE = 2e-3, 2e-3
_SCENE_SIDES = (320, 384)
_GUIDED_SIDES = (96, 128, 128, 160, 192)
#: How the views of a batch are drawn: photographs, backgrounds, rendered rooms.
_SHARES = (0.4, 0.33, 0.27)

#: How strongly depth is bent, and how far it errs, when it is shown as another network might see it.
_BEND, _ERROR = 0.3, 0.35

#: Called with the network's name, the step, the number of steps, and the mean loss since the last call.
OnStep = Callable[[str, int, int, float], None]


@dataclass(frozen=True)
class Course:
    """Trains both networks on views.

    Attributes:
        views: Pictures and labels.
        counts: How many there are of each kind.
        folder: Where checkpoints are kept.
        seed: What everything that is drawn depends on.
        scene_steps: Steps for the scene network: of 32 views at half their size, then of 8.
        guided_steps: Steps of 32 composites for the guided network.
        device: What they are trained on.
    """

    views: Views
    counts: Counts
    folder: Path
    seed: int
    scene_steps: int
    guided_steps: int
    device: torch.device

    def train_scene(self, on_step: OnStep) -> SceneNetwork:
        """The scene network, trained."""
        torch.manual_seed(self.seed)
        fit = Fit(
            SceneNetwork(),
            self._scene_loss,
            steps=self.scene_steps,
            rate=_SCENE_RATE,
            checkpoint=self.folder / "scene.pt",
            device=self.device,
        )
        return fit.run(lambda *event: on_step("scene", *event))

    def train_guided(self, on_step: OnStep) -> GuidedNetwork:
        """The guided network, trained."""
        torch.manual_seed(self.seed)
        fit = Fit(
            GuidedNetwork(),
            self._guided_loss,
            steps=self.guided_steps,
            rate=_GUIDED_RATE,
            checkpoint=self.folder / "guided.pt",
            device=self.device,
        )
        return fit.run(lambda *event: on_step("guided", *event))

    def _scene_loss(self, network: SceneNetwork, step: int) -> Tensor:
        dice = np.random.default_rng([self.seed, 11, step])
        coarse = step < _SCENE_COARSE * self.scene_steps
        batch = _SCENE_COARSE_BATCH if coarse else _SCENE_BATCH
        counts = self.counts
        sizes = (counts.photographs, counts.backgrounds, counts.rooms)
        firsts = np.cumsum([0, *sizes[:2]])
        kinds = dice.choice(3, batch, p=_SHARES)
        items = [int(firsts[kind] + dice.integers(sizes[kind])) for kind in kinds]
        side = int(dice.choice(_SCENE_SIDES))
        images = np.empty((batch, side, side, 3), np.uint8)
        labels = np.empty((batch, side // 2, side // 2), np.float16)
        for image, label, item in zip(images, labels, items, strict=True):
            top, left = (2 * int(dice.integers(0, (VIEW - side) // 2 + 1)) for _ in range(2))
            turn = slice(None, None, -1 if dice.random() < 0.5 else 1)
            image[...] = self.views.image[item, top : top + side, left : left + side][:, turn]
            half = slice(top // 2, (top + side) // 2), slice(left // 2, (left + side) // 2)
            label[...] = self.views.label[item][half][:, turn]
        fed, wanted = _fed(images, dice), _tensor(labels)
        if coarse:
            fed, wanted = avg_pool2d(fed, 2), avg_pool2d(wanted, 2)
        depth = network(fed.to(self.device))
        return scene_loss(depth.float(), wanted.to(self.device))

    def _guided_loss(self, network: GuidedNetwork, step: int) -> Tensor:
        dice = np.random.default_rng([self.seed, 12, step])
        views = self.views
        items = np.sort(dice.integers(0, self.counts.composites, _GUIDED_BATCH))
        background, foreground = _seen_otherwise(
            _tensor(views.label[views.view[items]]), _tensor(views.foreground[items]), dice
        )
        image = _fed(views.composite[items], dice)
        mask = torch.from_numpy(views.mask[items].astype(np.float32) / 255)[:, None]
        side = int(dice.choice(_GUIDED_SIDES))
        if side != LABEL:
            image, mask, background, foreground = (
                interpolate(x, (side, side), mode="bilinear", antialias=True, align_corners=False)
                for x in (image, mask, background, foreground)
            )
        if dice.random() < 0.5:
            image, mask, background, foreground = (x.flip(3) for x in (image, mask, background, foreground))
        image, mask, background, foreground = (
            x.to(self.device) for x in (image, mask, background, foreground)
        )
        image = image.contiguous(memory_format=torch.channels_last)
        depth = network(image, 2 * mask - 1, background)
        return foreground_loss(depth.float(), foreground, mask)


def _fed(images: NDArray[np.uint8], dice: np.random.Generator | None) -> Tensor:
    """(n, 3, h, w), as the networks take it; with dice in other light."""
    fed = (torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2) - 127.5) / 64
    if dice is None:
        return fed.contiguous(memory_format=torch.channels_last)
    n = len(images)
    contrast = torch.from_numpy(dice.uniform(0.8, 1.2, (n, 1, 1, 1)).astype(np.float32))
    brightness = torch.from_numpy(dice.uniform(-0.2, 0.2, (n, 1, 1, 1)).astype(np.float32))
    tint = torch.from_numpy(dice.uniform(-0.08, 0.08, (n, 3, 1, 1)).astype(np.float32))
    fed = fed * contrast + brightness + tint
    return fed.clamp(-2.0, 2.0).contiguous(memory_format=torch.channels_last)


def _tensor(maps: NDArray[np.float16]) -> Tensor:
    return torch.from_numpy(maps.astype(np.float32))[:, None]


def _seen_otherwise(
    background: Tensor, foreground: Tensor, dice: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Depth as another scene network might say it, so that the guided network goes with any.

    Some are softer, some see the near nearer or the far farther, all err in large patches; the foreground
    goes with its background. A third is left as it is.

    Args:
        background: (n, 1, h, w), normalised.
        foreground: (n, 1, h, w), in the same units.
        dice: What it depends on.

    Returns:
        Both, in units of the new background, normalised.
    """
    n, _, height, width = background.shape

    def drawn(low: float, high: float) -> Tensor:
        return torch.from_numpy(dice.uniform(low, high, (n, 1, 1, 1)).astype(np.float32))

    bend = drawn(-_BEND, _BEND)
    coarse = interpolate(background, (int(dice.integers(12, 49)),) * 2, mode="bilinear", antialias=True)
    soft = interpolate(coarse, (height, width), mode="bilinear")
    patches = torch.from_numpy(dice.normal(size=(n, 1, 6, 6)).astype(np.float32))
    patches = interpolate(patches, (height, width), mode="bicubic")
    other = torch.where(drawn(0, 1) < 0.5, soft, background)
    other = _bent(other, bend) + drawn(0.0, _ERROR) * patches
    as_it_is = drawn(0, 1) < 0.33
    background = torch.where(as_it_is, background, other)
    foreground = torch.where(as_it_is, foreground, _bent(foreground, bend))
    flat = background.flatten(1)
    median = flat.median(1).values[:, None, None, None]
    spread = (background - median).abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-3)
    return (background - median) / spread, (foreground - median) / spread


def _bent(depth: Tensor, bend: Tensor) -> Tensor:
    """A curve through 0 that rises everywhere: steeper far out where bend is above 0, flatter below."""
    amount = bend.abs().clamp(min=1e-3)
    steep = torch.sinh((amount * depth).clamp(-6.0, 6.0)) / amount
    return torch.where(bend > 0, steep, torch.asinh(4.0 * amount * depth) / (4.0 * amount))
