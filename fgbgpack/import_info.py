"""What the document says of samples that were imported: where they were, what is known of their objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from fgbgpack.source_info import CREDIT_FIELDS
from fgbgpack.spec import AS_USUAL, Reading

#: What a folder that is imported holds: files of pictures, masks and depth, what ``fgbgpack export --to
#: folder`` wrote, or a set of annotated pictures.
ImportLayout: TypeAlias = Literal["files", "folder", "coco", "yolo", "parquet", "instance-masks"]


#: What is stated of pictures that were imported: arrays in the form of their names, empty where nothing is.
CREDITS = tuple(f"sources/{name}" for name in CREDIT_FIELDS)


@dataclass(frozen=True)
class ImportedObjects:
    """What is known of the objects of imported samples: the ``most`` that one has, their ``categories`` by
    number, and whether for each the share that is ``visible``.
    """

    most: int
    categories: tuple[str, ...]
    visible: bool = False


@dataclass(frozen=True)
class ImportInfo:
    """What was imported, in the place of spec, recipe and sources; sizes are in pixels.

    ``fit`` is how pictures of other sizes got this one, else ``None``; ``patterns`` are where ``images``,
    ``masks``, ``depths`` and what shows ``instances`` were, ``sha256`` is of names and sizes, ``reading`` is
    how files were read. ``objects`` is ``None`` where nothing tells the objects of a sample apart.
    ``credits`` are the paths of what is stated of some pictures.
    """

    samples: int
    height: int
    width: int
    fit: Literal["crop", "stretch"] | None
    chunk: int
    patterns: Mapping[str, str | None]
    files: int
    sha256: str
    left_out: int
    reading: Reading = AS_USUAL
    layout: ImportLayout = "files"
    objects: ImportedObjects | None = None
    credits: tuple[str, ...] = ()

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> ImportInfo:
        """What :meth:`to_dict` gave, which the schema has been checked to allow."""
        reading, objects = Reading(**section.get("reading", {})), section.get("objects")
        if objects is not None:
            objects = ImportedObjects(**{**objects, "categories": tuple(objects["categories"])})
        credits = tuple(section.get("credits", ()))
        return cls(**{**section, "reading": reading, "objects": objects, "credits": credits})

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        section = dataclasses.asdict(self) | {"credits": list(self.credits)}
        if self.objects is not None:
            section["objects"]["categories"] = list(self.objects.categories)
        return section
