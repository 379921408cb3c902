"""The files of samples that are imported, decoded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fgbgpack.errors import SourceError
from fgbgpack.pipeline.import_probe import Failures
from fgbgpack.sources.memory import decoding
from fgbgpack.sources.pairing import Kind
from fgbgpack.sources.problems import Remarks
from fgbgpack.sources.resizing import Frame
from fgbgpack.sources.sample_files import DepthValues, read_depth, read_image, read_mask
from fgbgpack.spec import Reading


@dataclass(frozen=True, eq=False)
class SampleFiles:
    """The files of samples: their ``paths`` below ``root``, of each kind by the numbers of the samples, and
    how they are decoded. ``unusable`` ones are left out; ``remarks`` are what is to be said of pictures.
    """

    root: Path
    paths: Mapping[Kind, Sequence[str] | Mapping[int, str]]
    frame: Frame
    depth: DepthValues
    reading: Reading
    unusable: AbstractSet[tuple[Kind, int]] = frozenset()
    remarks: Remarks = field(default_factory=Remarks)

    def of(self, samples: range) -> SampleFiles:
        """Those of some samples, with remarks of their own: small enough to be sent to another process."""
        paths = {
            kind: {sample: of_kind[sample] for sample in samples} for kind, of_kind in self.paths.items()
        }
        unusable = {(kind, sample) for kind, sample in self.unusable if sample in samples}
        root = self.root.absolute()  # other processes may be in another folder
        return dataclasses.replace(self, root=root, paths=paths, unusable=unusable, remarks=Remarks())

    def path(self, kind: Kind, sample: int) -> Path:
        """Where the file of a sample is."""
        return self.root / self.paths[kind][sample]

    def fill(self, kind: Kind, samples: range, into: NDArray[Any], failures: Failures) -> None:
        """Decodes the files of a kind of some samples into the first places of an array, except those that
        cannot be used, which ``failures`` collects. Of a kind that is not imported it stays as it is.
        """
        if kind not in self.paths:
            return
        for place, sample in zip(into, samples, strict=False):
            if (kind, sample) not in self.unusable:
                try:
                    with decoding():
                        place[...] = self._decode(kind, self.path(kind, sample))
                except SourceError as exc:
                    failures.add(kind, exc)

    def _decode(self, kind: Kind, path: Path) -> NDArray[Any]:
        if kind == "depths":
            return read_depth(path, self.frame, self.depth, self.reading)
        if kind == "masks":
            return read_mask(path, self.frame, self.reading)
        return read_image(path, self.frame, self.reading, self.remarks)
