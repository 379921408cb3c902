"""What may already be where a dataset is to be: how it differs, how it is removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fgbgpack import dataset as disk
from fgbgpack.dataset import Keys
from fgbgpack.depth import DepthModel
from fgbgpack.plan import Layout
from fgbgpack.spec import DatasetSpec, DepthSpec


def differences(
    existing: Mapping[str, Any], new: Mapping[str, Any], spec: DatasetSpec, model: DepthModel | None
) -> list[str]:
    """How a dataset that is there differs from the one asked for, one line each."""
    before = DatasetSpec.from_dict(existing["spec"])
    lines = [
        f"{field}: the dataset has {was}, asked for {now}"
        for field, now in {**spec.recipe, "chunk": spec.chunk}.items()
        if (was := {**before.recipe, "chunk": before.chunk}[field]) != now
    ]
    for kind in ("backgrounds", "foregrounds"):
        was, now = ({source["name"]: source for source in doc["sources"][kind]} for doc in (existing, new))
        for verb, names in (
            ("are new", now.keys() - was.keys()),
            ("are gone", was.keys() - now.keys()),
            ("have changed", {name for name in was.keys() & now.keys() if was[name] != now[name]}),
        ):
            if names:
                shown = ", ".join(sorted(names)[:5]) + (", ..." if len(names) > 5 else "")
                lines.append(f"{kind}: {len(names)} {verb} ({shown})")
    if not lines and existing["recipe"] != new["recipe"]:
        lines.append("the resized pictures differ, perhaps because another version of Pillow resized them")
    if spec.depth is not None and model is not None:
        if existing["depth"] is None:
            lines.append(f"depth: the dataset has none, asked for {model.name} (fgbgpack depth adds it)")
        else:
            lines += depth_differences(existing["depth"], spec.depth, model, (spec.height, spec.width))
    return lines


def depth_differences(
    begun: Mapping[str, Any], depth: DepthSpec, model: DepthModel, size: tuple[int, int]
) -> list[str]:
    """How the depth that is there, or begun, differs from the one asked for, one line each.

    Args:
        begun: The depth section of the document.
        depth: What is asked for.
        model: The model that is asked for.
        size: ``(height, width)`` of the samples.
    """
    wanted = {
        "depth model": model.name,
        "depth model's file": model.sha256,
        "depth scale": depth.resolved_scale(*size),
        "depth bits": depth.bits,
        "depth precision": depth.precision,
    }
    has = {
        "depth model": begun["model"]["name"],
        "depth model's file": begun["sha256"],
        "depth scale": begun["scale"],
        "depth bits": begun["bits"],
        "depth precision": begun["precision"],
    }
    lines = [
        f"{key}: the dataset has {has[key]}, asked for {wanted[key]}"
        for key in has
        if has[key] != wanted[key]
    ]
    # Of a card only what feeds the network counts: its texts and addresses may change with a version.
    if not lines and any(begun["model"][part] != model.card[part] for part in ("input", "output")):
        lines.append("depth model's card: how the network is fed, or what its answer means, has changed")
    return lines


def layout_differences(keys: Keys, layouts: Mapping[str, Layout]) -> list[str]:
    """Which arrays that are there are cut otherwise than they would be now, one line each.

    Another version of fgbgpack began them: its shards and ours would not fit together.
    """
    return [
        f"/{array}: the dataset's shards are cut as another version of fgbgpack does (finish it with that)"
        for array, layout in layouts.items()
        if disk.stored_layout(keys, array) not in (None, layout)
    ]


def clear(keys: Keys, existing: Mapping[str, Any] | None) -> None:
    """Delete a dataset's arrays.

    Its document stays, saying that it is incomplete: a dataset half deleted is still known for what it is.
    """
    if existing is None:
        return
    disk.write_document(keys, {**existing, "complete": False, "pixels": {"complete": False}, "depth": None})
    for name in (disk.IMAGE, disk.MASK, *disk.DEPTHS, *disk.PLACEMENTS, disk.SOURCES):
        keys.delete_below(name)


def clear_depth(keys: Keys, document: dict[str, Any]) -> None:
    """Delete depth, saying first that there is none: a shard of an earlier model is never taken for new."""
    disk.write_document(keys, {**document, "complete": False, "depth": None})
    for name in disk.DEPTHS:
        keys.delete_below(f"{name}/c")
