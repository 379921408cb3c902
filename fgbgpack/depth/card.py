"""A network's card: how to feed it, and what comes out of it.

``schemas/depth-model/1.0.schema.json`` describes every field for a network that gives depth, and
``schemas/cutout-model/1.0.schema.json`` for one that gives the alpha of the foreground. A card that is wrong
in one detail gives plausible, wrong answers. So its values are checked against the schema and against each
other here, and against the network's graph in :mod:`fgbgpack.depth.model`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

from fgbgpack import schema
from fgbgpack.errors import DepthModelError

Filter: TypeAlias = Literal["nearest", "bilinear", "bicubic"]
#: ``(height, width)`` in pixels.
Size: TypeAlias = tuple[int, int]
#: What a network gives, and so which command runs it.
Kind: TypeAlias = Literal["depth", "cutout"]

_CUTOUT = "cutout-model"
#: The steps from what a network of cut-outs gives to alpha from 0 to 1.
_TO_ALPHA: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "alpha": ({"clip": (0.0, 1.0)},),
    "logits": ({"sigmoid": True},),
}


def card_error(message: str, problems: Sequence[str] = ()) -> DepthModelError:
    """The error of a card that cannot be used."""
    return DepthModelError(message, problems, code="card-invalid")


class Quantity(NamedTuple):
    """What values of depth mean: ``"depth"`` is larger for what is farther, ``"inverse_depth"`` for what is
    nearer; without a unit they are known up to scale and shift only.
    """

    kind: Literal["depth", "inverse_depth"]
    unit: Literal["m"] | None


@dataclass(frozen=True)
class SizeRule:
    """The size at which a network sees a picture: ``fixed`` (height, width), or multiples near a target."""

    fixed: Size | None = None
    multiple_of: int = 1
    target: Mapping[str, int] = field(default_factory=dict)

    def size_for(self, height: int, width: int) -> Size:
        """The network's ``(height, width)`` for a picture of ``height`` x ``width`` pixels.

        Example:
            >>> SizeRule(multiple_of=14, target={"short_side": 518}).size_for(480, 640)
            (518, 686)
        """
        if self.fixed is not None:
            return self.fixed
        references = {"short_side": min(height, width), "long_side": max(height, width), "height": height}
        # Sides stay exact fractions, so that the nearest multiple is the same on every machine.
        length, reference = next(((n, references[side]) for side, n in self.target.items()), (1, 1))
        unit = reference * self.multiple_of

        def nearest(side: int) -> int:
            return max(1, (2 * side * length + unit) // (2 * unit)) * self.multiple_of

        return nearest(height), nearest(width)

    def __str__(self) -> str:
        if self.fixed is not None:
            return f"{self.fixed[1]}x{self.fixed[0]} (width x height)"
        target = "".join(f", {side.replace('_', ' ')} {length}" for side, length in self.target.items())
        return f"multiples of {self.multiple_of}{target}"


@dataclass(frozen=True)
class NetworkInput:
    """The tensor that takes the picture; its name is empty where the card leaves it out."""

    layout: Literal["NCHW", "NHWC", "N1CHW", "N1HWC"]
    channels: Literal["RGB", "BGR"]
    range: tuple[float, float]
    size: SizeRule
    name: str = ""
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    filter: Filter = "bilinear"
    dtype: Literal["float32", "float16", "uint8"] = "float32"
    batch: int | None = None

    @property
    def planes(self) -> Literal["NCHW", "NHWC"]:
        """The layout without an axis of length 1."""
        return "NCHW" if self.layout in ("NCHW", "N1CHW") else "NHWC"

    def shape(self, size: Size, *, channels: int) -> tuple[int, ...]:
        """The tensor's shape in the layout, for a network that sees ``size``; -1 for the batch."""
        sides = {"N": -1, "1": 1, "C": channels, "H": size[0], "W": size[1]}
        return tuple(sides[axis] for axis in self.layout)


@dataclass(frozen=True)
class NetworkGuide:
    """A tensor of one channel beside the picture: a mask with its range, or normalised background depth."""

    name: str
    range: tuple[float, float] = (0, 255)
    normalise: Literal["median"] = "median"


@dataclass(frozen=True)
class NetworkOutput:
    """The tensor that holds the answer; its name is empty where the card leaves it out."""

    axes: Literal["N1HW", "NHW1", "NHW", "HW"]
    quantity: Literal["depth", "inverse_depth", "alpha"]
    unit: Literal["m"] | None
    name: str = ""
    of: Literal["picture", "foreground"] = "picture"
    transform: tuple[Mapping[str, Any], ...] = ()

    @property
    def meaning(self) -> Quantity:
        """Quantity and unit of depth in one; alpha has none, a ValueError."""
        if self.quantity == "alpha":
            raise ValueError("alpha is not depth")
        return Quantity(self.quantity, self.unit)

    @property
    def noun(self) -> str:
        """What the values are, for a message."""
        return "alpha" if self.quantity == "alpha" else "depth"


@dataclass(frozen=True)
class Card:
    """The card of a network, with the fields of its schema; ``None`` for optional texts left out.
    ``document`` is the JSON itself, with extension fields (``x-...``).

    The output of a network of cut-outs is alpha, from 0 to 1, and it takes one picture at a time.
    """

    document: dict[str, Any] = field(repr=False)
    name: str
    input: NetworkInput
    output: NetworkOutput
    guides: Mapping[str, NetworkGuide] = field(default_factory=dict)
    title: str | None = None
    description: str | None = None
    made_by: str | None = None
    licence: str | None = None
    source: str | None = None
    sha256: str | None = None
    download: str | None = None
    size: int | None = None
    obtain: str | None = None

    @classmethod
    def from_dict(cls, document: object, *, where: str) -> Card:
        """Reads the parsed JSON of a card from ``where``; raises DepthModelError with all problems."""
        tag = document.get("schema") if isinstance(document, Mapping) else None
        is_cutout = isinstance(tag, str) and tag.startswith(f"{_CUTOUT}/")
        name = _CUTOUT if is_cutout else "depth-model"
        return cls._parsed(schema.read(name, document, where=where, error=card_error))

    @classmethod
    def _parsed(cls, document: dict[str, Any]) -> Card:
        fields = _frozen(document)
        del fields["schema"]
        source = fields["input"]
        source["size"] = SizeRule(**source["size"])
        if document["schema"].startswith(f"{_CUTOUT}/"):
            result = fields["output"]
            steps = _TO_ALPHA[result.pop("values")]
            fields["output"] = {**result, "quantity": "alpha", "unit": None, "transform": steps}
            source["batch"] = 1
        fields["input"], fields["output"] = NetworkInput(**source), NetworkOutput(**fields["output"])
        fields["guides"] = {key: NetworkGuide(**guide) for key, guide in fields.get("guides", {}).items()}
        return cls(document, **fields)

    def with_tensors(self, input: str | None, output: str | None) -> Card:
        """The card with the names of its tensors, where it leaves them out and they are given."""
        document = copy.deepcopy(self.document)
        for side, name in (("input", input), ("output", output)):
            if name is not None:
                document[side].setdefault("name", name)
        return self._parsed(document)

    @property
    def kind(self) -> Kind:
        """Whether the network gives depth or cuts foregrounds out."""
        return "cutout" if self.output.quantity == "alpha" else "depth"

    @property
    def is_guided(self) -> bool:
        """Whether the network takes the depth of the empty background, and so needs a scene network."""
        return "background_depth" in self.guides

    @property
    def takes_mask(self) -> bool:
        """Whether the network takes the mask of the foreground."""
        return "mask" in self.guides

    @property
    def inputs(self) -> dict[str, int]:
        """The number of channels of each input of the graph that is fed, by its name."""
        return {self.input.name: 3} | {guide.name: 1 for guide in self.guides.values()}

    def contradictions(self) -> Iterator[str]:
        """What no schema can say: one line for each relation between values that does not hold."""
        source, result = self.input, self.output
        low, high = source.range
        if low >= high:
            yield f"input.range: found [{low}, {high}], expected two numbers with the smaller first"
        for index, step in enumerate(result.transform):
            if "clip" in step and step["clip"][0] > step["clip"][1]:
                yield f"output.transform.{index}.clip: found {list(step['clip'])}, expected the smaller first"
        mask = self.guides.get("mask")
        if mask is not None and mask.range[0] == mask.range[1]:
            yield f"guides.mask.range: found {list(mask.range)}, expected two different numbers"
        if self.is_guided and result.quantity != "inverse_depth":
            yield (
                f"output.quantity: found {result.quantity!r}, expected 'inverse_depth': the answer of a "
                "network with guides.background_depth is in the units of that"
            )
        if result.of == "foreground" and not (self.takes_mask and self.is_guided):
            yield (
                "output.of: 'foreground' is blended into the background with the mask, so the network needs "
                "guides.mask and guides.background_depth"
            )
        if source.dtype == "uint8":
            if mask is not None and mask.range != (0, 255):
                yield (
                    f"guides.mask.range: found {list(mask.range)}, expected [0, 255]: input.dtype uint8 "
                    "takes the mask unchanged"
                )
            if self.is_guided:
                yield "input.dtype: uint8 cannot hold guides.background_depth; expected float32 or float16"
            if low != 0 or high != 255 or source.mean is not None or source.std is not None:
                yield "input.dtype: uint8 takes pixels unchanged: range [0, 255], no mean and no std"


def _frozen(value: Any) -> Any:
    """A copy of JSON without extension fields, at every level, and with tuples for lists."""
    if isinstance(value, Mapping):
        return {key: _frozen(entry) for key, entry in value.items() if not key.startswith("x-")}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
