"""Which kind of set a folder holds."""

from __future__ import annotations

import re

from fgbgpack.errors import SourceError
from fgbgpack.import_info import ImportLayout
from fgbgpack.sources.sets.coco import coco_files, read_coco
from fgbgpack.sources.sets.instances import instance_folders, read_instances
from fgbgpack.sources.sets.parquet import read_parquet
from fgbgpack.sources.sets.sample_set import Folder, SampleSet
from fgbgpack.sources.sets.yolo import read_yolo, yolo_files

#: The extensions of files that say what objects pictures have.
ANNOTATIONS = (".json", ".yaml", ".yml", ".txt", ".parquet")
_MASKS = re.compile(r"(.*[\W_])?(masks?|alphas?|mattes?)", re.IGNORECASE)


def recognised(folder: Folder) -> ImportLayout:
    """What a folder holds: ``"files"`` unless there are annotations, or pictures of instances.

    Raises SourceError where it holds several.
    """
    found: dict[ImportLayout, str] = {}
    if tables := folder.ending(".parquet"):
        found["parquet"] = min(tables)
    if files := coco_files(folder):
        found["coco"] = files[0]
    if files := yolo_files(folder):
        found["yolo"] = files[0]
    pictures, instances = instance_folders(folder, masks=False)
    if pictures and instances:
        found["instance-masks"] = f"{instances[0]}/"
    tops = dict.fromkeys(path.partition("/")[0] for path in folder.pictures if "/" in path)
    masks = [top for top in tops if _MASKS.fullmatch(top)]
    if found and masks and "instance-masks" not in found:
        found["files"] = f"{masks[0]}/"
    if len(found) > 1:
        raise SourceError(
            f"{folder.root} can be imported in several ways: say which with --from.",
            [f"--from {layout}: {place}" for layout, place in found.items()],
            code="layout-ambiguous",
        )
    return next(iter(found), "files")


def read_set(layout: ImportLayout, folder: Folder, *, skip_unmatched: bool) -> SampleSet:
    """The set in a folder, which is of a layout other than ``"files"``."""
    if layout == "coco":
        return read_coco(folder)
    if layout == "yolo":
        return read_yolo(folder)
    if layout == "parquet":
        return read_parquet(folder)
    return read_instances(folder, skip_unmatched=skip_unmatched)
