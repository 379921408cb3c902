"""Which device made which part of an array of depth, as the document records it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from fgbgpack.document import DeviceInfo, NetworkDepthInfo


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
        dataclasses.replace(device, ranges=joined(made))
        for device, made in runs.items()
        if made and device != now
    )
    return (*earlier, now)


def makers_of(depth: NetworkDepthInfo) -> tuple[DeviceInfo, ...]:
    """The devices that have seen samples, and not only backgrounds."""
    return depth.devices if depth.guide is None else depth.guide.devices


def with_makers(
    devices: tuple[DeviceInfo, ...], made: Iterable[tuple[DeviceInfo, range]], samples: int
) -> tuple[DeviceInfo, ...]:
    """The devices of a network that has seen so many samples, where several have made at once what else the
    last one had: ``made`` are runs of samples in order, each with the device that made it. What is of no
    other is still of the last one.
    """
    if not devices:
        return ()
    *earlier, last = devices
    runs: dict[DeviceInfo, list[range]] = {}
    for device, run in made:
        runs.setdefault(dataclasses.replace(device, ranges=None), []).append(run)
    others = [dataclasses.replace(one, ranges=joined(of_one)) for one, of_one in runs.items() if one != last]
    if others and last not in runs and sum(len(run) for of_one in runs.values() for run in of_one) == samples:
        last = dataclasses.replace(others.pop(), ranges=None)
    return (*earlier, *others, last)


def joined(runs: Iterable[range]) -> tuple[tuple[int, int], ...]:
    """Runs in order as pairs of start and stop, those that touch as one."""
    pairs: list[tuple[int, int]] = []
    for run in runs:
        start = pairs.pop()[0] if pairs and pairs[-1][1] == run.start else run.start
        pairs.append((start, run.stop))
    return tuple(pairs)
