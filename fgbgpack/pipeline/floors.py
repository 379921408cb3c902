"""Where whole figures can stand in the backgrounds of a recipe: found by a network once, and then stored."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.floor import Floor, find_floor
from fgbgpack.composition.originals import depth_of_backgrounds
from fgbgpack.composition.recipe import Recipe
from fgbgpack.composition.standing import person_pixels
from fgbgpack.depth import Device, Execution
from fgbgpack.depth.background import to_inverse
from fgbgpack.depth.card import Quantity
from fgbgpack.depth.model import load_model
from fgbgpack.depth.strategies import SceneDepth, SeenBackgrounds
from fgbgpack.document import PERSON_PIXELS, Document
from fgbgpack.errors import FgbgError, SpecError
from fgbgpack.pipeline.events import Notice, OnEvent, Progress
from fgbgpack.source_info import SourceInfo
from fgbgpack.sources.listing import Source
from fgbgpack.sources.masks import read_mask
from fgbgpack.sources.memory import decoding
from fgbgpack.sources.names import counted
from fgbgpack.sources.pictures import read_picture
from fgbgpack.sources.problems import problem, run_all
from fgbgpack.sources.resizing import Frame, crop_box
from fgbgpack.spec import DepthSpec, Reading
from fgbgpack.storage.store import DatasetStore

_SHOWN = 5
_HALF = 127


def stored_person_pixels(store: DatasetStore, recipe: Recipe) -> NDArray[np.int16] | None:
    """Where figures stand in a dataset that was begun with the same recipe; ``None`` where that is not so."""
    if store.has_lost_document():
        return None
    document = store.document()
    if document is None or document.spec is None or PERSON_PIXELS not in document.recipe_arrays:
        return None
    stated = ((one.depth, one.depth_factor, one.depth_invalid) for one in (document.spec, recipe.spec))
    if len(set(stated)) > 1 or not _are_given_alike(document, recipe):
        # What is there is to be replaced: another network, or the user, may see other floors.
        return None
    try:
        (stored,) = store.read(PERSON_PIXELS)
    except FgbgError:
        return None
    if stored.shape != recipe.catalog.background.shape[:3]:
        return None
    found: NDArray[np.int16] = stored
    return found if _with(recipe, found).info == document.recipe else None


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

    Raises SpecError (``floor-missing``) where nothing can stand anywhere, though the spec says so.
    """
    if not recipe.spec.scene.has_floor:
        return recipe
    if store is not None and (stored := stored_person_pixels(store, recipe)) is not None:
        return _with(recipe, stored)
    low, high = recipe.spec.scene.height_range
    floors = _find(recipe, device, on_event, SeenBackgrounds() if seen is None else seen)
    person = np.stack([person_pixels(floor, low, high) for floor in floors])
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
    return _with(recipe, person)


def _with(recipe: Recipe, person: NDArray[np.int16]) -> Recipe:
    return dataclasses.replace(
        recipe, catalog=dataclasses.replace(recipe.catalog, person_pixels=person.astype(np.int16, copy=False))
    )


def _find(recipe: Recipe, device: Device, on_event: OnEvent, seen: SeenBackgrounds) -> Sequence[Floor]:
    spec = recipe.spec
    depth_of, quantity = _depth_of_backgrounds(recipe, device, seen)

    def floor_of(index: int) -> Floor:
        inverse = to_inverse(depth_of(index).astype(np.float64), quantity)
        horizon, mask = _given(recipe.catalog.backgrounds[index], Frame(spec.height, spec.width, spec.fit))
        return find_floor(inverse, is_metric=quantity.unit == "m", horizon=horizon, mask=mask)

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
    # The network sees backgrounds, whatever else it sees.
    of_backgrounds = dataclasses.replace(depth, mode="layered", guide=None)
    scale = of_backgrounds.resolved_scale(spec.height, spec.width)
    scene = SceneDepth(recipe, model, scale, Execution(depth.precision, device))

    def depth_of(index: int) -> NDArray[np.float32]:
        found = scene(index)
        seen.put(scene.key(index), found)
        return found

    return depth_of, model.card.output.meaning


def _given(source: SourceInfo, frame: Frame) -> tuple[float | None, NDArray[np.bool_] | None]:
    """The row of the horizon and the mask of the floor of a resized background, where the user gives them."""
    if not isinstance(source, Source) or (source.horizon is None and source.mask_path is None):
        return None, None
    with decoding():
        size = read_picture(source.path, source.sha256, source.reading).rgb.size
        horizon = mask = None
        if source.horizon is not None:
            top, height = 0.0, float(size[1])
            if frame.fit == "crop":
                _, top, _, bottom = crop_box(size, frame.height, frame.width)
                height = bottom - top
            horizon = (source.horizon * size[1] - top) / height * frame.height
        if source.mask_path is not None:
            reading = Reading(exif=source.reading.exif)
            picture = read_mask(source.mask_path, reading, source.mask_sha256, may_be_uniform=True)
            if picture.size != size:
                found = "a mask of {}x{} pixels".format(*picture.size)
                expected = "{}x{}, as {}".format(*size, source.path)
                raise problem(source.mask_path, found, expected, "mask-size-differs")
            mask = np.asarray(frame.resize(picture)) > _HALF
    return horizon, mask


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
