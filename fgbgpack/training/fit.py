"""The training loop: seeded, and resumable at any step."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

N = TypeVar("N", bound=nn.Module)

_WEIGHT_DECAY = 0.02
_WARM_UP = 200
_AVERAGED_OVER = 500
_CHECKPOINT_STEPS = 100

#: Called with the step, the number of steps, and the mean loss since the last call.
OnStep = Callable[[int, int, float], None]


class Fit(Generic[N]):
    """Trains a network, and keeps a running mean of its weights, which is what is used in the end.

    Args:
        network: The network, initialised.
        loss: Gives the loss of step i; what it draws must depend on i and on the seed only.
        steps: How many steps there are. The learning rate rises over the first and falls to 0 with the last.
        rate: The largest learning rate.
        checkpoint: A file that holds all of it, written now and then; training goes on from it.
        device: What it runs on.
    """

    def __init__(
        self,
        network: N,
        loss: Callable[[N, int], Tensor],
        *,
        steps: int,
        rate: float,
        checkpoint: Path,
        device: torch.device,
    ) -> None:
        self._device = device
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = copy.deepcopy(network).eval()
        self._loss, self._steps, self._rate, self._checkpoint = loss, steps, rate, checkpoint
        self._optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=_WEIGHT_DECAY)
        self.step = 0
        if checkpoint.exists():
            state = torch.load(checkpoint, weights_only=True, map_location=device)
            self.network.load_state_dict(state["network"])
            self.averaged.load_state_dict(state["averaged"])
            self._optimiser.load_state_dict(state["optimiser"])
            self.step = int(state["step"])

    def run(self, on_step: OnStep) -> N:
        """Train to the last step. Returns the network with mean weights."""
        self.network.train()
        total, since = 0.0, self.step
        while self.step < self._steps:
            for group in self._optimiser.param_groups:
                group["lr"] = self._learning_rate(self.step)
            with torch.autocast(self._device.type, torch.bfloat16):
                loss = self._loss(self.network, self.step)
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self._optimiser.step()
            self.step += 1
            self._average()
            total += float(loss.detach())
            if self.step % _CHECKPOINT_STEPS == 0 or self.step == self._steps:
                self._save()
                on_step(self.step, self._steps, total / (self.step - since))
                total, since = 0.0, self.step
        return self.averaged

    def _learning_rate(self, step: int) -> float:
        warm = min(1.0, (step + 1) / _WARM_UP)
        return self._rate * warm * 0.5 * (1.0 + math.cos(math.pi * step / self._steps))

    @torch.no_grad()
    def _average(self) -> None:
        # Early on the mean is over fewer steps, so that it does not begin with noise.
        keep = min(1.0 - 1.0 / _AVERAGED_OVER, (1.0 + self.step) / (10.0 + self.step))
        for mean, value in zip(
            self.averaged.state_dict().values(), self.network.state_dict().values(), strict=True
        ):
            if mean.is_floating_point():
                mean.lerp_(value, 1.0 - keep)
            else:
                mean.copy_(value)

    def _save(self) -> None:
        aside = self._checkpoint.with_suffix(".part")
        torch.save(
            {
                "network": self.network.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "step": self.step,
            },
            aside,
        )
        aside.replace(self._checkpoint)
