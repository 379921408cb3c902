"""Where whole figures can stand in the backgrounds of a recipe: found by a network once, and then stored."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.floor import Floor, find_floor
from fgbgpack.composition.occlusion import NOBODY, front_rows, hidden_feet
from fgbgpack.composition.originals import depth_of_backgrounds
from fgbgpack.composition.recipe import Recipe
from fgbgpack.composition.standing import person_pixels
from fgbgpack.depth import Device, Execution
from fgbgpack.depth.background import to_inverse
from fgbgpack.depth.card import Quantity
from fgbgpack.depth.model import load_model
from fgbgpack.depth.strategies import SceneDepth, SeenBackgrounds
from fgbgpack.document import FRONT_ROW, PERSON_PIXELS, Document
from fgbgpack.errors import FgbgError, SpecError
from fgbgpack.pipeline.events import Notice, OnEvent, Progress
from fgbgpack.source_info import SourceInfo
from fgbgpack.sources.decoding import read_header
from fgbgpack.sources.listing import Source
from fgbgpack.sources.masks import read_mask
from fgbgpack.sources.memory import decoding
from fgbgpack.sources.names import counted
from fgbgpack.sources.problems import problem, run_all
from fgbgpack.sources.resizing import Frame, crop_box
from fgbgpack.spec import DepthSpec, Reading
from fgbgpack.storage.store import DatasetStore

_SHOWN = 5
_HALF = 127


def stored_floors(store: DatasetStore, recipe: Recipe) -> Recipe | None:
    """The recipe with where figures stand, and what hides them, in a dataset that was begun with the same
    one; ``None`` where there is none.
    """
    if store.has_lost_document():
        return None
    document = store.document()
    if document is None or document.spec is None or PERSON_PIXELS not in document.recipe_arrays:
        return None
    stated = ((one.depth, one.depth_factor, one.depth_invalid) for one in (document.spec, recipe.spec))
    if len(set(stated)) > 1 or not _are_given_alike(document, recipe):
        # What is there is to be replaced: another network, or the user, may see other floors.
        return None
    paths = [path for path in (PERSON_PIXELS, FRONT_ROW) if path in document.recipe_arrays]
    try:
        stored = store.read(*paths)
    except FgbgError:
        return None
    if any(array.shape != recipe.catalog.background.shape[:3] for array in stored):
        return None
    found = _with(recipe, *stored)
    return found if found.info == document.recipe else None


def _are_given_alike(document: Document, recipe: Recipe) -> bool:
    return document.sources is not None and document.sources.backgrounds == recipe.catalog.backgrounds


def with_floors(
    recipe: Recipe,
    device: Device,
    on_event: OnEvent,
    store: DatasetStore | None = None,
    seen: SeenBackgrounds | None = None,
) -> Recipe:
    """The recipe with what files of depth, the network of its depth, or else ``fgbgpack-scene`` tell of
    floors; with what ``store`` holds of them, if that is a dataset of the same recipe. The depth that a
    network gives is kept in ``seen``.

    Raises SpecError where nothing can stand anywhere, though the spec says so (``floor-missing``), and where
    what hides figures is asked for, and depth is not metric (``occlusion-not-metric``).
    """
    if not recipe.spec.scene.has_floor:
        return recipe
    if store is not None and (stored := stored_floors(store, recipe)) is not None:
        return stored
    low, high = recipe.spec.scene.height_range
    found = _find(recipe, device, on_event, SeenBackgrounds() if seen is None else seen)
    floors = [one.floor for one in found]
    person = np.stack([person_pixels(one.floor, low, high, one.hidden) for one in found])
    fronts = [one.front for one in found if one.front is not None]
    reasons = [
        floor.reason or f"nobody who stands on its floor would be {low} to {high} pixels high"
        for floor in floors
    ]
    missing = {
        source.name: reason
        for source, reason, rows in zip(recipe.catalog.backgrounds, reasons, person, strict=True)
        if not rows.any()
    }
    _report(recipe, floors, missing, on_event)
    if not fronts:
        return _with(recipe, person)
    stands = np.any(person, axis=(1, 2), keepdims=True)
    front = np.where(stands, np.stack(fronts), np.int16(NOBODY))
    is_behind = (person > 0) & (front >= np.arange(recipe.height)[:, None])
    behind = int(is_behind.any(axis=(1, 2)).sum())
    on_event(Notice(f"Figures can stand behind things in {behind} of {counted(len(floors), 'background')}."))
    return _with(recipe, person, front)


def _with(recipe: Recipe, person: NDArray[np.int16], front: NDArray[np.int16] | None = None) -> Recipe:
    catalog = dataclasses.replace(recipe.catalog, person_pixels=person, front_row=front)
    return dataclasses.replace(recipe, catalog=catalog)


@dataclass(frozen=True, eq=False)
class _Found:
    """The floor of a background, what hides figures there, and where they may stand hidden, if asked for."""

    floor: Floor
    front: NDArray[np.int16] | None = None
    hidden: NDArray[np.bool_] | None = None


def _find(recipe: Recipe, device: Device, on_event: OnEvent, seen: SeenBackgrounds) -> Sequence[_Found]:
    spec = recipe.spec
    depth_of, quantity = _depth_of_backgrounds(recipe, device, seen)

    def floor_of(index: int) -> _Found:
        inverse = to_inverse(depth_of(index).astype(np.float64), quantity)
        given = _given(recipe.catalog.backgrounds[index], Frame(spec.height, spec.width, spec.fit))
        floor = find_floor(inverse, is_metric=quantity.unit == "m", **vars(given))
        if not spec.occlude:
            return _Found(floor)
        front = front_rows(inverse, floor)
        return _Found(floor, front, hidden_feet(inverse, floor, front))

    jobs = [partial(floor_of, index) for index in range(len(recipe.catalog.backgrounds))]
    return run_all(jobs, lambda done, total: on_event(Progress("backgrounds", done, total)))


def _depth_of_backgrounds(
    recipe: Recipe, device: Device, seen: SeenBackgrounds
) -> tuple[Callable[[int], NDArray[np.float32]], Quantity]:
    """What gives the depth (h, w) of a background, and what that means: files, where it is NaN if unknown, or
    a network, whose answers are kept in ``seen``.
    """
    spec = recipe.spec
    if spec.background_depth is not None:
        return depth_of_backgrounds(recipe).__getitem__, Quantity("depth", "m")
    depth = spec.depth or DepthSpec()
    model = load_model(depth.model)
    if spec.occlude and model.card.output.unit != "m":
        raise SpecError(
            f"--occlude needs depth of the backgrounds in metres, and that of {depth.model} is relative: "
            "give files of depth with --background-depth, or a --depth-model whose card says the unit m.",
            code="occlusion-not-metric",
        )
    # The network sees backgrounds, whatever else it sees.
    of_backgrounds = dataclasses.replace(depth, mode="layered", guide=None)
    scale = of_backgrounds.resolved_scale(spec.height, spec.width)
    scene = SceneDepth(recipe, model, scale, Execution(depth.precision, device))

    def depth_of(index: int) -> NDArray[np.float32]:
        found = scene(index)
        seen.put(scene.key(index), found)
        return found

    return depth_of, model.card.output.meaning


@dataclass(frozen=True, eq=False)
class _Given:
    """What is known of a resized background beside its depth: the row of the horizon, the focal length in
    rows, and the mask of the floor.
    """

    horizon: float | None = None
    focal: float | None = None
    mask: NDArray[np.bool_] | None = None


def _given(source: SourceInfo, frame: Frame) -> _Given:
    """What the user, or the picture's EXIF block, tells."""
    if not isinstance(source, Source):
        return _Given()
    with decoding():
        header = read_header(source.path, source.reading)
        size, focal_length = header.size, source.focal_length or header.focal_length
        top, height = 0.0, float(size[1])
        if frame.fit == "crop":
            _, top, _, bottom = crop_box(size, frame.height, frame.width)
            height = bottom - top
        rows = frame.height / height
        horizon = None if source.horizon is None else (source.horizon * size[1] - top) * rows
        focal = None if focal_length is None else focal_length * rows
        if source.mask_path is None:
            return _Given(horizon, focal)
        reading = Reading(exif=source.reading.exif)
        picture = read_mask(source.mask_path, reading, source.mask_sha256, may_be_uniform=True)
        if picture.size != size:
            found = "a mask of {}x{} pixels".format(*picture.size)
            expected = "{}x{}, as {}".format(*size, source.path)
            raise problem(source.mask_path, found, expected, "mask-size-differs")
        return _Given(horizon, focal, np.asarray(frame.resize(picture)) > _HALF)


def _report(recipe: Recipe, floors: Sequence[Floor], missing: dict[str, str], on_event: OnEvent) -> None:
    """Say what stands where; raise SpecError where nothing stands, and ``floor`` is asked for."""
    cut = int((recipe.catalog.cut > 0).sum())
    foregrounds = len(recipe.catalog.foregrounds)
    if recipe.spec.placement == "floor" and (len(missing) == len(floors) or cut == foregrounds):
        problems = [f"background {name}: {reason}" for name, reason in missing.items()]
        advice = (
            "give masks of floors in the column floor of sources.csv, other backgrounds, a wider "
            "--foreground-height, or another --depth-model; --placement auto puts foregrounds inside the "
            "picture where there is no floor:"
        )
        if len(missing) < len(floors):
            problems = [f"foreground {source.name}: it is cut" for source in recipe.catalog.foregrounds]
            advice = (
                "give foregrounds that are whole, or say in the column cut of sources.csv which are; "
                "--placement anchored puts cut ones at the border:"
            )
        raise SpecError(
            f"With --placement floor nothing can stand anywhere: {advice}", problems, code="floor-missing"
        )
    kinds = Counter(
        floor.kind
        for floor, name in zip(floors, recipe.catalog.backgrounds, strict=True)
        if name.name not in missing
    )
    whole, standing = foregrounds - cut, len(floors) - len(missing)
    how = ", ".join(
        f"{count} {kind}" if kind == "given" else f"{count} from {kind} depth"
        for kind, count in sorted(kinds.items())
    )
    lines = [
        f"Floors: {standing} of {counted(len(floors), 'background')} have one{f' ({how})' if how else ''}. "
        f"Foregrounds: {whole} whole, which stand there, and {cut} cut, which lie at the border."
    ]
    if missing:
        some = [f"{name} ({reason})" for name, reason in list(missing.items())[:_SHOWN]]
        more = ", ..." if len(missing) > _SHOWN else ""
        lines.append(
            f"Whole ones are anywhere inside {counted(len(missing), 'background')} without a floor: "
            f"{', '.join(some)}{more}."
        )
    on_event(Notice(" ".join(lines)))
