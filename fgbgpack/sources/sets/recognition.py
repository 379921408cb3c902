"""Which kind of set a folder holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from fgbgpack.errors import SourceError, SpecError
from fgbgpack.import_info import ImportLayout
from fgbgpack.sources.exported import DOCUMENT, exported_format
from fgbgpack.sources.names import counted
from fgbgpack.sources.pairing import Kind, Pattern, require_one
from fgbgpack.sources.partners import find_partners
from fgbgpack.sources.sample_credits import read_sample_credits
from fgbgpack.sources.sets.coco import coco_files, read_coco
from fgbgpack.sources.sets.exported_folder import exported_tables, read_exported_folder
from fgbgpack.sources.sets.instances import instance_folders, read_instances, with_categories
from fgbgpack.sources.sets.parquet import read_parquet
from fgbgpack.sources.sets.sample_set import Folder, SampleSet
from fgbgpack.sources.sets.tables import table_of
from fgbgpack.sources.sets.yolo import read_yolo, yolo_files

#: The extensions of files that say what objects pictures have.
ANNOTATIONS = (".json", ".yaml", ".yml", ".txt", ".parquet", ".csv")
_READERS: Mapping[str, Callable[[Folder], SampleSet]] = {
    "folder": read_exported_folder,
    "coco": read_coco,
    "yolo": read_yolo,
    "parquet": read_parquet,
}
_MASKS = re.compile(r"(.*[\W_])?(masks?|alphas?|mattes?)", re.IGNORECASE)


def recognised(folder: Folder) -> ImportLayout:
    """What a folder holds: what its document says where it is an export, else ``"files"`` unless there are
    annotations, or pictures of instances.

    Raises SourceError where it holds several, or is an export of a format that is not imported.
    """
    tables = exported_tables(folder)
    exported = exported_format(folder.root) if tables or DOCUMENT in folder.files else None
    if exported == "folder":
        return "folder" if tables else "files"
    found: dict[ImportLayout, str] = {}
    if of_rows := folder.ending(".parquet"):
        found["parquet"] = min(of_rows)
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
    if exported is not None and exported not in _READERS:
        raise SourceError(
            f"{folder.root} is what fgbgpack export --to {exported} wrote, which import does not read: "
            f"export to one of {', '.join(_READERS)}, or say where pictures are with --images and --masks.",
            code="layout-not-imported",
        )
    return next(iter(found), "files")


def read_set(layout: ImportLayout, folder: Folder, *, skip_unmatched: bool) -> SampleSet:
    """The set in a folder, which is of a layout other than ``"files"``."""
    if layout == "instance-masks":
        found = read_instances(folder, skip_unmatched=skip_unmatched)
    else:
        found = _READERS[layout](folder)
    found = _with_credits(_with_depth(found, folder), folder)
    return with_categories(found) if layout == "instance-masks" else found


def _with_credits(found: SampleSet, folder: Folder) -> SampleSet:
    """A set with what is stated of its pictures, in tables too."""
    pictures = found.pairs.files["images"]
    files = pictures if found.tables is None else [table_of(row) for row in pictures]
    credits = read_sample_credits(
        folder.root,
        pictures if found.tables is None else found.pairs.names,
        {path.rpartition("/")[0] for path in files},
        stated=found.credits.of,
        has_categories=found.layout == "instance-masks",
    )
    return replace(found, credits=credits, notices=[*found.notices, *credits.notices])


def _with_depth(found: SampleSet, folder: Folder) -> SampleSet:
    """The samples that have depth, where there is some beside the set. It is that of the sample's name."""
    if "depths" in found.pairs.files or not found.pairs.names or not (places := folder.depth_places):
        return found
    require_one("depths", [place.folder for place in places], str(folder.root))
    given: dict[Kind, Pattern] = {"depths": places[0]}
    if found.tables is None:
        given |= {} if folder.images is None else {"images": Pattern(folder.images)}
    elif places[0].fields:
        expected = "a column or a folder with --from parquet, whose pictures are no files"
        raise SpecError(f"--depths: found {folder.depths!r}, expected {expected}.", code="patterns-differ")
    pairs, kept = find_partners(found.pairs, "depths", folder.depth_files, given, folder=str(folder.root))
    alone = sum(places[0].holds(path) for path in folder.depth_files) - len(kept)
    notices = [f"{counted(alone, 'depth map')} that belong to no sample are left out."] if alone else []
    return replace(found.only(kept, pairs), notices=[*found.notices, *notices])
