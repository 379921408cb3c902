"""What the document says of the manifest: the arrays that it covers, and where their checksums are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ManifestArray:
    """What an array must hold: the SHA-256 of its metadata, and where the checksums of its ``chunks`` begin
    in the manifest, in the order of their shards.
    """

    sha256: str
    first: int
    chunks: int


@dataclass(frozen=True)
class ManifestInfo:
    """The manifest: the path of the array that holds it, what it covers, which is the arrays that are there
    as a whole, by their paths, and the CRC-32C of each of its parts.
    """

    path: str
    arrays: Mapping[str, ManifestArray]
    parts: tuple[str, ...]

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> ManifestInfo:
        """The same from JSON."""
        arrays = {path: ManifestArray(**entry) for path, entry in fields["arrays"].items()}
        return cls(fields["path"], arrays, tuple(fields["parts"]))

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        arrays = {path: dataclasses.asdict(entry) for path, entry in self.arrays.items()}
        return {"path": self.path, "arrays": arrays, "parts": list(self.parts)}
