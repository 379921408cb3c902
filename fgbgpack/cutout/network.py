"""The network of cut-outs on a device: alpha of photographs of any size."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgbgpack.cutout.matte import alpha_of
from fgbgpack.depth.card import Filter, Size
from fgbgpack.depth.model import DepthModel
from fgbgpack.depth.providers import Execution
from fgbgpack.depth.session import DepthSession

#: Sessions that are kept: a network that takes any size is compiled for each.
_KEPT = 4

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

        Raises DepthModelError where the network fails.
        """
        session = self._session_for((photo.height, photo.width))
        height, width = self._model.card.input.size.size_for(photo.height, photo.width)
        resample = _FILTERS[self._model.card.input.filter]
        seen = photo if photo.size == (width, height) else photo.resize((width, height), resample)
        answer = np.empty((1, height, width), np.float16)
        session.run(np.asarray(seen)[None], answer)
        return alpha_of(answer[0], photo.size)

    def _session_for(self, size: Size) -> DepthSession:
        seen = self._model.card.input.size.size_for(*size)
        with self._opening:
            session = self._sessions.pop(seen, None)
            if session is None:
                session = DepthSession(self._model, seen, execution=self._execution)
            self._sessions[seen] = session
            if len(self._sessions) > _KEPT:
                self._sessions.popitem(last=False)
            return session
