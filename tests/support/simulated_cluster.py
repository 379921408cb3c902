"""A cluster and a store in virtual time: nothing sleeps, all that fgbgpack does itself is done for real.

``SimulatedCluster`` is an executor with many workers, some slow, that die now and then; ``SimulatedStore`` is
a Zarr store that answers late and fails sometimes. Both tell a clock how long that takes. The stage, what is
missing, handing out, publishing, noting checksums, and the manifest are fgbgpack's own.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from zarr.abc.store import RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from fgbgpack.document import IMAGE, MANIFEST, MASK, ManifestInfo
from fgbgpack.pipeline.arrays import pixel_arrays
from fgbgpack.pipeline.events import StageName, silent
from fgbgpack.pipeline.executor import Monitor, Threads
from fgbgpack.pipeline.scale import seconds_of_all
from fgbgpack.pipeline.stage import LayoutStage, Product, execute
from fgbgpack.pipeline.workers import Workers
from fgbgpack.storage import sealing
from fgbgpack.storage.codecs import crc32c
from fgbgpack.storage.layout import Layout
from fgbgpack.storage.store import DatasetStore

#: Requests of one process that are on their way together, when it looks at many objects.
_TOGETHER = 128
#: How often a client of a store asks again, and after how many seconds the first time.
_TRIES, _BACKOFF = 10, 0.1
#: Real seconds without a new task after which the first ones count as all that are sent at a time.
_QUIET, _STUCK = 0.2, 20.0


@dataclass(frozen=True)
class Conditions:
    """What a simulated cluster is like. Times are in seconds.

    Attributes:
        workers: Workers of one core each.
        shard_seconds: What making a shard takes, on a usual worker.
        task_seconds: What the scheduler takes to hand out a task.
        request_seconds: Median of the time until the store has answered; it varies log-normally.
        request_spread: Standard deviation of its logarithm.
        faults: The part of the requests that fail, and are made again.
        slow_workers: The part of the workers that take ``slowness`` times as long.
        deaths: The part of the tasks in which the worker dies: before, between or after its objects are put.
        zombies: The part of the dead that only were not heard of, and put their objects all the same.
        restart_seconds: Until another worker is there for one that has died.
        seed: Of all that is random.
    """

    workers: int
    shard_seconds: float
    task_seconds: float = 0.002
    request_seconds: float = 0.03
    request_spread: float = 0.5
    faults: float = 0.01
    slow_workers: float = 0.02
    slowness: float = 3.0
    deaths: float = 0.002
    zombies: float = 0.25
    restart_seconds: float = 30.0
    seed: int = 0


class Clock:
    """How long what is done now takes, in virtual seconds, and what is counted."""

    def __init__(self, conditions: Conditions) -> None:
        self.conditions = conditions
        self.rng = np.random.default_rng(conditions.seed)
        self.spent = 0.0
        self.counts: Counter[str] = Counter()

    def request(self, kind: str) -> None:
        """A request is made, again where it fails."""
        one = self.conditions
        for attempt in range(_TRIES):
            self.counts[kind] += 1
            self.spent += one.request_seconds * float(np.exp(self.rng.normal(0.0, one.request_spread)))
            if self.rng.random() >= one.faults:
                return
            self.counts["faults"] += 1
            self.spent += _BACKOFF * 2**attempt
        raise OSError("the store does not answer")


class _DiedError(BaseException):
    """A worker has died while it put an object."""


class Numbers(LayoutStage):
    """A stage whose chunks hold their own numbers: image and mask of shards that are made in no time."""

    name: ClassVar[StageName] = "samples"

    def __init__(self, shards: int, chunks: int) -> None:
        shape = (shards * chunks, 1, 1)
        mask = Layout(shape, (1, 1, 1), (chunks, 1, 1))
        self.layouts = {IMAGE: Layout((*shape, 3), (1, 1, 1, 3), (chunks, 1, 1, 3)), MASK: mask}
        super().__init__(self.layouts)

    def values(self, shard: int) -> dict[str, bytes]:
        """The objects of a shard."""
        count = self.layouts[IMAGE].grid[0]
        numbers = np.arange(shard * count, (shard + 1) * count, dtype="<u4").view("S4")
        texts = [number.ljust(4, b"\0") for number in numbers.tolist()]
        return self.joined(
            shard,
            {
                array: [body + crc32c(body) for text in texts if (body := kind + text)]
                for array, kind in _KINDS
            },
        )

    def produce(self, shard: int, monitor: Monitor) -> Product:
        """As :meth:`fgbgpack.pipeline.stage.Stage.produce`."""
        values = self.values(shard)
        monitor.advance(self.size(shard))
        return Product(values)


_KINDS = ((IMAGE, b"image"), (MASK, b"mask"))


class SimulatedStore(Store):
    """A store that holds the objects of a stage, of which it keeps only the keys, and small others.

    It is pickled as its number: all copies in a process are one.
    """

    _all: ClassVar[list[SimulatedStore]] = []

    def __init__(self, stage: Numbers, clock: Clock) -> None:
        super().__init__(read_only=False)
        self._is_open = True
        self.stage, self.clock = stage, clock
        #: How often each shard of each array was put.
        self.put = {array: np.zeros(stage.layouts[IMAGE].shards, np.uint8) for array in (IMAGE, MASK)}
        self.small: dict[str, bytes] = {}
        #: How many more objects may be put before the worker dies; ``None`` where it does not.
        self.puts_to_live: int | None = None
        self._last: tuple[int, dict[str, bytes]] | None = None
        self._number = len(self._all)
        self._all.append(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _store_of, (self._number,)

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def _shard(self, key: str) -> tuple[str, int] | None:
        path, _, rest = key.partition("/c/")
        return (path, int(rest.partition("/")[0])) if path in self.put and rest else None

    def _value(self, key: str) -> bytes | None:
        shard = self._shard(key)
        if shard is None:
            return self.small.get(key)
        path, number = shard
        if not self.put[path][number]:
            return None
        if self._last is None or self._last[0] != number:
            self._last = number, self.stage.values(number)
        return self._last[1][key]

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: Any = None
    ) -> Buffer | None:
        self.clock.request("GET")
        value = self._value(key)
        if value is None:
            return None
        if isinstance(byte_range, SuffixByteRequest):
            value = value[-byte_range.suffix :]
        elif isinstance(byte_range, RangeByteRequest):
            value = value[byte_range.start : byte_range.end]
        elif byte_range is not None:
            value = value[byte_range.offset :]
        return default_buffer_prototype().buffer.from_bytes(value)

    async def getsize(self, key: str) -> int:
        self.clock.request("HEAD")
        value = self._value(key)
        if value is None:
            raise FileNotFoundError(key)
        return len(value)

    async def set(self, key: str, value: Buffer) -> None:
        if self.puts_to_live is not None:
            if not self.puts_to_live:
                raise _DiedError
            self.puts_to_live -= 1
        self.clock.request("PUT")
        shard = self._shard(key)
        if shard is None:
            # What a server holds is not to count as memory of the client.
            self.small[key] = b"" if key.startswith(MANIFEST) else value.to_bytes()
            return
        path, number = shard
        self.put[path][number] += 1
        if value.to_bytes() != self._value(key):
            raise AssertionError(f"{key} is put with other bytes than it has")

    async def exists(self, key: str) -> bool:
        self.clock.request("HEAD")
        return self._value(key) is not None

    async def delete(self, key: str) -> None:
        raise NotImplementedError

    async def get_partial_values(self, prototype: BufferPrototype, key_ranges: Iterable[Any]) -> list[Any]:
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    def list(self) -> AsyncIterator[str]:
        return self.list_prefix("")

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        found = [key for key in self.small if key.startswith(prefix)]
        for path, layout in self.stage.layouts.items():
            if f"{path}/c/".startswith(prefix) or prefix == f"{path}/c/":
                found += [
                    f"{path}/{layout.key(number)}" for number in np.flatnonzero(self.put[path]).tolist()
                ]
        for number, key in enumerate(found):
            if number % 1000 == 0:
                self.clock.request("LIST")
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        self.clock.request("LIST")
        below = {
            key[len(prefix) :].strip("/").partition("/")[0] for key in self.small if key.startswith(prefix)
        }
        for name in sorted(below):
            yield name

    @property
    def supports_writes(self) -> bool:
        return True

    @property
    def supports_deletes(self) -> bool:
        return False

    @property
    def supports_listing(self) -> bool:
        return True


def _store_of(number: int) -> SimulatedStore:
    return SimulatedStore._all[number]


@dataclass
class _Task:
    future: Future[Any]
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


class SimulatedCluster(Executor):
    """Workers in virtual time. ``tasks`` will be submitted, some at a time.

    A thread does the tasks in the order in which the workers would, one after the other, and gives a result
    only when all are submitted that the client sends at a time: so all is the same each time.
    """

    def __init__(self, store: SimulatedStore, tasks: int) -> None:
        self._store, self._clock, self._tasks = store, store.clock, tasks
        self._max_workers = self._clock.conditions.workers
        one = self._clock.conditions
        self._speed = np.where(self._clock.rng.random(one.workers) < one.slow_workers, one.slowness, 1.0)
        self._changed = threading.Condition()
        self._waiting: deque[_Task] = deque()
        self._submitted = self._completed = self._most = 0
        self._driver: threading.Thread | None = None
        self._error: BaseException | None = None
        self.now = 0.0

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **_: Any) -> Future[Any]:
        """As of any executor."""
        task = _Task(Future(), function, arguments)
        with self._changed:
            self._waiting.append(task)
            self._submitted += 1
            self._changed.notify_all()
        if self._driver is None:
            self._driver = threading.Thread(target=self._drive, name="simulated-cluster")
            self._driver.start()
        return task.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the thread, once all tasks are done."""
        if self._driver is not None:
            self._driver.join()

    @property
    def most_sent(self) -> int:
        """The most tasks that were with the cluster at a time."""
        return self._most

    # --- the thread --------------------------------------------------------------------------------

    def _drive(self) -> None:
        try:
            self._work()
        except BaseException as exc:
            with self._changed:
                left = list(self._waiting)
            for task in left:
                task.future.set_exception(exc)
            raise

    def _work(self) -> None:
        one = self._clock.conditions
        idle = deque(range(one.workers))
        # When, which of those of one moment, on which worker, which task ends and what it gives: none where
        # the worker has started again.
        events: list[tuple[float, int, int, _Task | None, Any]] = []
        scheduler, number = 0.0, 0
        self._wait_for_client()
        while self._completed < self._tasks:
            while self._waiting and idle:
                worker, task = idle.popleft(), self._waiting.popleft()
                scheduler = max(self.now, scheduler) + one.task_seconds
                seconds, result = self._attempt(task, worker)
                number += 1
                heapq.heappush(events, (scheduler + seconds, number, worker, task, result))
            self.now, _, worker, ended, result = heapq.heappop(events)
            if ended is not None and result is _DiedError:
                self._clock.counts["deaths"] += 1
                number += 1
                heapq.heappush(events, (self.now + one.restart_seconds, number, worker, None, None))
                self._waiting.appendleft(ended)
                continue
            idle.append(worker)
            if ended is None:
                continue
            self._completed += 1
            if isinstance(result, BaseException):
                ended.future.set_exception(result)
            else:
                ended.future.set_result(result)
            self._wait_for_client()

    def _attempt(self, task: _Task, worker: int) -> tuple[float, Any]:
        """The seconds that a task takes on a worker, and what it gives, or that the worker dies meanwhile."""
        clock, one = self._clock, self._clock.conditions
        dies = clock.rng.random() < one.deaths
        is_zombie = dies and clock.rng.random() < one.zombies
        making = one.shard_seconds * self._speed[worker] * float(np.exp(clock.rng.normal(0.0, 0.1)))
        self._store.puts_to_live = int(clock.rng.integers(0, 3)) if dies and not is_zombie else None
        clock.spent = 0.0
        try:
            result = task.function(*task.arguments)
        except _DiedError:
            result = _DiedError
        except Exception as exc:
            result = exc
        finally:
            self._store.puts_to_live = None
        if dies:
            return float(clock.rng.random()) * (making + clock.spent), _DiedError
        return float(making) + clock.spent, result

    def _wait_for_client(self) -> None:
        """Until as many tasks are submitted as the client sends at a time."""
        with self._changed:
            if not self._most:
                before = -1
                while before != self._submitted:
                    before = self._submitted
                    self._changed.wait_for(lambda: self._submitted == self._tasks, timeout=_QUIET)
                self._most = self._submitted

            def all_sent() -> bool:
                return self._submitted >= min(self._tasks, self._completed + self._most)

            if not self._changed.wait_for(all_sent, timeout=_STUCK):
                raise TimeoutError("the client sends no more tasks")


@dataclass(frozen=True)
class Outcome:
    """What a simulated run took.

    Attributes:
        seconds: Virtual seconds from the first task to the last.
        ideal: What the same takes by the formula, without faults, deaths and slow workers.
        looking_seconds: Virtual seconds of the client's own requests, before and after.
        client_seconds: Real processor seconds of the thread that hands out tasks and takes what they give.
        looking_cpu: Real processor seconds for finding what is missing, before and after.
        manifest_cpu: Real processor seconds for the manifest.
        most_sent: The most tasks that were with the cluster at a time.
        counts: Requests by kind, faults, and deaths, while tasks run.
        put: How often each shard of each array was put.
        manifest: What the document would say of the manifest.
    """

    seconds: float
    ideal: float
    looking_seconds: float
    client_seconds: float
    looking_cpu: float
    manifest_cpu: float
    most_sent: int
    counts: Counter[str]
    put: Mapping[str, Any]
    manifest: ManifestInfo


class _Watched(Numbers):
    """A stage that measures how long it takes to find what is missing."""

    def __init__(self, shards: int, chunks: int, clock: Clock) -> None:
        super().__init__(shards, chunks)
        self._clock = clock
        self.seconds = self.cpu = self.own_cpu = 0.0

    def missing(self, store: DatasetStore) -> list[int]:
        """As of any stage."""
        counts, start, own_start = Counter(self._clock.counts), time.process_time(), time.thread_time()
        self._clock.spent = 0.0
        found = super().missing(store)
        self.cpu += time.process_time() - start
        self.own_cpu += time.thread_time() - own_start
        self.seconds += self._clock.spent / _TOGETHER
        self._clock.counts = counts
        return found


def simulate(shards: int, chunks: int, conditions: Conditions) -> Outcome:
    """Make a dataset of so many shards of image and mask, of so many chunks each, in virtual time."""
    clock = Clock(conditions)
    stage = _Watched(shards, chunks, clock)
    values = SimulatedStore(stage, clock)
    store = DatasetStore(values, "simulated")
    store.declare(*pixel_arrays(stage.layouts))
    clock.counts.clear()
    cluster = SimulatedCluster(values, shards)
    start = time.thread_time()
    written = execute(stage, store, Workers(cluster, Threads(1)), silent)
    client_seconds = time.thread_time() - start - stage.own_cpu
    cluster.shutdown()
    assert written == stage.total
    counts = Counter(clock.counts)
    start = time.process_time()
    manifest = sealing.manifest_for(store, _Told((IMAGE, MASK)))
    manifest_cpu = time.process_time() - start
    assert manifest is not None
    requests = (counts["GET"] + counts["PUT"] + counts["HEAD"] - counts["faults"]) / shards
    answer = conditions.request_seconds * float(np.exp(conditions.request_spread**2 / 2))
    each = conditions.shard_seconds + requests * answer
    return Outcome(
        seconds=cluster.now,
        ideal=max(seconds_of_all(shards, conditions.workers, each), shards * conditions.task_seconds),
        looking_seconds=stage.seconds,
        client_seconds=client_seconds,
        looking_cpu=stage.cpu,
        manifest_cpu=manifest_cpu,
        most_sent=cluster.most_sent,
        counts=counts,
        put=values.put,
        manifest=manifest,
    )


@dataclass(frozen=True)
class _Told:
    """What a manifest asks of a document."""

    whole_arrays: tuple[str, ...]
