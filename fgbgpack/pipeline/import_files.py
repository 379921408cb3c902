"""The files of samples that are imported, decoded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgbgpack.errors import SourceError
from fgbgpack.pipeline.import_probe import Failures
from fgbgpack.sources import masks
from fgbgpack.sources.decoding import PictureFile
from fgbgpack.sources.memory import decoding
from fgbgpack.sources.pairing import Kind
from fgbgpack.sources.problems import Remarks, problem
from fgbgpack.sources.resizing import Frame
from fgbgpack.sources.sample_files import DepthValues, read_depth, read_image, read_mask, wrong_size
from fgbgpack.sources.sets import SampleObjects, Tables, draw, numbered, read_instance_values
from fgbgpack.spec import Reading

#: A pixel of a mask is of an object where it is greater.
_MASK_ABOVE = 127
_OF_MASK = 255  # its number then

#: The arrays that samples are decoded into, by their kinds.
Planes = Mapping[Kind, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class SampleFiles:
    """The files of samples: their ``paths`` below ``root``, of each kind by the numbers of the samples, and
    how they are decoded. ``unusable`` ones are left out; ``remarks`` are what is to be said of pictures.

    ``tables`` hold them where they are no files. ``objects`` are those of each sample, if they are told
    apart: by pictures of instances, or by outlines, which are drawn at the ``sizes`` of the pictures,
    (width, height). Where ``of_masks``, instances are the pixels of masks above 127.
    """

    root: Path
    paths: Mapping[Kind, Sequence[str] | Mapping[int, str]]
    frame: Frame
    depth: DepthValues
    reading: Reading
    unusable: AbstractSet[tuple[Kind, int]] = frozenset()
    remarks: Remarks = field(default_factory=Remarks)
    tables: Tables | None = None
    objects: Sequence[SampleObjects] | Mapping[int, SampleObjects] | None = None
    sizes: NDArray[np.int64] | Mapping[int, Any] = field(default_factory=dict)
    of_masks: bool = False

    def of(self, samples: range) -> SampleFiles:
        """Those of some samples, with remarks of their own: small enough to be sent to another process."""
        root = self.root.absolute()  # other processes may be in another folder
        return dataclasses.replace(
            self,
            root=root,
            paths={kind: {n: of_kind[n] for n in samples} for kind, of_kind in self.paths.items()},
            unusable={(kind, sample) for kind, sample in self.unusable if sample in samples},
            remarks=Remarks(),
            tables=None if self.tables is None else dataclasses.replace(self.tables, root=root),
            objects=None if self.objects is None else {n: self.objects[n] for n in samples},
            sizes={n: self.sizes[n] for n in samples} if self._draws else {},
        )

    @property
    def _draws(self) -> bool:
        """Whether outlines say what objects cover."""
        return self.objects is not None and "instances" not in self.paths

    def file(self, kind: Kind, sample: int) -> PictureFile:
        """The file of a sample, or its part of a table; raises SourceError where there is no picture."""
        path = self.paths[kind][sample]
        in_table = self.tables is not None and kind in self.tables.columns
        return self.tables.picture(kind, path) if self.tables and in_table else self.root / path

    def fill(self, samples: range, into: Planes, failures: Failures) -> None:
        """Decodes the files of some samples into the first places of arrays, except those that cannot be
        used, which ``failures`` collects. Kinds that are not imported stay as they are.
        """
        for place, sample in enumerate(samples):
            for kind, array in into.items():
                if kind in self.paths and kind != "instances":
                    self._put(kind, sample, array[place], failures)
            if self.objects is not None and "instances" in into:
                self._put_objects(sample, place, into, failures)

    def _put(self, kind: Kind, sample: int, place: NDArray[Any], failures: Failures) -> None:
        if (kind, sample) not in self.unusable:
            try:
                with decoding():
                    place[...] = self._decode(kind, self.file(kind, sample))
            except SourceError as exc:
                failures.add(kind, exc)

    def _put_objects(self, sample: int, place: int, into: Planes, failures: Failures) -> None:
        """Instances and, where there is no file of it, the mask of all of them."""
        of_file = {("images", sample), ("instances", sample)} & self.unusable
        if not of_file:
            try:
                with decoding():
                    instance, covered = self._planes(sample)
            except SourceError as exc:
                failures.add("instances", exc)
                return
            into["instances"][place] = instance
            if "masks" in into and "masks" not in self.paths:
                into["masks"][place] = covered

    def _decode(self, kind: Kind, path: PictureFile) -> NDArray[Any]:
        if kind == "depths":
            return read_depth(path, self.frame, self.depth, self.reading)
        if kind == "masks":
            return read_mask(path, self.frame, self.reading)
        return read_image(path, self.frame, self.reading, self.remarks)

    def _planes(self, sample: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The map of instances of a sample, and its mask, 0 or 255: each pixel is that of the nearest one."""
        if self.objects is None:
            raise ValueError("nothing tells objects apart")
        objects = self.objects[sample]
        if self._draws:
            size = objects.size or (int(self.sizes[sample][0]), int(self.sizes[sample][1]))
            try:
                instance, covered = draw(objects, size)
            except ValueError as exc:
                where = self.paths["images"][sample]
                found, expected = f"an outline of it is broken ({exc})", "run lengths as pycocotools has them"
                raise problem(where, found, expected, "annotations-invalid") from exc
        else:
            path = self.file("instances", sample)
            instance = numbered(path, self._values(path), objects)
            covered = instance > 0
            size = instance.shape[1], instance.shape[0]
            if self.frame.fit is None and size != self.frame.size:
                raise wrong_size(path, size, self.frame.size)
        mask = covered.astype(np.uint8) * np.uint8(255)
        return self._nearest(instance), self._nearest(mask)

    def _values(self, path: PictureFile) -> NDArray[Any]:
        if self.of_masks:
            mask = np.asarray(masks.read_mask(path, self.reading, may_be_uniform=True))
            return np.where(mask > _MASK_ABOVE, _OF_MASK, 0)
        return read_instance_values(path, self.reading)

    def _nearest(self, plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(self.frame.resize(Image.fromarray(plane), Image.Resampling.NEAREST))
