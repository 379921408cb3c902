"""The training loop: seeded, and resumable at any step."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from fgbgpack.files import replacing

N = TypeVar("N", bound=nn.Module)

_WEIGHT_DECAY = 0.02
_WARM_UP = 200
_AVERAGED_STEPS = 500

#: Called with the step, the number of steps, and the mean loss since the last call.
OnStep = Callable[[int, int, float], None]


class Fit(Generic[N]):
    """Trains a network and keeps a running mean of its weights, which is the result.

    ``loss`` gives the loss of step i; what it draws must depend on i and on the seed only. The learning rate
    rises to ``rate`` over the first steps and falls to 0 at the last. Training resumes from the file
    ``checkpoint`` where it exists.
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
        checkpoint_steps: int = 100,
    ) -> None:
        self._device, self._checkpoint, self._checkpoint_steps = device, checkpoint, checkpoint_steps
        self._loss, self._steps, self._rate = loss, steps, rate
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = copy.deepcopy(network).eval()
        self._optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=_WEIGHT_DECAY)
        self._stateful = {"network": self.network, "averaged": self.averaged, "optimiser": self._optimiser}
        self.step = 0
        if checkpoint.exists():
            state = torch.load(checkpoint, weights_only=True, map_location=device)
            for name, holder in self._stateful.items():
                holder.load_state_dict(state[name])
            self.step = int(state["step"])

    def run(self, on_step: OnStep) -> N:
        """Trains to the last step. Returns the network with mean weights."""
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
            if self.step % self._checkpoint_steps == 0 or self.step == self._steps:
                state = {name: holder.state_dict() for name, holder in self._stateful.items()}
                with replacing(self._checkpoint) as partial:
                    torch.save(state | {"step": self.step}, partial)
                on_step(self.step, self._steps, total / (self.step - since))
                total, since = 0.0, self.step
        return self.averaged

    def _learning_rate(self, step: int) -> float:
        warm = min(1.0, (step + 1) / _WARM_UP)
        return self._rate * warm * 0.5 * (1.0 + math.cos(math.pi * step / self._steps))

    @torch.no_grad()
    def _average(self) -> None:
        # Early on the mean is over fewer steps, so that it does not begin with noise.
        keep = min(1.0 - 1.0 / _AVERAGED_STEPS, (1.0 + self.step) / (10.0 + self.step))
        values = self.network.state_dict().values()
        for mean, value in zip(self.averaged.state_dict().values(), values, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1.0 - keep)
            else:
                mean.copy_(value)
