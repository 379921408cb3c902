"""The network of cut-outs on a device: alpha of photographs of any size."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgbgpack.cutout.matte import agreement, alpha_of, box_of, firmed, parts_of
from fgbgpack.depth.card import Filter, Size
from fgbgpack.depth.model import DepthModel
from fgbgpack.depth.providers import Execution
from fgbgpack.depth.session import DepthSession

#: Sessions that are kept: a network that takes any size is compiled for each.
_KEPT = 4

#: A second look is worth its time if it shows so many times as much of the photograph, along each side.
_WORTH = 1.5
#: It shows the foreground, and so much around it, of its longer side.
_AROUND = 0.2
#: It counts if it agrees so much with the first: without the scene a network may lose the figure.
_SAME = 0.8

_FILTERS: dict[Filter, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


class CutoutNetwork:
    """A network of cut-outs, ready to run. Photographs are resized to the size that it sees, as its card
    says, and its answers to theirs; all between is compiled into its graph, as that of a network of depth.

    Attributes:
        notices: What the user should know, a line each.
        provider: The execution provider that runs it.
    """

    def __init__(self, model: DepthModel, execution: Execution, first: Size) -> None:
        """Opens the network for photographs of ``(height, width)`` to begin with. Raises DepthModelError
        where it cannot run, or the device is not available.
        """
        self._model = model
        self._execution = execution
        self._opening = threading.Lock()
        self._sessions: OrderedDict[Size, DepthSession] = OrderedDict()
        session = self._session_for(first)
        self.notices = [*session.why_here, *session.notices]
        self.provider = session.provider

    def alpha(self, photo: Image.Image) -> NDArray[np.uint8]:
        """The alpha, ``(h, w)`` uint8, of the foreground of an RGB photograph. Safe to call from many
        threads.

        A network sees a large photograph made small. So where its foreground is a small part of it, the
        network looks a second time, at that part. If it finds the same, alpha is that of the second look,
        solid where that is unsure and the first was sure.

        Raises DepthModelError where the network fails.
        """
        answer = self._look(photo)
        alpha = alpha_of(answer, photo.size)
        box = self._closer(answer, photo.size)
        if box is not None:
            left, top, right, bottom = box
            again = alpha_of(self._look(photo.crop(box)), (right - left, bottom - top))
            before = alpha[top:bottom, left:right]
            if agreement(before, again) >= _SAME:
                before[...] = firmed(again, before)
        return alpha

    def _look(self, photo: Image.Image) -> NDArray[np.float16]:
        """What the network answers to a photograph, in the size in which it sees that."""
        session = self._session_for((photo.height, photo.width))
        height, width = self._seen(photo.size)
        resample = _FILTERS[self._model.card.input.filter]
        seen = photo if photo.size == (width, height) else photo.resize((width, height), resample)
        answer = np.empty((height, width), np.float16)
        session.run(np.asarray(seen)[None], answer[None])
        return answer

    def _closer(self, answer: NDArray[np.float16], size: tuple[int, int]) -> tuple[int, int, int, int] | None:
        """The box, ``(left, top, right, bottom)``, in a photograph of ``(width, height)`` to look at a second
        time, of the same aspect; ``None`` where that shows no more than was seen.
        """
        height, width = answer.shape
        lost = min(size[0] / width, size[1] / height)
        parts = parts_of(alpha_of(answer, (width, height)), split=False) if lost >= _WORTH else []
        if not parts:
            return None
        left, top, right, bottom = box_of(parts[0].alpha)
        part = max((right - left) / width, (bottom - top) / height) * (1 + 2 * _AROUND)
        if part * _WORTH > 1:
            return None
        around = round(size[0] * part), round(size[1] * part)
        centre = (left + right) / 2 / width, (top + bottom) / 2 / height
        corner = [
            min(max(0, round(middle * whole - side / 2)), whole - side)
            for middle, whole, side in zip(centre, size, around, strict=True)
        ]
        if self._seen(around) != self._seen(size):
            return None
        return corner[0], corner[1], corner[0] + around[0], corner[1] + around[1]

    def _seen(self, size: tuple[int, int]) -> Size:
        """The ``(height, width)`` in which the network sees a photograph of ``(width, height)``."""
        return self._model.card.input.size.size_for(size[1], size[0])

    def _session_for(self, size: Size) -> DepthSession:
        seen = self._seen((size[1], size[0]))
        with self._opening:
            session = self._sessions.pop(seen, None)
            if session is None:
                session = DepthSession(self._model, seen, execution=self._execution)
            self._sessions[seen] = session
            if len(self._sessions) > _KEPT:
                self._sessions.popitem(last=False)
            return session
