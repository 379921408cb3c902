"""What is changed in samples at random, and batches changed so."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, partial
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.augment import kernels
from fgbgpack.composition.kernels import philox4x32, philox_key
from fgbgpack.dataset.batch import Batch
from fgbgpack.document import DEPTH, IMAGE, MASK
from fgbgpack.errors import SpecError
from fgbgpack.options import truth, whole_number
from fgbgpack.storage.reading.threads import helpers, usable_cores

Arrays: TypeAlias = Mapping[str, NDArray[Any]]

#: Fields that are changed, with their axes behind that of samples; each only where it has these axes.
_PICTURES = {IMAGE: 1, "background_image": 2}  # which seeds of noise
_NEAREST = ("instance", DEPTH, "background_depth")
#: Boxes of objects, (n, k, 4).
_BOX = "objects/box"
_AXES = {**dict.fromkeys(_PICTURES, 3), MASK: 2, **dict.fromkeys(_NEAREST, 2)}

#: The least and the greatest of what an option can be.
_RANGES = {
    "mirror": (0, 1),
    "brightness": (0, 1),
    "contrast": (0, 1),
    "saturation": (0, 1),
    "hue": (0, 0.25),
    "tint": (0, 1),
    "blur": (0, 4),
    "blur_probability": (0, 1),
    "noise": (0, 64),
}
_MOST_ZOOM = 16
_MOST_SIDE = 1 << 14
_MOST_SHRINKING = 2
#: Samples that a thread takes at a time.
_AT_ONCE = 16
_LOW = (1 << 32) - 1
_EPOCHS = 1 << 62


@dataclass(frozen=True)
class Changes:
    """What is changed in n samples; the arrays are those that ``kernels.draw`` fills."""

    window: NDArray[np.int64]
    mirror: NDArray[np.uint8]
    colour: NDArray[np.int32]
    blur: NDArray[np.int32]
    noise: NDArray[np.int64]

    def of(self, some: slice) -> Changes:
        """Those of some of the samples."""
        return Changes(*(getattr(self, field.name)[some] for field in fields(self)))


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random changes of samples, for training: another one in each epoch, alike in all fields of a sample.

    What is changed in a sample depends on the seed, the epoch and the number of the sample in its dataset,
    and on nothing else: not on batches, workers or the machine. All arithmetic is of whole numbers. To switch
    an option off changes nothing that the others do.

    The defaults are for training on composites of 128x128 what is then used on photographs. The order is that
    of a camera: what is in view, light and colours, blur, noise.

    Args:
        size: (height, width) of what comes out, in pixels; ``None``: the size of the samples. Where its sides
            are in another proportion, windows have that. At least half of the size of the largest window.
        zoom: Limits of how many times larger things appear, from 1 to 16. The sides of windows are drawn
            uniformly between those that the two give; ``None``: whole pictures.
        crop: Whether windows lie at random places; else in the middle.
        mirror: Probability that left and right are swapped.
        brightness: Most change of brightness: 0.3 multiplies by 0.7 to 1.3. Up to 1, as are the next four.
        contrast: The same for contrast, around grey of 128.
        saturation: The same for colourfulness.
        hue: Most rotation of hues either way, in turns, up to 0.25.
        tint: Most change of red, green and blue, each on its own: 0.1 multiplies by 0.9 to 1.1.
        blur: Most standard deviation of a blur, in pixels of what comes out, up to 4.
        blur_probability: Share of samples that are blurred.
        noise: Most standard deviation of noise, in levels of 0..255, up to 64; drawn for each sample.
        seed: 64 bits.

    Raises:
        SpecError: An option is out of range; all problems are reported together.

    Example:
        >>> augment = Augment(zoom=(1, 2), noise=0, seed=1)
        >>> batch = augment(ds.read([3, 5]), [3, 5], epoch=7)  # doctest: +SKIP
    """

    size: tuple[int, int] | None = None
    zoom: tuple[float, float] | None = (1.0, 1.6)
    crop: bool = True
    mirror: float = 0.5
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    hue: float = 0.02
    tint: float = 0.1
    blur: float = 1.0
    blur_probability: float = 0.3
    noise: float = 8.0
    seed: int = 0

    def __post_init__(self) -> None:
        problems = []
        values: dict[str, Any] = {}
        for name, (least, most) in _RANGES.items():
            values[name] = _number(found := getattr(self, name))
            if values[name] is None or not least <= values[name] <= most:
                problems.append(f"{name}: found {found!r}, expected a number from {least} to {most}")
        values["crop"] = truth(self.crop)
        if values["crop"] is None:
            problems.append(f"crop: found {self.crop!r}, expected True or False")
        values["seed"] = whole_number(self.seed)
        if values["seed"] is None or not 0 <= values["seed"] < 1 << 64:
            problems.append(f"seed: found {self.seed!r}, expected a whole number from 0 to 2**64 - 1")
        if self.zoom is not None:
            values["zoom"] = _pair(self.zoom, _number)
            if values["zoom"] is None or not 1 <= values["zoom"][0] <= values["zoom"][1] <= _MOST_ZOOM:
                problems.append(
                    f"zoom: found {self.zoom!r}, expected two numbers from 1 to {_MOST_ZOOM}, lesser first"
                )
        if self.size is not None:
            values["size"] = _pair(self.size, whole_number)
            if values["size"] is None or not all(1 <= side <= _MOST_SIDE for side in values["size"]):
                problems.append(
                    f"size: found {self.size!r}, expected a height and a width from 1 to {_MOST_SIDE} pixels"
                )
        if problems:
            raise SpecError("Samples cannot be augmented so:", problems, code="option-invalid")
        for name, value in values.items():
            object.__setattr__(self, name, value)

    # --- sizes -------------------------------------------------------------------------------------

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of what comes out of samples of a size.

        Raises:
            SpecError: It would be less than half of what windows show, of which pixels would be left out.
        """
        size = (height, width) if self.size is None else self.size
        if max(height, width) > _MOST_SIDE:
            raise SpecError(
                f"Samples of {width}x{height} cannot be augmented: the most are {_MOST_SIDE} pixels a side.",
                code="option-invalid",
            )
        largest = self._base(height, width, size)[0] / kernels.ONE / (self.zoom or (1, 1))[0]
        if largest > _MOST_SHRINKING * size[0]:
            raise SpecError(
                f"size: found {size[1]}x{size[0]}, expected at least half of the size shown, which is up "
                f"to {largest:.0f} pixels high: make the dataset smaller, or let zoom begin higher.",
                code="option-invalid",
            )
        return size

    @staticmethod
    def _base(height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
        """The largest window in the proportion of ``size``, in 1/65536 of a pixel."""
        if width * size[0] >= height * size[1]:
            return height * kernels.ONE, height * kernels.ONE * size[1] // size[0]
        return width * kernels.ONE * size[0] // size[1], width * kernels.ONE

    # --- what is drawn -----------------------------------------------------------------------------

    def draw(self, indices: NDArray[np.int64], height: int, width: int, *, epoch: int = 0) -> Changes:
        """What is changed in samples of a size, by their (n,) numbers in the dataset."""
        n, blocks = len(indices), kernels.WORDS // 4
        counter = np.empty((n, blocks, 4), np.uint32)
        counter[:, :, 0] = (indices & _LOW)[:, None]
        counter[:, :, 1] = (indices >> 32)[:, None]
        counter[:, :, 2] = epoch & _LOW
        counter[:, :, 3] = (epoch >> 32) | np.arange(blocks, dtype=np.uint32) << np.uint32(30)
        words = np.empty((n * blocks, 4), np.uint32)
        philox4x32(counter.reshape(-1, 4), philox_key(self.seed), words)
        return self.draw_from(words.reshape(n, kernels.WORDS), height, width)

    def draw_from(self, words: NDArray[np.uint32], height: int, width: int) -> Changes:
        """The same from (n, 16) uint32 random bits."""
        n = len(words)
        found = Changes(
            window=np.empty((n, 4), np.int64),
            mirror=np.empty(n, np.uint8),
            colour=np.empty((n, 12), np.int32),
            blur=np.empty((n, 4), np.int32),
            noise=np.empty((n, 3), np.int64),
        )
        kernels.draw(
            words,
            self._limits(),
            np.array(self._base(height, width, self.size_of(height, width)), np.int64),
            np.array([height, width], np.int64) * kernels.ONE,
            found.window,
            found.mirror,
            found.colour,
            found.blur,
            found.noise,
        )
        return found

    def _limits(self) -> NDArray[np.int64]:
        """The options as the whole numbers that ``kernels.draw`` takes."""
        least, most = self.zoom or (1, 1)
        limits = np.zeros(kernels.LIMITS, np.int64)
        limits[kernels.LEAST_SIDE] = round(kernels.ONE / most)
        limits[kernels.MOST_SIDE] = round(kernels.ONE / least)
        limits[kernels.CROP] = self.crop
        for column, value in (
            (kernels.BRIGHTNESS, self.brightness),
            (kernels.CONTRAST, self.contrast),
            (kernels.SATURATION, self.saturation),
            (kernels.TINT, self.tint),
        ):
            limits[column] = round(value * kernels.UNIT)
        for column, value in (
            (kernels.MIRROR, self.mirror),
            (kernels.HUE, self.hue),
            (kernels.BLURRED, self.blur_probability),
            (kernels.BLUR, self.blur),
            (kernels.NOISE, self.noise),
        ):
            limits[column] = round(value * kernels.ONE)
        return limits

    # --- what is changed ---------------------------------------------------------------------------

    def __call__(self, batch: Batch, indices: Sequence[int] | NDArray[Any] | int, *, epoch: int = 0) -> Batch:
        """A batch of samples, changed; the arrays of ``batch`` stay as they are.

        Image, background and mask are interpolated linearly; of instances and depth the nearest pixel is
        taken. Values of depth stay: a window of a picture is what a longer lens sees, from the same place.
        Boxes of objects are moved, as by ``boxes``. What is no picture and no box, such as placements, still
        describes the sample as the dataset has it.

        Args:
            batch: n samples, or one without the leading axis.
            indices: Their n numbers in the dataset, or the one.
            epoch: Number of the epoch, from 0.

        Raises:
            SpecError: Indices are not those of n samples, or arrays have other shapes or types than those of
                datasets.
        """
        one = whole_number(indices)
        numbers = np.asarray(indices if one is None else [one])
        arrays = batch.arrays if one is None else {k: np.asarray(v)[None] for k, v in batch.arrays.items()}
        changed = self.arrays(arrays, numbers, epoch=epoch)
        return Batch(changed if one is None else {name: array[0] for name, array in changed.items()})

    def arrays(
        self,
        arrays: Arrays,
        indices: NDArray[Any],
        *,
        epoch: int = 0,
        out: Arrays | None = None,
        threads: int | None = None,
    ) -> dict[str, NDArray[Any]]:
        """The arrays of a batch by name, as for a call; those that are not pictures are returned as they are.

        ``out`` has contiguous arrays to fill, by the names of all that are changed; ``threads`` is how many
        share the work, ``None`` for one on each processor. Raises as a call does.
        """
        sources = {
            name: np.ascontiguousarray(array)
            for name, array in arrays.items()
            if np.ndim(array) == 1 + _AXES.get(name, -1)
        }
        boxes = {_BOX: np.asarray(arrays[_BOX])} if _BOX in arrays else {}
        numbers, epoch = _checked(sources | boxes, indices, epoch)
        if boxes and not sources:
            raise SpecError(
                "This batch has boxes of objects, but no picture whose size they would be in: read one too, "
                "or use Augment.boxes.",
                code="array-misfit",
            )
        if not sources:
            return dict(arrays)
        height, width = next(iter(sources.values())).shape[1:3]
        size = self.size_of(height, width)
        changes = self.draw(numbers, height, width, epoch=epoch)
        filled = {
            name: np.empty((len(numbers), *size, *source.shape[3:]), source.dtype)
            if out is None
            else out[name]
            for name, source in sources.items()
        }
        threads = threads or usable_cores()
        each = len(numbers) if threads == 1 else _AT_ONCE
        some = [slice(i, i + each) for i in range(0, len(numbers), max(1, each))]
        helpers.run(some, partial(_fill, sources, filled, changes), threads)
        for name, box in boxes.items():
            filled[name] = _moved(box, changes, size).astype(box.dtype)
        return {name: filled.get(name, array) for name, array in arrays.items()}

    def boxes(
        self,
        boxes: NDArray[np.integer[Any]],
        indices: Sequence[int] | NDArray[Any],
        size: tuple[int, int],
        *,
        epoch: int = 0,
    ) -> NDArray[np.int32]:
        """Boxes in samples, where they are in the samples as they are changed.

        Args:
            boxes: (n, 4) or (n, k, 4): top, left, bottom and right in pixels of the samples.
            indices: The n numbers of the samples in the dataset.
            size: (height, width) of the samples.
            epoch: Number of the epoch, from 0.

        Returns:
            The same in pixels of what comes out, cut off at its borders; 0 where nothing is left. Boxes that
            were empty, such as those that fill up a row, stay as they are.

        Raises:
            SpecError: As for a call.
        """
        numbers, epoch = _checked({_BOX: np.asarray(boxes)}, indices, epoch)
        changes = self.draw(numbers, *size, epoch=epoch)
        return _moved(np.asarray(boxes), changes, self.size_of(*size)).astype(np.int32)

    def to_dict(self) -> dict[str, Any]:
        """The options as JSON has them: ``Augment(**options)`` is this again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@cache
def noise_table() -> NDArray[np.int16]:
    """(65536,) int16: sums of 8 random bytes, around 0; nearly a normal distribution (Irwin and Hall)."""
    counter = np.zeros((kernels.NOISE_TABLE // 2, 4), np.uint32)
    counter[:, 0] = np.arange(len(counter))
    words = np.empty_like(counter)
    philox4x32(counter, np.zeros(2, np.uint32), words)
    total = np.zeros(kernels.NOISE_TABLE, np.int16)
    for shift in range(0, 32, 8):
        # The lowest byte of each word, and so on, whatever the order of bytes in memory is.
        total += ((words >> np.uint32(shift)) & np.uint32(255)).reshape(-1, 2).sum(axis=1).astype(np.int16)
    return total - np.int16(1020)


def _fill(sources: Arrays, filled: Arrays, changes: Changes, some: slice) -> None:
    """Change the arrays of some of the samples."""
    part = changes.of(some)
    window, mirror = part.window, part.mirror
    none = np.empty((0, 0, 0), np.uint8)
    for name in sources:
        source, to = sources[name][some], filled[name][some]
        if name in _PICTURES:
            alphas = [
                arrays[MASK][some] if name == IMAGE and MASK in arrays else none
                for arrays in (sources, filled)
            ]
            kernels.pictures(
                source,
                alphas[0],
                window,
                mirror,
                part.colour,
                part.blur,
                part.noise,
                _PICTURES[name],
                noise_table(),
                to,
                alphas[1],
            )
        elif name in _NEAREST:
            bits = f"u{source.itemsize}"
            kernels.nearest(source.view(bits), window, mirror, to.view(bits))
        elif IMAGE not in sources:
            kernels.smooth(source, window, mirror, to)


def _moved(boxes: NDArray[Any], changes: Changes, size: tuple[int, int]) -> NDArray[np.int64]:
    """Where boxes, (n, 4) or (n, k, 4), are in windows that are shown in a size."""
    each = boxes.astype(np.int64).reshape(len(boxes), -1, 4)
    corners, moved = each * kernels.ONE, np.empty_like(each)
    for axis in range(2):
        start, length = (changes.window[:, 2 * k + axis, None] for k in range(2))
        near, far = ((corners[:, :, 2 * k + axis] - start) * size[axis] for k in range(2))
        moved[:, :, axis] = np.clip(near // length, 0, size[axis])
        moved[:, :, 2 + axis] = np.clip(-(-far // length), 0, size[axis])
    mirrored = changes.mirror.astype(bool)
    moved[mirrored, :, 1::2] = size[1] - moved[mirrored, :, :0:-2]
    moved[~_has_area(moved)] = 0
    return np.where(_has_area(each)[..., None], moved, each).reshape(boxes.shape)


def _has_area(boxes: NDArray[np.int64]) -> NDArray[np.bool_]:
    return (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])


def _checked(arrays: Arrays, indices: Any, epoch: Any) -> tuple[NDArray[np.int64], int]:
    """The numbers of samples, and the epoch; SpecError where they, or arrays, are not of one batch."""
    numbers, number = np.asarray(indices), whole_number(epoch)
    problems = []
    if numbers.ndim != 1 or (numbers.dtype.kind not in "iu" and numbers.size):
        problems.append(
            f"indices: found {numbers.dtype} of shape {numbers.shape}, expected whole numbers of shape (n,)"
        )
    elif numbers.size and int(numbers.min()) < 0:
        problems.append(f"indices: found {int(numbers.min())}, expected numbers from 0 on")
    if number is None or not 0 <= number < _EPOCHS:
        problems.append(f"epoch: found {epoch!r}, expected a whole number from 0 on")
    sizes = {array.shape[1:3] for name, array in arrays.items() if name in _AXES}
    for name, array in arrays.items():
        if len(array) != numbers.size:
            problems.append(f"{name}: found {len(array)} samples, expected {numbers.size}, one of each index")
        if name == _BOX and (array.ndim < 2 or array.shape[-1] != 4 or array.dtype.kind not in "iu"):
            problems.append(
                f"{name}: found {array.dtype} of shape {array.shape}, expected integers, (n, k, 4)"
            )
        if name not in _AXES:
            continue
        if array.shape[1:3] != max(sizes) or 0 in array.shape[1:3]:
            problems.append(
                f"{name}: found shape {array.shape}, expected the height and width of the other fields"
            )
        if name not in _NEAREST and array.dtype != np.uint8:
            problems.append(f"{name}: found {array.dtype}, expected uint8")
        if name in _PICTURES and array.shape[3] != 3:
            problems.append(f"{name}: found {array.shape[3]} channels, expected 3")
        if name in _NEAREST and array.dtype.kind not in "iuf":
            problems.append(f"{name}: found {array.dtype}, expected numbers")
    if problems or number is None:
        raise SpecError("This batch cannot be augmented:", problems, code="array-misfit")
    return numbers.astype(np.int64), number


def _number(value: Any) -> float | None:
    """A finite number as a ``float``; ``None`` for all else, truth values included."""
    if truth(value) is not None or not isinstance(value, Real) or not math.isfinite(value):
        return None
    return float(value)


def _pair(value: Any, read: Any) -> tuple[Any, Any] | None:
    """Two values that ``read`` makes something of; ``None`` for all else."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        return None
    first, second = map(read, value)
    return None if first is None or second is None else (first, second)
