"""Decodes and resizes the pictures of a dataset into the arrays that compositing needs.

The files were listed before (``find_sources``). They are read again, and must have the same digests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgbgpack.errors import SourceError
from fgbgpack.source_info import SourceInfo
from fgbgpack.sources.background_depth import MetricValues, holes_in_words, read_metres
from fgbgpack.sources.cuts import cut_sides
from fgbgpack.sources.decoding import EXIF_ADVICE, is_turned_apart
from fgbgpack.sources.listing import Source, Sources
from fgbgpack.sources.masks import check_alpha, read_mask
from fgbgpack.sources.memory import decoding
from fgbgpack.sources.pictures import read_picture
from fgbgpack.sources.problems import Remarks, combined, problem, run_all
from fgbgpack.sources.resizing import Fit, Frame, resize_premultiplied

#: Pictures are looked at up to this side; soft edges tell something from this number of pixels on, and
#: colours from this mean brightness on.
_LOOKED_AT, _FEWEST_SOFT, _BRIGHT = 1024, 16, 64
_BLOWN_UP = 2  # how much larger pictures become before that is said
_TURNED = f"whose EXIF orientation turns them, and not their masks ({EXIF_ADVICE})"
_PREMULTIPLIED = (
    "whose colours look as if they were multiplied by their alpha, which makes edges dark (--premultiplied "
    "undoes that)"
)


@dataclass(frozen=True, eq=False)
class Catalog:
    """All pictures of a dataset, decoded and resized: what compositing needs, in memory.

    Attributes:
        background: ``(B, h, w, 3)`` uint8, RGB; ``B`` is 0 when loaded without backgrounds.
        foreground: ``(F, ph, pw, 4)`` uint8, RGBA not premultiplied, each patch in the top-left
            corner and padded with zeros to the largest one. Colour is 0 where alpha is 0.
        foreground_size: ``(F, 2)`` int32, height and width of each patch in pixels.
        cut: ``(F,)`` uint8, at which sides each foreground is cut: what ``sources.csv`` says, or
            ``cut_sides`` of the original alpha.
        background_depth: ``(B, h, w)`` float32, distance in metres, NaN where it is unknown; ``None`` where
            no files say it.
        notices: What is to be said of pictures that can be used.
        person_pixels: ``(B, h, w)`` int16, how high a person is in pixels whose feet are at each pixel of the
            backgrounds, 0 where nobody can stand; ``None`` where nothing stands on floors.
        front_row: ``(B, h, w)`` int16, the lowest row of feet of somebody whom each pixel hides, -1 where it
            hides none; ``None`` where backgrounds hide nothing.
    """

    background: NDArray[np.uint8]
    foreground: NDArray[np.uint8]
    foreground_size: NDArray[np.int32]
    cut: NDArray[np.uint8]
    backgrounds: tuple[SourceInfo, ...]
    foregrounds: tuple[SourceInfo, ...]
    notices: tuple[str, ...] = ()
    person_pixels: NDArray[np.int16] | None = None
    front_row: NDArray[np.int16] | None = None
    background_depth: NDArray[np.float32] | None = None

    @property
    def floors(self) -> tuple[NDArray[np.int16], ...]:
        """What is known of floors, as far as it is: ``person_pixels`` and ``front_row``."""
        return tuple(array for array in (self.person_pixels, self.front_row) if array is not None)

    def seen_persons(self, background: int) -> NDArray[np.int16] | None:
        """The height of persons, ``(h, w)``, on floor that is seen, in a background, and 0 elsewhere;
        ``None`` where nothing stands on floors.
        """
        if self.person_pixels is None:
            return None
        person: NDArray[np.int16] = self.person_pixels[background]
        if self.front_row is None:
            return person
        rows = np.arange(len(person))[:, None]
        return np.where(self.front_row[background] < rows, person, np.int16(0))


@decoding()
def load_background(
    source: Source, *frames: Frame, remarks: Remarks | None = None
) -> list[NDArray[np.uint8]]:
    """Decodes one background and resizes it with a Lanczos filter, in one step for each frame: ``(height,
    width, 3)`` uint8, RGB.

    ``"crop"`` cuts the largest centred part of the result's aspect out of the picture, ``"stretch"`` takes
    all of it. Raises SourceError where the file cannot be used, is transparent, or has changed since it was
    listed. What is to be said of it goes to ``remarks``.
    """
    picture = read_picture(source.path, source.sha256, source.reading)
    if remarks is not None:
        remarks.add(source.path, picture.remarks)
    lowest_alpha = 255 if picture.alpha is None else picture.alpha.getextrema()[0]
    if lowest_alpha != 255:
        found = f"a background that is transparent in places (alpha goes down to {lowest_alpha})"
        raise problem(source.path, found, "an opaque picture: flatten it", "background-transparent")
    for frame in frames:
        sides = zip(picture.rgb.size, frame.size, strict=True)
        if remarks is not None and any(side * _BLOWN_UP <= wanted for side, wanted in sides):
            remark = f"no more than half as large as samples of {frame.width}x{frame.height}"
            remarks.add(source.path, [remark])
    return [np.asarray(frame.resize(picture.rgb)) for frame in frames]


def load_catalog(
    sources: Sources,
    *,
    height: int,
    width: int,
    fit: Fit,
    foreground_height: int | Sequence[int],
    scale: int = 1,
    with_backgrounds: bool = True,
    depth_values: MetricValues = MetricValues(),  # noqa: B008 (it is frozen)
    on_picture: Callable[[int, int], None] | None = None,
) -> Catalog:
    """Decodes and resizes all pictures on a few threads; the result does not depend on their number.

    A patch is ``foreground_height`` high and ``max(1, round(w * foreground_height / h))`` wide, with ``h``
    and ``w`` the size of its upright picture; of several heights (ascending) it has the largest that fits. It
    is resized with a Lanczos filter in premultiplied alpha, at float precision, so that colours of
    transparent pixels do not bleed into its edges. At scale ``k`` every size is exactly ``k`` times that at
    scale 1, in pixels.

    After each picture (a foreground and its mask are one) ``on_picture`` is called in this thread with how
    many are done, from 1, and how many there are. Raises SourceError with every file that cannot be used:
    unreadable, damaged, animated, too small or too large, changed since it was listed; a foreground without
    usable alpha; a mask of another size; a patch that is larger than the dataset's pictures.
    """
    backgrounds = sources.backgrounds if with_backgrounds else ()
    background = np.empty((len(backgrounds), height * scale, width * scale, 3), np.uint8)

    depth = {
        source.name: np.empty((height, width), np.float32)
        for source in backgrounds
        if source.depth_path is not None and scale == 1
    }
    frame = Frame(height * scale, width * scale, fit)

    def load_into(place: NDArray[np.uint8], source: Source) -> NDArray[np.uint8]:
        if source.name in depth and source.depth_path is not None:
            depth[source.name][...] = read_metres(
                source.depth_path,
                frame,
                depth_values,
                picture=source.path,
                reading=source.reading,
                sha256=source.depth_sha256,
            )
        (place[...],) = load_background(source, frame, remarks=remarks if scale == 1 else None)
        return place

    heights = (foreground_height,) if isinstance(foreground_height, int) else tuple(foreground_height)

    cut = np.zeros(len(sources.foregrounds), np.uint8)

    def load_patch(number: int, source: Source) -> NDArray[np.uint8]:
        patch, cut[number] = _load_patch(source, height, width, heights, scale, remarks)
        return patch

    remarks, codes = Remarks(), Counter[str]()
    jobs = [
        partial(_counting, codes, partial(load_into, place), source)
        for place, source in zip(background, backgrounds, strict=True)
    ]
    jobs += [
        partial(_counting, codes, partial(load_patch, number), source)
        for number, source in enumerate(sources.foregrounds)
    ]
    try:
        patches = run_all(jobs, on_picture)[len(backgrounds) :]
    except SourceError as error:
        reason = _likely_reason(codes, len(backgrounds), len(sources.foregrounds))
        raise SourceError(error.message + reason, error.problems, code=error.code) from error
    sizes = np.array([patch.shape[:2] for patch in patches], np.int32).reshape(-1, 2)
    foreground = np.zeros((len(patches), *sizes.max(axis=0, initial=0), 4), np.uint8)
    for padded, patch in zip(foreground, patches, strict=True):
        padded[: patch.shape[0], : patch.shape[1]] = patch
    return Catalog(
        background,
        foreground,
        sizes,
        cut,
        sources.backgrounds,
        sources.foregrounds,
        (*remarks.lines(), *([holes] if (holes := holes_in_words(depth)) else [])),
        background_depth=np.stack(list(depth.values())) if depth else None,
    )


def _counting(
    codes: Counter[str], load: Callable[[Source], NDArray[np.uint8]], source: Source
) -> NDArray[np.uint8]:
    """What ``load`` returns; counts the code of its error."""
    try:
        return load(source)
    except SourceError as error:
        codes[error.code] += 1
        raise


def _likely_reason(codes: Counter[str], backgrounds: int, foregrounds: int) -> str:
    """What most likely explains that all pictures of a kind are wrong in the same way; or nothing."""
    without_alpha = codes["alpha-missing"] + codes["alpha-opaque"] == foregrounds
    if without_alpha and codes["background-transparent"] == backgrounds > 0:
        return ". All foregrounds are opaque and all backgrounds transparent: did you swap the folders?"
    if without_alpha and foregrounds > 1:
        return (
            ". No foreground has transparency: cut the objects out (PNG and WebP hold alpha, JPEG does not), "
            "or give --masks; or did you swap the folders?"
        )
    return ""


@decoding()
def _load_patch(
    source: Source, height: int, width: int, heights: tuple[int, ...], scale: int, remarks: Remarks
) -> tuple[NDArray[np.uint8], int]:
    """One foreground, resized: ``(patch height, patch width, 4)`` uint8, RGBA; and at which sides it is
    cut.
    """
    rgb, alpha = _load_cutout(source, remarks)
    if not source.reading.premultiplied and _looks_premultiplied(rgb, alpha):
        remarks.add(source.path, [_PREMULTIPLIED])
    fitting = [tall for tall in heights if tall <= height and _patch_width(rgb.size, tall) <= width]
    foreground_height = max(fitting, default=heights[0])
    if scale == 1 and rgb.height * _BLOWN_UP <= foreground_height:
        remarks.add(source.path, [f"no more than half as high as --foreground-height {foreground_height}"])
    patch_width = _patch_width(rgb.size, foreground_height)
    if not fitting:
        lower = [tall for tall in range(height, 0, -1) if _patch_width(rgb.size, tall) <= width][:1]
        advice = f"--foreground-height of at most {lower[0]}" if lower else "a less elongated picture"
        found = f"a foreground of {patch_width}x{foreground_height} pixels (width x height) once resized"
        found = f"{found}, larger than the dataset's {width}x{height}"
        raise problem(source.path, found, advice, "foreground-too-large")
    premultiplied = source.reading.premultiplied
    size = (foreground_height * scale, patch_width * scale)
    patch = resize_premultiplied(rgb, alpha, *size, is_premultiplied=premultiplied)
    if not patch[..., 3].any():
        found = f"so little is opaque that nothing is left at {patch_width}x{foreground_height} pixels"
        expected = "a foreground that can be seen: crop it closer"
        raise problem(source.mask_path or source.path, found, expected, "foreground-invisible")
    return patch, cut_sides(alpha) if source.cut is None else source.cut


def _patch_width(size: tuple[int, int], patch_height: int) -> int:
    """Width of a patch of that height, for an original of ``size`` = (width, height)."""
    return max(1, round(size[0] * patch_height / size[1]))


def _looks_premultiplied(rgb: Image.Image, alpha: Image.Image) -> bool:
    """Whether no colour is above its alpha, where by chance some would be: edges then come out dark."""
    width, height = rgb.size
    part = max(1, *(-(-side // _LOOKED_AT) for side in rgb.size))
    size = (max(1, width // part), max(1, height // part))
    brightest = np.asarray(rgb.resize(size, Image.Resampling.NEAREST)).max(axis=2)
    opacity = np.asarray(alpha.resize(size, Image.Resampling.NEAREST))
    soft, opaque = (opacity > 0) & (opacity < 255), opacity == 255
    if (soft & (opacity < 128)).sum() < _FEWEST_SOFT or not opaque.any():
        return False
    is_below = (brightest <= opacity.astype(np.int16) + 1)[~opaque].all()
    # Dark objects are below their alpha in any case.
    return bool(is_below) and float(brightest[opaque].mean()) > _BRIGHT


def _load_cutout(source: Source, remarks: Remarks) -> tuple[Image.Image, Image.Image]:
    """Colour and alpha of a foreground at its original size, or the problems of both its files."""
    problems: list[SourceError] = []
    picture = mask = None
    try:
        picture = read_picture(source.path, source.sha256, source.reading)
        remarks.add(source.path, picture.remarks)
    except SourceError as error:
        problems.append(error)
    if source.mask_path is not None:
        try:
            mask = read_mask(source.mask_path, source.reading, source.mask_sha256)
        except SourceError as error:
            problems.append(error)
    if picture is None or problems:
        raise combined(problems)

    if mask is not None and source.mask_path is not None:
        differs = is_turned_apart(picture.orientation, source.mask_path, source.reading)
        if mask.size != picture.rgb.size:
            expected = "{}x{}, as {}".format(*picture.rgb.size, source.path)
            found = "a mask of {}x{} pixels".format(*mask.size)
            if differs and mask.size == picture.rgb.size[::-1]:
                expected += f", which its EXIF orientation turns ({EXIF_ADVICE})"
            raise problem(source.mask_path, found, expected, "mask-size-differs")
        if differs:
            remarks.add(source.path, [_TURNED])
        return picture.rgb, mask
    return picture.rgb, check_alpha(source.path, picture.alpha, source.reading)
