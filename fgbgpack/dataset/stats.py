"""Statistics of the samples of a dataset: what they are, and how they are kept in it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack import schema

_WHITE = 255
#: Bits of the whole numbers whose roots are taken: more than a double has, so that it can be rounded once.
_BITS = 128
_HALF_BITS = 24  # all values of float16 are whole numbers of 2^-24
#: The quantiles of depth, by the share of values that are at or below them.
_SHARES = ("0.01", "0.05", "0.25", "0.5", "0.75", "0.95", "0.99")
_DEPTH_BINS = 64


@dataclass(frozen=True)
class Histogram:
    """How many values are in each of some bins of one width, from ``least`` to ``greatest``; the last bin has
    that value, too.
    """

    least: float
    greatest: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class ImageStats:
    """The values of images by channel, R, G and B, where white is 1: ``torchvision``'s ``Normalize`` takes
    ``mean`` and ``std`` as they are.

    Attributes:
        mean: The mean, rounded once from the exact quotient.
        std: The standard deviation (of the pixels, not of a sample of them), rounded once.
        total: The sum of the values, 0 to 255, exactly.
        squares: The sum of their squares.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    total: tuple[int, ...]
    squares: tuple[int, ...]

    @classmethod
    def of(cls, total: Sequence[int], squares: Sequence[int], pixels: int) -> ImageStats:
        """The statistics of sums over so many pixels."""
        total, squares = tuple(map(int, total)), tuple(map(int, squares))
        means = tuple(float(Fraction(one, pixels * _WHITE)) for one in total)
        stds = tuple(
            root(Fraction(pixels * square - one * one, (pixels * _WHITE) ** 2))
            for one, square in zip(total, squares, strict=True)
        )
        return cls(means, stds, total, squares)


@dataclass(frozen=True)
class MaskStats:
    """How much of the pictures is foreground.

    Attributes:
        share: The share of pixels whose mask is above 127.
        pixels: How many these are.
        alpha: The mean of the mask, where 255 is 1.
        empty: Samples without such pixels.
        histogram: Samples by the share of their pixels.
    """

    share: float
    pixels: int
    alpha: float
    empty: int
    histogram: Histogram


@dataclass(frozen=True)
class DepthStats:
    """The values of depth, in the quantity and unit of ``ds.depth``.

    Attributes:
        known: Pixels with a depth; of all others it is not known, or not filled.
        unknown: Those others.
        mean: The mean, rounded once from the exact quotient.
        std: The standard deviation, rounded once.
        quantiles: By a share, the least value that at least this share of the known pixels is at or below.
    """

    quantity: str | None
    unit: str | None
    known: int
    unknown: int
    least: float
    greatest: float
    mean: float
    std: float
    quantiles: Mapping[str, float]
    histogram: Histogram

    @classmethod
    def of(cls, counts: NDArray[np.int64], attributes: Mapping[str, Any]) -> DepthStats | None:
        """The statistics of how often each float16 occurs, (65536,) by its bits; ``None`` where no pixel
        has a depth.
        """
        everything = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
        there = np.flatnonzero((counts > 0) & np.isfinite(everything))
        if not len(there):
            return None
        there = there[np.argsort(everything[there], kind="stable")]
        values, often = everything[there].astype(np.float64), counts[there]
        whole = [int(math.ldexp(value, _HALF_BITS)) for value in values.tolist()]
        n = int(often.sum())
        total = sum(one * many for one, many in zip(whole, often.tolist(), strict=True))
        squares = sum(one * one * many for one, many in zip(whole, often.tolist(), strict=True))
        up_to = np.cumsum(often)
        # The first value that so many are at or below.
        places = {
            share: int(np.searchsorted(up_to, math.ceil(Fraction(share) * n), side="left"))
            for share in _SHARES
        }
        least, greatest = float(values[0]), float(values[-1])
        edge = greatest if greatest > least else math.nextafter(least, math.inf)
        in_bins, _ = np.histogram(values, _DEPTH_BINS, (least, edge), weights=often.astype(np.float64))
        return cls(
            quantity=attributes.get("quantity"),
            unit=attributes.get("unit"),
            known=n,
            unknown=int(counts.sum()) - n,
            least=least,
            greatest=greatest,
            mean=float(Fraction(total, n << _HALF_BITS)),
            std=root(Fraction(n * squares - total * total, (n << _HALF_BITS) ** 2)),
            quantiles={share: float(values[place]) for share, place in places.items()},
            histogram=Histogram(least, greatest, tuple(in_bins.astype(np.int64).tolist())),
        )


@dataclass(frozen=True)
class Part:
    """Statistics of some of the samples.

    Attributes:
        samples: How many these are.
        image: Their images.
        mask: Their masks.
        depth: Their depth; ``None`` where none is filled.
        backgrounds: How many different backgrounds they have; ``None`` where they were imported, as of the
            next.
        foregrounds: How many different foregrounds. Two files with the same content count as one.
    """

    samples: int
    image: ImageStats
    mask: MaskStats
    depth: DepthStats | None
    backgrounds: int | None
    foregrounds: int | None


@dataclass(frozen=True)
class Counts:
    """How often samples have each source, category and number of objects.

    Attributes:
        backgrounds: Samples with each background; none of imported samples, of which objects are known.
        foregrounds: Objects of each foreground; the same.
        categories: Objects of each category, by its name.
        mirrored: Mirrored objects.
        objects: Samples with 0, 1, ... objects.
    """

    backgrounds: tuple[int, ...]
    foregrounds: tuple[int, ...]
    categories: Mapping[str, int]
    mirrored: int
    objects: tuple[int, ...]


@dataclass(frozen=True)
class Sizes:
    """The boxes of objects that can be seen, in pixels.

    Attributes:
        objects: How many there are; of imported samples, whose masks show one each at most.
        hidden: Objects that cannot be seen at all.
        height: Their heights: least, lower quartile, median, upper quartile, greatest.
        width: Their widths.
        heights: Objects by their heights.
        visible: By the share of each that is in the picture and not hidden; ``None`` where that is not known.
    """

    objects: int
    hidden: int
    height: tuple[int, ...]
    width: tuple[int, ...]
    heights: Histogram
    visible: Histogram | None


@dataclass(frozen=True)
class Shared:
    """What two parts of a split have in common; where a network is to be tested on what it never saw, that
    should be nothing.

    Attributes:
        parts: Their names.
        backgrounds: Different backgrounds that are in both; ``None`` where that is not known, as of the next.
        foregrounds: Different foregrounds that are in both.
        background_samples: Samples of the second part whose background is in the first part too.
        samples: Samples of the second part that are in the first too, pixel by pixel; ``None`` where there
            are too many samples to compare.
    """

    parts: tuple[str, str]
    backgrounds: int | None
    foregrounds: int | None
    background_samples: int | None
    samples: int | None


@dataclass(frozen=True)
class Stats:
    """Statistics of a dataset, of :meth:`fgbgpack.Dataset.stats`.

    Attributes:
        generation: The generation of the dataset that was counted; of any other they say nothing.
        total: Samples of the dataset; fewer were counted where it is not complete.
        height: Height of a sample in pixels.
        width: Its width.
        whole: All samples that were counted.
        places: (rows, columns) counts of foreground pixels (mask above 127) of all samples by their place:
            the picture in equal parts, as near as whole pixels allow.
        counts: What samples are made of; ``None`` where they were imported with no objects.
        sizes: Sizes of objects; ``None`` where none can be seen.
        same_backgrounds: Backgrounds whose file is one of the others.
        same_foregrounds: Foregrounds whose files, masks included, are those of one of the others.
        same_samples: Samples that are the same as one before, by what they are made of; ``None`` where that
            is not known, of imported samples and of very many.
        split: How the samples were dealt out to ``parts``, as ``ds.splits`` has it, with its ``name``.
        parts: Statistics of each part, by its name.
        shared: What each two parts have in common.
    """

    generation: str
    total: int
    height: int
    width: int
    whole: Part
    places: tuple[tuple[int, ...], ...]
    counts: Counts | None
    sizes: Sizes | None
    same_backgrounds: int | None
    same_foregrounds: int | None
    same_samples: int | None
    split: Mapping[str, Any] | None = None
    parts: Mapping[str, Part] = field(default_factory=dict)
    shared: tuple[Shared, ...] = ()

    @property
    def mean(self) -> tuple[float, ...]:
        """The mean of red, green and blue, where white is 1."""
        return self.whole.image.mean

    @property
    def std(self) -> tuple[float, ...]:
        """The standard deviation of red, green and blue, where white is 1."""
        return self.whole.image.std

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON, of schema ``stats``."""
        tag = f"stats/{schema.CURRENT['stats']}"
        fields: dict[str, Any] = _plain(dataclasses.asdict(self))
        return {"schema": tag, **fields}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Stats:
        """The same of a document that follows the schema."""
        fields = {name: value for name, value in document.items() if name != "schema"}
        fields["whole"] = _part(fields["whole"])
        fields["places"] = tuple(map(tuple, fields["places"]))
        fields["counts"] = fields["counts"] and Counts(**_tuples(fields["counts"]))
        if (sizes := fields["sizes"]) is not None:
            bins = {name: sizes[name] and _histogram(sizes[name]) for name in ("heights", "visible")}
            fields["sizes"] = Sizes(**_tuples(sizes) | bins)
        fields["parts"] = {name: _part(part) for name, part in fields["parts"].items()}
        fields["shared"] = tuple(
            Shared(**one | {"parts": (one["parts"][0], one["parts"][1])}) for one in fields["shared"]
        )
        return cls(**fields)

    def without_split(self) -> Stats:
        """The same of all samples alone."""
        return dataclasses.replace(self, split=None, parts={}, shared=())


def root(square: Fraction) -> float:
    """The square root of a number that is not negative, rounded once to the nearest double."""
    if not square:
        return 0.0
    # So many bits that what is cut off only tells on which side of a half the root is.
    shift = max(0, _BITS + square.denominator.bit_length() - square.numerator.bit_length())
    shift += shift % 2
    scaled, rest = divmod(square.numerator << shift, square.denominator)
    found = math.isqrt(scaled)
    is_more = bool(rest) or found * found != scaled
    return float(Fraction(2 * found + is_more, 1 << (shift // 2 + 1)))


def quartiles(counts: NDArray[np.int64]) -> tuple[int, ...]:
    """Least, lower quartile, median, upper quartile and greatest of whole numbers, by how often each occurs,
    from 0 on. A quartile is the least number that at least this share is at or below. There must be at least
    one number.
    """
    up_to = np.cumsum(counts)
    n = int(up_to[-1])
    ranks = [1, *(math.ceil(Fraction(quarter * n, 4)) for quarter in (1, 2, 3)), n]
    return tuple(int(np.searchsorted(up_to, rank, side="left")) for rank in ranks)


def _part(fields: Mapping[str, Any]) -> Part:
    image, mask, depth = ImageStats(**_tuples(fields["image"])), fields["mask"], fields["depth"]
    mask = MaskStats(**{**mask, "histogram": _histogram(mask["histogram"])})
    if depth is not None:
        depth = DepthStats(**{**depth, "histogram": _histogram(depth["histogram"])})
    return Part(**{**fields, "image": image, "mask": mask, "depth": depth})


def _histogram(fields: Mapping[str, Any]) -> Histogram:
    return Histogram(**_tuples(fields))


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def _plain(value: Any) -> Any:
    """What JSON has of it: lists in place of tuples."""
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return list(map(_plain, value)) if isinstance(value, (tuple, list)) else value
