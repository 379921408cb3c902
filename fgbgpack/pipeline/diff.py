"""What differs between two datasets: their specs, sources, recipes, depth and arrays, sample by sample."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.dataset.dataset import Dataset, open_dataset
from fgbgpack.document import DEPTH, DEPTHS, NAME, OBJECTS, NetworkDepthInfo
from fgbgpack.import_info import CREDITS
from fgbgpack.options import checked_numbers
from fgbgpack.pipeline.events import OnEvent, Progress, Reporting, reporting, silent
from fgbgpack.storage.hdf5 import Hdf5Store
from fgbgpack.storage.targets import Target, located_all

#: Bytes of samples of both that are compared at a time.
_COMPARED_BYTES = 64 << 20
#: What of a spec says where pictures were, or how arrays are cut, and not what samples are.
_ELSEWHERE = ("schema", "backgrounds", "foregrounds", "masks", "chunk")
_MOST_SHOWN = 1000

#: How two arrays compare.
Outcome: TypeAlias = Literal["same", "differs", "shape", "first only", "second only"]
#: How that is known: by the checksums of all chunks, by a recipe that both are composed of, or by values.
Evidence: TypeAlias = Literal["checksums", "recipe", "values"]


@dataclass(frozen=True)
class ArrayComparison:
    """How an array of two datasets compares.

    Attributes:
        outcome: ``"same"``, ``"differs"`` in some values, ``"shape"`` (shapes or types differ), or only one
            of the datasets has it.
        by: How that is known; ``None`` where nothing was compared.
        samples: Samples, or other rows, that differ, where these were compared.
        of: All of them.
        largest: The largest difference of two values; ``None`` where none differ, or one is not known.
    """

    outcome: Outcome
    by: Evidence | None
    samples: int
    of: int
    largest: float | None


@dataclass(frozen=True)
class Difference:
    """Something that two documents say otherwise: what, and what each of them says."""

    what: str
    first: Any
    second: Any


@dataclass(frozen=True)
class SampleDifference:
    """A sample that differs: its number, in which arrays, and what it is made of in both datasets."""

    sample: int
    arrays: tuple[str, ...]
    first: Mapping[str, Any]
    second: Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """What differs between two datasets.

    Attributes:
        first: The path of the first.
        second: That of the second.
        equal: Whether they hold the same: all that follows is the same, but for ``layout``.
        spec: What was asked for otherwise; where pictures were does not count.
        sources: Pictures that are others, or in another place of the list.
        recipe: The digests of the recipes, where these differ.
        depth: What fills depth otherwise.
        splits: Saved splits that differ.
        layout: How the same samples are cut, encoded or composed otherwise.
        arrays: How each array compares.
        samples: The first samples that differ.
    """

    first: str
    second: str
    equal: bool
    spec: tuple[Difference, ...]
    sources: tuple[Difference, ...]
    recipe: tuple[Difference, ...]
    depth: tuple[Difference, ...]
    splits: tuple[Difference, ...]
    layout: tuple[Difference, ...]
    arrays: Mapping[str, ArrayComparison]
    samples: tuple[SampleDifference, ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON data."""
        return dataclasses.asdict(self)


def diff(
    first: Target,
    second: Target,
    *,
    samples: int = 5,
    storage_options: Mapping[str, Any] | None = None,
    on_event: Reporting = silent,
) -> Comparison:
    """Compare two datasets: what their documents say, and what their arrays hold.

    Arrays that both have in the same chunks are compared by the checksums of these; others, such as those of
    an HDF5 file or of a virtual dataset, by their values. Nothing is written.

    Args:
        first: A local folder, an HDF5 file, a URL, or a Zarr store.
        second: Another one.
        samples: How many samples that differ are described, the first ones.
        storage_options: What URLs are opened with; see :func:`fgbgpack.open_dataset`.
        on_event: Called in this thread with progress; ``"progress"`` shows it.

    Raises:
        SpecError: ``samples`` is out of range, or options are given and none is a URL.
        DatasetError: One is no complete dataset, is damaged, or cannot be read.

    Example:
        >>> from fgbgpack.pipeline import diff
        >>> diff("lobby.zarr", "lobby.h5").equal  # doctest: +SKIP
        True
    """
    (shown,) = checked_numbers({"samples": (samples, 0, _MOST_SHOWN)}, "So many cannot be shown:")
    one, other = map(_opened, located_all([first, second], storage_options))
    with reporting(on_event) as notify:
        return _Diff(one, other, int(shown), notify).run()


def _opened(place: Target) -> Dataset:
    """A dataset whose pixels are read where they are stored, and not composed of the recipe."""
    dataset = open_dataset(place)
    return dataset if dataset.document.is_virtual else open_dataset(place, pixels="stored")


class _Diff:
    """Compares two open datasets."""

    def __init__(self, first: Dataset, second: Dataset, shown: int, on_event: OnEvent) -> None:
        self._pair = first, second
        self._shown, self._on_event = shown, on_event
        self._arrays: dict[str, ArrayComparison] = {}
        #: The arrays in which each of the first samples that differ does.
        self._differ: dict[int, list[str]] = {}

    def run(self) -> Comparison:
        first, second = self._pair
        documents = first.document, second.document
        self._compare_arrays()
        found = {
            "spec": tuple(self._specs()),
            "sources": tuple(self._sources()),
            "recipe": tuple(
                _differing("digest", *(document.recipe and document.recipe.sha256 for document in documents))
            ),
            "depth": tuple(self._depths()),
            "splits": tuple(_each(first.splits, second.splits)),
        }
        is_same = all(array.outcome == "same" for array in self._arrays.values())
        numbers = sorted(self._differ)[: self._shown]
        return Comparison(
            first=first.path,
            second=second.path,
            equal=is_same and not any(found.values()),
            layout=tuple(self._layouts()),
            arrays=self._arrays,
            samples=tuple(
                SampleDifference(i, tuple(self._differ[i]), *(_made_of(ds, i) for ds in self._pair))
                for i in numbers
            ),
            **found,
        )

    # --- what the documents say --------------------------------------------------------------------

    def _specs(self) -> Iterator[Difference]:
        documents = [ds.document for ds in self._pair]
        yield from _differing("number of samples", *map(len, self._pair))
        yield from _differing("size", *(f"{ds.width}x{ds.height}" for ds in self._pair))
        yield from _differing("imported", *(not ds.has_recipe for ds in self._pair))
        specs = [{} if document.spec is None else document.spec.to_dict() for document in documents]
        if all(specs):
            kept = [
                {k: v for k, v in spec.items() if k not in (*_ELSEWHERE, "depth", "width", "height")}
                for spec in specs
            ]
            yield from _each(*kept)

    def _sources(self) -> Iterator[Difference]:
        first, second = (ds.document.sources for ds in self._pair)
        if first is None or second is None:
            return
        for kind in ("background", "foreground"):
            lists = [getattr(sources, f"{kind}s") for sources in (first, second)]
            yield from _differing(f"{kind}s", *map(len, lists))
            for number, pair in enumerate(zip(*lists, strict=False)):
                if pair[0] != pair[1]:
                    yield Difference(f"{kind} {number}", *(f"{one.name} {one.sha256}" for one in pair))

    def _depths(self) -> Iterator[Difference]:
        first, second = (ds.document.depth for ds in self._pair)
        if first is None or second is None:
            modes = (None if depth is None else depth.mode for depth in (first, second))
            yield from _differing("mode", *modes)
            return
        said = []
        for depth in (first, second):
            facts: dict[str, Any] = {"mode": depth.mode}
            if isinstance(depth, NetworkDepthInfo):
                facts |= {"network": depth.sha256, "scale": depth.scale, "bits": depth.bits}
                facts |= {"step": depth.step, "precision": depth.precision}
                facts["guide"] = None if depth.guide is None else depth.guide.sha256
            else:
                facts |= {name: getattr(depth, name) for name in ("factor", "offset", "invalid")}
            said.append(facts)
        yield from _each(*said)
        meanings = [ds.depth.attrs for ds in self._pair]
        for name in ("quantity", "unit"):
            yield from _differing(name, *(meaning.get(name) for meaning in meanings))

    def _layouts(self) -> Iterator[Difference]:
        first, second = self._pair
        kinds = ["virtual" if ds.document.is_virtual else "stored" for ds in self._pair]
        yield from _differing("pixels", *kinds)
        yield from _differing("form", *map(_form, self._pair))
        composed = {*first.document.composed, *second.document.composed}
        for name in first.fields:
            is_in_both = name in second.fields and self._arrays[name].outcome != "shape"
            if is_in_both and name not in composed:
                arrays = [ds.depth if name == DEPTH else ds.plane(name) for ds in self._pair]
                yield from _differing(f"chunks of {name}", *(list(array.chunks) for array in arrays))
                yield from _differing(f"shards of {name}", *(list(array.shards) for array in arrays))

    # --- what the arrays hold ----------------------------------------------------------------------

    def _compare_arrays(self) -> None:
        paths = [_paths(ds) for ds in self._pair]
        for path in dict.fromkeys((*paths[0], *paths[1])):
            if path not in paths[1] or path not in paths[0]:
                outcome: Outcome = "first only" if path in paths[0] else "second only"
                self._arrays[path] = ArrayComparison(outcome, None, 0, 0, None)
        both = [path for path in paths[0] if path in paths[1]]
        pictures = [path for path in both if path in self._pair[0].fields]
        for path in both:
            if path not in pictures:
                self._arrays[path] = self._whole(path)
        for path in pictures:
            self._arrays[path] = self._picture(path)

    def _candidates(self, path: str) -> NDArray[np.int64] | None:
        """The rows of chunks with other checksums; ``None`` where the two have no such checksums of the same
        chunks.
        """
        checks = [ds.store.checks(path) for ds in self._pair]
        if checks[0] is None or checks[1] is None:
            return None
        forms = [ds.store.forms([path], copied=True)[path] for ds in self._pair]
        if any(getattr(forms[0], name) != getattr(forms[1], name) for name in ("layout", "codec", "dtype")):
            return None
        layout = forms[0].layout
        differs = checks[0].all() != checks[1].all()
        rows = np.flatnonzero(differs.reshape(-1, int(np.prod(layout.grid[1:]))).any(axis=1))
        size = layout.chunk[0]
        numbers = (rows[:, None] * size + np.arange(size)).reshape(-1)
        return numbers[numbers < layout.shape[0]]

    def _picture(self, path: str) -> ArrayComparison:
        """How a plane, or depth, compares; samples that differ are noted."""
        arrays = [ds.depth if path == DEPTH else ds.plane(path) for ds in self._pair]
        count = len(arrays[0])
        if arrays[0].shape != arrays[1].shape or arrays[0].dtype != arrays[1].dtype:
            return ArrayComparison("shape", None, 0, count, None)
        if self._is_composed_alike(path):
            return ArrayComparison("same", "recipe", 0, count, None)
        candidates = self._candidates(path)
        if candidates is not None and not len(candidates):
            return ArrayComparison("same", "checksums", 0, count, None)
        numbers = np.arange(count) if candidates is None else candidates
        size = max(1, _COMPARED_BYTES // (2 * arrays[0].nbytes // count))
        differing, largest = 0, 0.0
        self._on_event(Progress("samples", 0, len(numbers)))
        for start in range(0, len(numbers), size):
            some = numbers[start : start + size]
            values = [array.reader.read(some) for array in arrays]
            differs, by = _unequal(*values)
            differing += int(differs.sum())
            largest = max(largest, by)
            self._note(path, some[differs])
            self._on_event(Progress("samples", start + len(some), len(numbers)))
        return _compared(differing, count, largest)

    def _is_composed_alike(self, path: str) -> bool:
        """Whether both compose an array of what was found to be the same."""
        if not all(path in ds.document.composed for ds in self._pair):
            return False
        first, second = (ds.document for ds in self._pair)
        made_of = (*first.recipe_arrays, *(first.depth_sources if path == DEPTH else ()))
        depths = [
            (depth.mode, depth.step) if isinstance(depth, NetworkDepthInfo) else None
            for depth in (first.depth, second.depth)
        ]
        same = first.recipe == second.recipe and (path != DEPTH or depths[0] == depths[1])
        return same and all(self._arrays[one].outcome == "same" for one in made_of)

    def _whole(self, path: str) -> ArrayComparison:
        """How a small array compares."""
        candidates = self._candidates(path)
        if candidates is not None and not len(candidates):
            form = self._pair[0].store.forms([path], copied=True)[path]
            return ArrayComparison("same", "checksums", 0, form.layout.shape[0], None)
        values = [ds.store.read(path)[0] for ds in self._pair]
        if path in (NAME, *CREDITS):
            # Padded as far as the longest text.
            width = max(one.shape[1] for one in values)
            values = [np.pad(one, ((0, 0), (0, width - one.shape[1]))) for one in values]
        count = len(values[0])
        if values[0].shape != values[1].shape or values[0].dtype != values[1].dtype:
            return ArrayComparison("shape", None, 0, count, None)
        differs, largest = _unequal(*values)
        if count == len(self._pair[0]):
            self._note(path, np.flatnonzero(differs))
        return _compared(int(differs.sum()), count, largest)

    def _note(self, path: str, samples: NDArray[np.int64]) -> None:
        """Some samples differ in an array; the first of all are kept."""
        for sample in samples[: self._shown].tolist():
            self._differ.setdefault(sample, []).append(path)


def _compared(differing: int, count: int, largest: float) -> ArrayComparison:
    if not differing:
        return ArrayComparison("same", "values", 0, count, None)
    return ArrayComparison("differs", "values", differing, count, largest if np.isfinite(largest) else None)


def _unequal(first: NDArray[Any], second: NDArray[Any]) -> tuple[NDArray[np.bool_], float]:
    """(n,) which rows differ, and by how much at most; NaN is like NaN."""
    differs = first != second
    if np.issubdtype(first.dtype, np.floating):
        differs &= ~(np.isnan(first) & np.isnan(second))
    largest = 0.0
    if differs.any():
        apart = np.abs(first[differs].astype(np.float64) - second[differs].astype(np.float64))
        largest = float(np.nanmax(apart)) if not np.isnan(apart).all() else np.inf
    return differs.reshape(len(first), -1).any(axis=1), largest


def _paths(dataset: Dataset) -> tuple[str, ...]:
    """The arrays that say what a dataset holds, composed or stored, without depth that is not filled."""
    document = dataset.document
    made_of = (*document.recipe_arrays, *document.of_imported)
    depths = (*DEPTHS, *document.depth_sources) if document.depth is not None else ()
    return (*document.planes, *made_of, *depths)


def _form(dataset: Dataset) -> str:
    return "HDF5" if isinstance(dataset.store.store, Hdf5Store) else "Zarr"


def _made_of(dataset: Dataset, sample: int) -> dict[str, Any]:
    """What a sample is made of, by names."""
    sources = dataset.document.sources
    if sample >= len(dataset):
        return {}
    if sources is None:
        return {} if dataset.names is None else {"name": dataset.names[sample]}
    arrays = {name: values[sample] for name, values in dataset.sample_arrays.items()}
    found: dict[str, Any] = {"background": sources.backgrounds[int(arrays["background"])].name}
    if dataset.has_objects:
        names = ("foreground", "flip", "y", "x", "height")
        rows = zip(*(arrays[f"{OBJECTS}/{name}"].tolist() for name in names), strict=True)
        found["objects"] = [
            {"foreground": sources.foregrounds[number].name, "flip": bool(flip), "y": y, "x": x, "height": h}
            for number, flip, y, x, h in rows
            if number >= 0
        ]
        return found
    found["foreground"] = sources.foregrounds[int(arrays["foreground"])].name
    return found | {"flip": bool(arrays["flip"]), "y": int(arrays["y"]), "x": int(arrays["x"])}


def _differing(what: str, first: Any, second: Any) -> Iterator[Difference]:
    if first != second:
        yield Difference(what, first, second)


def _each(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Difference]:
    """What differs of two mappings, by their keys in order."""
    for name in dict.fromkeys((*first, *second)):
        yield from _differing(name, first.get(name), second.get(name))
