"""What a dataset takes on one core or on a thousand machines: objects, requests, memory, time and money.

One formula, which docs/scale.md derives. Rates and sizes are measured on this machine; what cannot be known
before there is a cluster is assumed, and can be given.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fgbgpack.errors import SpecError
from fgbgpack.sources.names import counted
from fgbgpack.spec import MOST_SAMPLES

#: Before an object is put, a store with conditional writes is asked for its version and for the root's.
_HEADS_PER_PUT = 2
#: Requests for each object once more, when all are there: its size and its end.
_CHECKS_PER_OBJECT = 2
#: Requests of one process that are on their way together while it looks at all objects.
_TOGETHER = 128
#: Small objects that the client puts at a time.
_PUT_TOGETHER = 16
#: Keys in one answer to a request that lists, and how often all of them are listed.
_KEYS_PER_LIST, _LISTINGS = 1000, 3
#: Seconds of Python for each object that the client looks at, and bytes that it keeps of it; measured.
_LOOK_SECONDS, _KEPT_BYTES = 0.0003, 500
#: The checksum of a chunk in the manifest, and what the document says of each part of that.
_CHECKSUM_BYTES, _PART_CHECKSUMS, _PART_TEXT = 4, 1 << 16, 16
#: A process with all that composes: Python, NumPy, Numba's kernels, Zarr.
_PROCESS_BYTES = 250_000_000
#: The metadata of an array, in the root.
_METADATA_TEXT = 1300

#: From here on something is said.
_LARGE_DOCUMENT, _LARGE_OPENING, _LARGEST_PUT = 16_000_000, 2_000_000_000, 5_000_000_000
_MANY_OBJECTS = 3_000_000


@dataclass(frozen=True)
class Assumptions:
    """What is assumed of machines, of the store and of prices. ``None``: as this machine and the place of the
    dataset are, and no price.

    Attributes:
        core_speed: A core's speed, relative to one of this machine.
        start_seconds: Until a worker has begun: Python, imports, the sources; 5 on a cluster.
        task_seconds: What client and scheduler need for one shard, during which no other begins; 0.0025 on a
            cluster.
        request_seconds: Until the store has answered a small request; 0.03 for a URL.
        store_mb_per_second: Megabytes a second that one worker encodes into a shard and writes; 60 for a URL,
            700 for a folder.
        price_core_hour: Of one core for an hour.
        price_1000_puts: Of 1,000 requests that put or list.
        price_1000_gets: Of 1,000 requests that read.
        price_gb_month: Of a gigabyte (10^9 bytes) stored for a month.
    """

    core_speed: float = 1.0
    start_seconds: float | None = None
    task_seconds: float | None = None
    request_seconds: float | None = None
    store_mb_per_second: float | None = None
    price_core_hour: float | None = None
    price_1000_puts: float | None = None
    price_1000_gets: float | None = None
    price_gb_month: float | None = None

    @classmethod
    def names(cls) -> list[str]:
        """What they are called on the command line."""
        return [field.name.replace("_", "-") for field in dataclasses.fields(cls)]

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Assumptions:
        """Those of ``NAME=VALUE`` texts; SpecError, ``assumption-invalid``, with a line for each problem."""
        found: dict[str, float] = {}
        problems = []
        for text in texts:
            name, _, value = text.partition("=")
            try:
                number = float(value)
            except ValueError:
                number = math.nan
            if name not in cls.names():
                problems.append(
                    f"{text!r}: expected NAME=VALUE, where NAME is one of {', '.join(cls.names())}"
                )
            elif not 0 <= number < math.inf or (number == 0 and not name.endswith("seconds")):
                problems.append(f"{text!r}: expected a number above 0 as value")
            else:
                found[name.replace("-", "_")] = number
        if problems:
            raise SpecError("These assumptions cannot be used:", problems, code="assumption-invalid")
        return cls(**found)

    def on(self, *, cluster: bool, remote: bool) -> Assumptions:
        """The same with a number in the place of each ``None`` but prices."""
        usual = {
            "start_seconds": 5.0 if cluster else 0.0,
            "task_seconds": 0.0025 if cluster else 0.0,
            "request_seconds": 0.03 if remote else 0.0,
            "store_mb_per_second": 60.0 if remote else 700.0,
        }
        return dataclasses.replace(
            self, **{name: value for name, value in usual.items() if getattr(self, name) is None}
        )


@dataclass(frozen=True)
class StageWork:
    """The shards of one stage, as many samples each, and what one core makes of them.

    Attributes:
        name: What progress calls the stage.
        samples: Samples, or whatever else the stage counts.
        per_shard: Samples of a shard.
        objects: Objects that a shard is written as.
        chunks: Chunks of a shard, in all its arrays.
        bytes_per_sample: Encoded bytes of a sample.
        rate: Samples that one core of this machine makes and encodes in a second.
        memory: Bytes that making a shard takes.
    """

    name: str
    samples: int
    per_shard: int
    objects: int
    chunks: int
    bytes_per_sample: float
    rate: float
    memory: float

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return -(-self.samples // self.per_shard)

    @property
    def shard_bytes(self) -> float:
        """Encoded bytes of a whole shard."""
        return self.bytes_per_sample * min(self.per_shard, self.samples)


@dataclass(frozen=True)
class Fixed:
    """What does not depend on the workers.

    Attributes:
        seconds: Until the first shard can begin: the pictures are decoded, the depth of backgrounds is there.
        objects: Chunks of placements, sources, and depth of backgrounds.
        metadata_objects: The metadata of arrays and groups.
        writing_seconds: What making these takes.
        stored_bytes: Their bytes.
        source_bytes: Resized sources in memory.
        document_bytes: The JSON of the sources in the document.
        reading_bytes_per_sample: What is in memory of each sample once a dataset is read.
    """

    seconds: float
    objects: int
    metadata_objects: int
    writing_seconds: float
    stored_bytes: float
    source_bytes: int
    document_bytes: int
    reading_bytes_per_sample: int


@dataclass(frozen=True)
class StageScale:
    """One stage at work: its shards, the seconds of one of them on a core, and the seconds of all."""

    name: str
    shards: int
    samples_per_shard: int
    bytes_per_shard: int
    shard_seconds: float
    seconds: float


@dataclass(frozen=True)
class Money:
    """What is to be paid, in the unit of the prices given; ``None`` where there was none.

    Attributes:
        cores: For the cores, from the first start to the end.
        requests: For requests that put, list and read.
        month: For each month that the dataset is kept.
    """

    cores: float | None
    requests: float | None
    month: float | None


@dataclass(frozen=True)
class Scale:
    """What making a dataset takes with a number of workers of one core each.

    Attributes:
        workers: Cores.
        is_cluster: Whether that are more than this machine has.
        stages: The stages, in order.
        objects: Files of a folder, or objects of a store.
        puts: Requests that put or list, of a store at a URL.
        gets: Requests that read while it is made.
        manifest_bytes: The checksums of all chunks.
        document_bytes: The metadata of the root, which is what opening reads.
        opening_bytes: In memory once samples were read from all over: manifest, document and placements.
        client_bytes: Memory of the process that hands out shards and finishes.
        worker_bytes: Memory of a worker.
        start_seconds: Until the first shard is begun.
        finish_seconds: From the last shard to the end.
        seconds: All together.
        core_hours: Hours of all cores, where the workers are there only while there is work for them.
        efficiency: The part of the cores' time in which samples are made.
        money: What that costs.
        limits: What cannot be done so, or will be in the way, a line each.
    """

    workers: int
    is_cluster: bool
    stages: tuple[StageScale, ...]
    objects: int
    puts: int
    gets: int
    manifest_bytes: int
    document_bytes: int
    opening_bytes: int
    client_bytes: int
    worker_bytes: int
    start_seconds: float
    finish_seconds: float
    seconds: float
    core_hours: float
    efficiency: float
    money: Money
    limits: tuple[str, ...]


def scale_of(
    samples: int,
    works: Sequence[StageWork],
    fixed: Fixed,
    workers: int,
    assumed: Assumptions,
    *,
    cluster: bool,
    remote: bool,
) -> Scale:
    """What making ``samples`` takes; ``assumed`` has no ``None`` but prices."""
    stages = tuple(_stage_scale(work, workers, assumed, cluster=cluster, remote=remote) for work in works)
    shard_objects = sum(work.shards * work.objects for work in works)
    checksums = sum(work.shards * work.chunks for work in works) + fixed.objects
    manifest, parts = checksums * _CHECKSUM_BYTES, -(-checksums // _PART_CHECKSUMS)
    objects = shard_objects + fixed.objects + fixed.metadata_objects + parts
    document = fixed.document_bytes + fixed.metadata_objects * _METADATA_TEXT + parts * _PART_TEXT
    stored = fixed.stored_bytes + manifest + sum(work.samples * work.bytes_per_sample for work in works)

    request = _number(assumed.request_seconds)
    put = request * (1 + (_HEADS_PER_PUT if remote else 0))
    lists = _LISTINGS * -(-shard_objects // _KEYS_PER_LIST)
    small = (objects - shard_objects) * put / _PUT_TOGETHER
    start = fixed.seconds + fixed.writing_seconds + small + _number(assumed.start_seconds)
    looking = shard_objects * (_LOOK_SECONDS + _CHECKS_PER_OBJECT * request / _TOGETHER) + lists * request
    finish = looking + manifest / (1e6 * _number(assumed.store_mb_per_second))
    seconds = start + sum(stage.seconds for stage in stages) + finish
    making = sum(work.samples / (work.rate * assumed.core_speed) for work in works)
    # Workers are started once there is work for them, and end with it.
    busy = _number(assumed.start_seconds) + sum(stage.seconds for stage in stages)
    core_hours = (workers * busy + (seconds - busy if cluster else 0.0)) / 3600
    opening = manifest + document + fixed.reading_bytes_per_sample * samples
    worker = _PROCESS_BYTES + fixed.source_bytes + max((work.memory for work in works), default=0)
    puts = objects + lists if remote else 0
    gets = objects * _HEADS_PER_PUT + shard_objects * _CHECKS_PER_OBJECT if remote else 0
    found = Scale(
        workers=workers,
        is_cluster=cluster,
        stages=stages,
        objects=objects,
        puts=puts,
        gets=gets,
        manifest_bytes=manifest,
        document_bytes=document,
        opening_bytes=opening,
        client_bytes=round(_PROCESS_BYTES + fixed.source_bytes + shard_objects * _KEPT_BYTES + manifest),
        worker_bytes=round(worker),
        start_seconds=start,
        finish_seconds=finish,
        seconds=seconds,
        core_hours=core_hours,
        efficiency=min(1.0, making / (core_hours * 3600)) if core_hours else 0.0,
        money=_money(core_hours, puts, gets, stored, assumed),
        limits=(),
    )
    return dataclasses.replace(found, limits=tuple(_limits(found, samples, works)))


def seconds_of_all(shards: int, workers: int, each: float) -> float:
    """How long workers take that get one shard after the other, of about the same seconds ``each``.

    At the end half of them, on average, have nothing left to do for as long as one shard takes.
    """
    if shards <= workers:
        return each if shards else 0.0
    return each * (shards / workers + (workers - 1) / (2 * workers))


def _stage_scale(
    work: StageWork, workers: int, assumed: Assumptions, *, cluster: bool, remote: bool
) -> StageScale:
    samples = min(work.per_shard, work.samples)
    put = _number(assumed.request_seconds) * (1 + (_HEADS_PER_PUT if remote else 0))
    making = samples / (work.rate * assumed.core_speed)
    writing = work.objects * put + work.shard_bytes / (1e6 * _number(assumed.store_mb_per_second))
    each = making + writing
    if remote and not cluster:
        # Of two threads for each core one makes a shard while the other one's is on its way.
        each = max(making, each / 2)
    # The last shard is shorter than the others, where it is the only one it is all.
    shards = work.samples / samples if work.shards > workers else work.shards
    handed_out = work.shards * _number(assumed.task_seconds)
    seconds = max(seconds_of_all(math.ceil(shards), workers, each), handed_out)
    return StageScale(work.name, work.shards, samples, round(work.shard_bytes), each, seconds)


def _money(core_hours: float, puts: int, gets: int, stored: float, assumed: Assumptions) -> Money:
    requests = [
        count / 1000 * price
        for count, price in ((puts, assumed.price_1000_puts), (gets, assumed.price_1000_gets))
        if price is not None
    ]
    core_hour, month = assumed.price_core_hour, assumed.price_gb_month
    return Money(
        cores=None if core_hour is None else core_hours * core_hour,
        requests=sum(requests) if requests else None,
        month=None if month is None else stored / 1e9 * month,
    )


def _limits(scale: Scale, samples: int, works: Sequence[StageWork]) -> Iterable[str]:
    if samples > MOST_SAMPLES:
        parts = -(-samples // MOST_SAMPLES)
        yield (
            f"{samples:,} samples are more than the {MOST_SAMPLES:,} of one dataset: make {parts} of "
            f"{math.ceil(samples / parts):,}, each of a part of the backgrounds, and train on their mixture."
        )
    for work, stage in zip(works, scale.stages, strict=True):
        if scale.is_cluster and stage.shards < scale.workers:
            shards = counted(stage.shards, "shard")
            yield f"{work.name}: {shards} for {scale.workers:,} workers, so some wait."
        handed_out = stage.shards / stage.seconds if stage.seconds else 0.0
        ideal = scale.workers / stage.shard_seconds if stage.shard_seconds else 0.0
        if stage.shards > scale.workers and handed_out < 0.8 * ideal:
            yield (
                f"{work.name}: workers wait for the scheduler, which hands out {handed_out:,.0f} shards a "
                "second: use job arrays (--shards), or larger shards."
            )
        if stage.bytes_per_shard > _LARGEST_PUT:
            yield f"{work.name}: a shard is larger than the 5 GB that S3 takes in one request."
    if scale.objects > _MANY_OBJECTS:
        yield (
            f"{scale.objects:,} objects: one client looks at all of them in the end, which takes "
            f"{scale.finish_seconds:,.0f} s. Use larger shards."
        )
    if scale.document_bytes > _LARGE_DOCUMENT:
        yield (
            f"Every reader parses the document, which has {scale.document_bytes:,} bytes: use fewer pictures."
        )
    if scale.opening_bytes > _LARGE_OPENING:
        yield (
            f"A reader of samples from all over holds {scale.opening_bytes / 1e9:,.1f} GB in memory: "
            "checksums, and all placements."
        )


def _number(value: float | None) -> float:
    if value is None:
        raise ValueError("what is assumed has to be known: call Assumptions.on")
    return value
