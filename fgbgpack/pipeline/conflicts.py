"""What may already be where a dataset is to be: how it differs, how it is removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fgbgpack.depth.strategies import Networks
from fgbgpack.spec import DatasetSpec, DepthSpec
from fgbgpack.storage import store as disk
from fgbgpack.storage.layout import Layout
from fgbgpack.storage.store import Keys

#: What is stated of a picture and changes nothing that is made of it.
_CREDIT = ("license", "author", "url")


def differences(
    existing: Mapping[str, Any], new: Mapping[str, Any], spec: DatasetSpec, networks: Networks | None
) -> list[str]:
    """How a dataset that is there differs from the one asked for, one line each."""
    if not disk.has_recipe(existing):
        return ["the dataset was imported from pictures, not made of backgrounds and foregrounds"]
    before = DatasetSpec.from_dict(existing["spec"])
    lines = []
    if disk.is_virtual(existing) and not disk.is_virtual(new):
        lines.append(
            "pixels: the dataset is virtual, asked for stored ones (fgbgpack materialize stores them)"
        )
    elif disk.is_virtual(new) and not disk.is_virtual(existing):
        lines.append(
            "pixels: the dataset stores them, asked for a virtual one (fgbgpack virtualize makes one)"
        )
    lines += [
        f"{field}: the dataset has {was}, asked for {now}"
        for field, now in {**spec.recipe, "chunk": spec.chunk}.items()
        if (was := {**before.recipe, "chunk": before.chunk}[field]) != now
    ]
    for kind in ("backgrounds", "foregrounds"):
        was, now = (
            {source["name"]: _without_credit(source) for source in doc["sources"][kind]}
            for doc in (existing, new)
        )
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
    if spec.depth is not None and networks is not None:
        if existing["depth"] is None:
            asked = f"{networks.mode} depth by {networks.model.name}"
            lines.append(f"depth: the dataset has none, asked for {asked} (fgbgpack depth adds it)")
        else:
            lines += depth_differences(existing["depth"], spec.depth, networks, (spec.height, spec.width))
    return lines


def renew_credits(existing: dict[str, Any], new: Mapping[str, Any]) -> bool:
    """Take over what is stated now of licences, authors and addresses; where nothing is, what was stays.

    Returns:
        Whether that changed the document, which is of the same pictures.
    """
    changed = False
    for kind in ("backgrounds", "foregrounds"):
        was, now = existing["sources"][kind], new["sources"][kind]
        if now != was and any(source != _without_credit(source) for source in now):
            existing["sources"][kind] = now
            changed = True
    return changed


def _without_credit(source: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in source.items() if key not in _CREDIT}


def depth_differences(
    begun: Mapping[str, Any], depth: DepthSpec, networks: Networks, size: tuple[int, int]
) -> list[str]:
    """How the depth that is there, or begun, differs from the one asked for, one line each.

    Args:
        begun: The depth section of the document.
        depth: What is asked for.
        networks: The networks that are asked for.
        size: ``(height, width)`` of the samples.
    """
    model, guide = networks.model, networks.guide
    if begun["mode"] == "imported":
        return [f"depth: the dataset has that of files, asked for {networks.mode} depth by {model.name}"]
    wanted = {
        "mode": networks.mode,
        "model": model.name,
        "model's file": model.sha256,
        "guide": None if guide is None else guide.name,
        "guide's file": None if guide is None else guide.sha256,
        "scale": depth.resolved_scale(*size),
        "bits": depth.bits,
        "precision": depth.precision,
    }
    guided_by = begun["guide"]
    has = {
        "mode": begun["mode"],
        "model": begun["model"]["name"],
        "model's file": begun["sha256"],
        "guide": None if guided_by is None else guided_by["model"]["name"],
        "guide's file": None if guided_by is None else guided_by["sha256"],
        "scale": begun["scale"],
        "bits": begun["bits"],
        "precision": begun["precision"],
    }
    lines = [
        f"depth {key}: the dataset has {has[key] or 'none'}, asked for {wanted[key] or 'none'}"
        for key in has
        if has[key] != wanted[key]
    ]
    if not lines:
        if _fed_otherwise(begun["model"], model.card):
            lines.append(_FED_OTHERWISE.format("model"))
        if guide is not None and _fed_otherwise(guided_by["model"], guide.card):
            lines.append(_FED_OTHERWISE.format("guide"))
    return lines


_FED_OTHERWISE = "depth {}'s card: how the network is fed, or what its answer means, has changed"


def _fed_otherwise(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two cards differ in what feeds the network: texts and addresses may change with a version."""
    return any(before.get(part) != now.get(part) for part in ("input", "guides", "output"))


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
    pixels = {**existing["pixels"], "complete": False}
    disk.write_document(keys, {**existing, "complete": False, "pixels": pixels, "depth": None})
    for name in (disk.IMAGE, disk.MASK, *disk.DEPTHS, disk.NAME, *disk.PLACEMENTS, disk.SOURCES):
        keys.delete_below(name)


def clear_depth(keys: Keys, document: dict[str, Any]) -> None:
    """Delete depth, saying first that there is none: a shard of an earlier model is never taken for new."""
    disk.write_document(keys, {**document, "complete": False, "depth": None})
    for name in disk.DEPTHS:
        keys.delete_below(f"{name}/c")
    keys.delete_below(disk.BACKGROUND_DEPTH)
