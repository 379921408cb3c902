"""Which device made which part of an array of depth, as the document records it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from fgbgpack.document import DeviceInfo


def with_device(
    devices: tuple[DeviceInfo, ...], now: DeviceInfo, there: Iterable[range]
) -> tuple[DeviceInfo, ...]:
    """The devices of a network once ``now``, the last of them, makes all that is not there.

    ``there`` are the samples (or backgrounds) of the shards that the dataset has, in order. One writer at a
    time makes shards, so those that no device is known for are of the device that was the last. That is all
    that a run records, before its first shard: what is killed later leaves nothing to be told.
    """
    runs: dict[DeviceInfo, list[range]] = {dataclasses.replace(one, ranges=None): [] for one in devices}
    for run in there:
        known = (one for one in devices if any(start <= run.start < stop for start, stop in one.ranges or ()))
        maker = next(known, devices[-1] if devices else now)
        runs.setdefault(dataclasses.replace(maker, ranges=None), []).append(run)
    earlier = (
        dataclasses.replace(device, ranges=_joined(made))
        for device, made in runs.items()
        if made and device != now
    )
    return (*earlier, now)


def _joined(runs: Iterable[range]) -> tuple[tuple[int, int], ...]:
    """Runs in order as pairs of start and stop, those that touch as one."""
    pairs: list[tuple[int, int]] = []
    for run in runs:
        start = pairs.pop()[0] if pairs and pairs[-1][1] == run.start else run.start
        pairs.append((start, run.stop))
    return tuple(pairs)
