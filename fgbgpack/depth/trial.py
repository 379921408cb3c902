"""The trial of a network: the same pictures in a batch and alone.

Depth of a picture must not depend on chance, nor on the pictures that come with it. Some networks normalise
over the whole batch, were exported in training mode, or can only take one picture at a time although their
graph declares a free batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.errors import DepthModelError

#: Gives the depth of pictures, by their numbers: float16 ``(n, h, w)``. Raises DepthModelError.
Answers: TypeAlias = Callable[[NDArray[np.int32]], NDArray[np.float16]]

Verdict: TypeAlias = Literal["sound", "fails in batches", "mixes pictures", "constant"]

#: Larger differences, as a fraction of the range of depth, are no rounding.
_ROUNDING = 0.01

_DARK, _BRIGHT = 1, 2


def trial_pictures(height: int, width: int) -> NDArray[np.uint8]:
    """A black, a dark and a bright picture, uint8 ``(3, height, width, 3)``; the latter two with noise."""
    pictures = np.zeros((3, height, width, 3), np.uint8)
    rng = np.random.default_rng(0)
    pictures[_DARK] = rng.integers(0, 80, pictures.shape[1:], np.uint8)
    pictures[_BRIGHT] = rng.integers(120, 256, pictures.shape[1:], np.uint8)
    return pictures


def judge(answers: Answers, batch: int, name: str) -> Verdict:
    """Compares the depth of the pictures of :func:`trial_pictures` alone with that in a batch of ``batch``,
    at least 3, in which they recur. Raises DepthModelError where the network fails on them alone too, or
    gives another depth each time.
    """
    try:
        together = answers(np.arange(batch, dtype=np.int32) % 3)[:3]
    except DepthModelError as exc:
        if exc.code != "network-failed":
            raise
        try:
            answers(np.array([_DARK], np.int32))
        except DepthModelError:
            raise exc from None
        return "fails in batches"
    extent = np.ptp(together.astype(np.float64))
    if extent == 0:
        return "constant"
    tolerance = _ROUNDING * extent + 2 * np.spacing(np.abs(together).max())

    def differ(one: NDArray[np.float16], other: NDArray[np.float16]) -> bool:
        return bool(np.abs(one.astype(np.float64) - other).max() > tolerance)

    for number in (_DARK, _BRIGHT):
        alone = answers(np.array([number], np.int32))[0]
        if differ(alone, together[number]):
            if differ(alone, answers(np.array([number], np.int32))[0]):
                raise DepthModelError(
                    f"{name} gives another depth each time for the same picture. It was probably exported in "
                    "training mode, with dropout or noise: export it again after model.eval().",
                    code="network-random",
                )
            return "mixes pictures"
    return "sound"
