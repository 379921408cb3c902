"""The nodes that a compiled graph has for the ``guides`` of a card.

    mask, uint8 (n, h, w)
      -> the network's size, range, layout                       [card: guides.mask]
    background, float32 (b, h, w), in the scene network's quantity; which, int32 (n,): that of each picture
      -> those of the pictures
      -> inverse depth -> less centre, over spread -> the network's size, layout
                                                                 [card: guides.background_depth]
    the network's answer at the sample's size, (n, 1, h, w)
      -> times spread, plus centre
      -> no farther than the farthest of the background
      -> no farther than what it hides                           [card: output.of "foreground"]
      -> blended into the background with the mask               [card: output.of "foreground"]
      -> the scene network's quantity
      -> where the mask is 0, the background's depth itself

``centre`` and ``spread`` are float32 ``(b,)``: the median of each background's inverse depth and its mean
absolute deviation from that, from :class:`fgbgpack.depth.background.BackgroundDepth`. Backgrounds are a table
with an index so that a device can keep them: a picture then brings 4 bytes instead of a depth map.

Blending is done at the sample's size, so outlines are exact at whatever size the network ran.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from fgbgpack.depth.background import NEAREST
from fgbgpack.depth.card import Card, Quantity, Size
from fgbgpack.depth.nodes import Nodes, resize_to

#: The compiled graph's inputs beside the pictures.
MASK, BACKGROUND, CENTRE, SPREAD, WHICH = "mask", "background", "centre", "spread", "which"

#: Alpha above which a foreground hides what is behind it.
HIDING = 127


class Guidance:
    """Writes the nodes before and after a network for the guides of its card, if it has any."""

    def __init__(self, nodes: Nodes, card: Card, sample: Size, quantity: Quantity | None) -> None:
        self._nodes, self._card, self._sample, self._quantity = nodes, card, sample, quantity
        self._background = self._inverse = self._mask = ""

    def inputs(self, batch: int | str) -> Iterator[onnx.ValueInfoProto]:
        """The inputs of the compiled graph for the guides."""
        picture = [batch, *self._sample]
        if self._card.takes_mask:
            yield helper.make_tensor_value_info(MASK, TensorProto.UINT8, picture)
        if self._card.is_guided:
            yield helper.make_tensor_value_info(BACKGROUND, TensorProto.FLOAT, ["b", *self._sample])
            for name in (CENTRE, SPREAD):
                yield helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b"])
            yield helper.make_tensor_value_info(WHICH, TensorProto.INT32, [batch])

    def feed(self, size: Size) -> Mapping[str, str]:
        """Writes the nodes before the network, which sees ``size``: a tensor for each guide input."""
        fed, guides = {}, self._card.guides
        if self._card.takes_mask:
            fed[guides["mask"].name] = self._feed_mask(size)
        if self._card.is_guided:
            fed[guides["background_depth"].name] = self._feed_background(size)
        return fed

    def settle(self, answer: str) -> str:
        """Writes the nodes after the network: depth in the quantity of backgrounds, float32 ``(n, 1, h, w)``;
        ``answer`` itself where the network does not take them.
        """
        if self._quantity is None:
            return answer
        nodes = self._nodes
        inverse = nodes.add("Add", nodes.add("Mul", answer, self._spread), self._centre)
        inverse = nodes.at_least(inverse, nodes.minimum(self._inverse))
        if self._card.output.of == "foreground":
            inverse = self._in_front(inverse)
            alpha = nodes.add("Mul", self._mask, np.array(1 / 255, np.float32))
            nearer = nodes.add("Sub", inverse, self._inverse)
            inverse = nodes.add("Add", self._inverse, nodes.add("Mul", alpha, nearer))
        depth = self._inverted(inverse)
        if not self._mask:
            return depth
        covered = nodes.add("Cast", self._mask, to=TensorProto.BOOL)
        return nodes.add("Where", covered, depth, self._background)

    def _in_front(self, inverse: str) -> str:
        """The foreground's inverse depth, raised as a whole until nothing that it hides is nearer.

        It was pasted in front of everything, whatever a network says.
        """
        nodes = self._nodes
        ahead = nodes.add("Sub", inverse, self._inverse)
        hides = nodes.add("Greater", self._mask, np.array(HIDING, np.float32))
        lead = nodes.minimum(nodes.add("Where", hides, ahead, np.array(0, np.float32)))
        return nodes.add("Sub", inverse, nodes.add("Min", lead, np.array(0, np.float32)))

    def _feed_mask(self, size: Size) -> str:
        nodes, source = self._nodes, self._card.input
        low, high = self._card.guides["mask"].range
        plane = nodes.add("Reshape", MASK, np.array([-1, 1, *self._sample]))
        self._mask = nodes.add("Cast", plane, to=TensorProto.FLOAT)
        value = resize_to(nodes, self._mask, self._sample, size, source.filter)
        if source.dtype == "uint8":
            value = nodes.add("Cast", nodes.clip(nodes.add("Round", value), 0, 255), to=TensorProto.UINT8)
        if (low, high) != (0, 255):
            value = nodes.add("Mul", value, np.array((high - low) / 255, np.float32))
        if low != 0:
            value = nodes.add("Add", value, np.array(low, np.float32))
        return self._laid_out(value, size)

    def _feed_background(self, size: Size) -> str:
        nodes, sides = self._nodes, {BACKGROUND: self._sample, CENTRE: (1, 1), SPREAD: (1, 1)}
        depth, self._centre, self._spread = (
            nodes.add("Reshape", nodes.add("Gather", table, WHICH, axis=0), np.array([-1, 1, *size]))
            for table, size in sides.items()
        )
        self._background = depth
        if self._quantity == ("depth", "m"):
            depth = nodes.at_least(depth, np.array(NEAREST, np.float32))
        self._inverse = self._inverted(depth)
        value = nodes.add("Div", nodes.add("Sub", self._inverse, self._centre), self._spread)
        return self._laid_out(resize_to(nodes, value, self._sample, size, self._card.input.filter), size)

    def _laid_out(self, value: str, size: Size) -> str:
        if self._card.input.layout != "NCHW":
            value = self._nodes.add("Reshape", value, np.array(self._card.input.shape(size, channels=1)))
        if self._card.input.dtype == "float16":
            value = self._nodes.add("Cast", value, to=TensorProto.FLOAT16)
        return value

    def _inverted(self, depth: str) -> str:
        """From the depth of backgrounds to inverse depth, or back."""
        operators = {("depth", "m"): "Reciprocal", ("depth", None): "Neg"}
        operator = operators.get(self._quantity) if self._quantity else None
        return depth if operator is None else self._nodes.add(operator, depth)
