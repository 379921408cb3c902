"""How a dataset that is already there differs from the one asked for, and how it is removed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from fgbgpack.depth.strategies import Networks
from fgbgpack.document import DEPTH_PARTS, DEPTHS, OWN, DepthInfo, Document, ImportedDepthInfo
from fgbgpack.source_info import SourceInfo, SourcesInfo
from fgbgpack.spec import DatasetSpec, DepthSpec
from fgbgpack.storage.layout import Layout
from fgbgpack.storage.store import DatasetStore

_SHOWN = 5
#: What fields mean that are not given, where that is not "none".
_UNSET = {"samples": "all pairs"}
_CARD_CHANGED = "depth {}'s card: how the network is fed, or what its answer means, has changed"


def differences(existing: Document, new: Document, spec: DatasetSpec, networks: Networks | None) -> list[str]:
    """How a dataset that is there differs from the one asked for, one line each."""
    if existing.spec is None or existing.sources is None or new.sources is None:
        return ["the dataset was imported from pictures, not made of backgrounds and foregrounds"]
    before = {**existing.spec.recipe, "chunk": existing.spec.chunk}
    lines = []
    if existing.is_virtual and not new.is_virtual:
        lines = ["pixels: the dataset is virtual, asked for stored ones (fgbgpack materialize stores them)"]
    elif new.is_virtual and not existing.is_virtual:
        lines = ["pixels: the dataset stores them, asked for a virtual one (fgbgpack virtualize makes one)"]
    lines += [
        f"{field}: the dataset has {said(was, field)}, asked for {said(now, field)}"
        for field, now in {**spec.recipe, "chunk": spec.chunk}.items()
        if (was := before[field]) != now
    ]
    lines += _source_differences("backgrounds", existing.sources.backgrounds, new.sources.backgrounds)
    lines += _source_differences("foregrounds", existing.sources.foregrounds, new.sources.foregrounds)
    if not lines and existing.recipe != new.recipe:
        floors = ", or another network found the floors" if spec.scene.has_floor else ""
        lines.append(
            "the resized pictures differ, perhaps because another version of Pillow resized them, or "
            f"sources.csv says otherwise where foregrounds are cut{floors}"
        )
    if spec.depth is not None and networks is not None:
        if existing.depth is None:
            model = f"{networks.mode} depth by {networks.name}"
            lines.append(f"depth: the dataset has none, asked for {model} (fgbgpack depth adds it)")
        else:
            scale = spec.depth.resolved_scale(spec.height, spec.width, scenes=spec.is_scene)
            lines += depth_differences(existing.depth, spec.depth, networks, scale)
    return lines


def said(value: object, field: str = "") -> object:
    """A value as messages have it."""
    return _UNSET.get(field, "none") if value is None else value


def _source_differences(
    kind: str, before: tuple[SourceInfo, ...], after: tuple[SourceInfo, ...]
) -> list[str]:
    was, now = ({source.name: source for source in sources} for sources in (before, after))
    changed = {name for name in was.keys() & now.keys() if was[name] != now[name]}
    lines = []
    for verb, names in (
        ("are new", now.keys() - was.keys()),
        ("are gone", was.keys() - now.keys()),
        ("have changed", changed),
    ):
        if names:
            shown = ", ".join(sorted(names)[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
            lines.append(f"{kind}: {len(names)} {verb} ({shown})")
    return lines


def with_new_credits(existing: Document, new: Document) -> Document:
    """The document with what is now stated of licences, authors and addresses; unstated ones stay."""
    if existing.sources is None or new.sources is None:
        return existing
    was, now = existing.sources, new.sources
    pairs = ((was.backgrounds, now.backgrounds), (was.foregrounds, now.foregrounds))
    kinds = (after if any(source.has_credit for source in after) else before for before, after in pairs)
    return dataclasses.replace(existing, sources=SourcesInfo(*kinds))


def depth_differences(existing: DepthInfo, depth: DepthSpec, networks: Networks, scale: int) -> list[str]:
    """How the depth that is there, or begun, differs from the one asked for, one line each."""
    guide = networks.guide
    if isinstance(existing, ImportedDepthInfo):
        return [f"depth: the dataset has that of files, asked for {networks.mode} depth by {networks.name}"]
    compared = {
        "mode": (existing.mode, networks.mode),
        "model": (existing.model_name, networks.name),
        "model's file": (existing.sha256, networks.sha256),
        "guide": (existing.guide_name, guide and guide.name),
        "guide's file": (existing.guide and existing.guide.sha256, guide and guide.sha256),
        "scale": (existing.scale, scale),
        "bits": (existing.bits, depth.bits),
        "precision": (existing.precision, depth.precision),
    }
    lines = [
        f"depth {key}: the dataset has {was or 'none'}, asked for {now or 'none'}"
        for key, (was, now) in compared.items()
        if was != now
    ]
    if not lines:
        if is_fed_differently(existing.model or {}, networks.card or {}):
            lines.append(_CARD_CHANGED.format("model"))
        if guide and existing.guide and is_fed_differently(existing.guide.model, guide.card.document):
            lines.append(_CARD_CHANGED.format("guide"))
    return lines


def is_fed_differently(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two cards differ in what feeds the network: texts and addresses may change with a version."""
    return any(before.get(part) != now.get(part) for part in ("input", "guides", "output"))


def layout_differences(store: DatasetStore, layouts: Mapping[str, Layout]) -> list[str]:
    """Which arrays that are there are cut differently from how they would be now, one line each.

    Another version of fgbgpack began them: its shards and ours would not fit together.
    """
    return [
        f"/{array}: the dataset's shards are cut as another version of fgbgpack does (finish it with that)"
        for array, layout in layouts.items()
        if store.layout(array) not in (None, layout)
    ]


def clear(store: DatasetStore, existing: Document | None) -> None:
    """Delete the arrays of a dataset that is there, if there is one.

    Its document stays, saying that it is incomplete: a dataset half deleted is still recognised.
    """
    # A lock keeps other writers away from all other stores.
    store.is_new = store.claims is not None
    if not store.has_lost_document():
        if existing is None:
            return
        store.commit(dataclasses.replace(existing.begun(), depth=None))
    for name in OWN:
        store.delete_below(name)


def clear_depth(store: DatasetStore, document: Document) -> None:
    """Delete depth; the document says so first, so that no old shard is taken for a new one."""
    store.commit(dataclasses.replace(document, complete=False, depth=None))
    for name in DEPTHS:
        store.delete_below(f"{name}/c")
    for name in DEPTH_PARTS:
        store.delete_below(name)
