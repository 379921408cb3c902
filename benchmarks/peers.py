"""The same samples in other formats, each read as its own documentation advises, through a DataLoader.

    python benchmarks/peers.py [--quick] [--only NAME ...] [--pictures DIR] [--install]

``make bench-peers`` runs it in an environment of its own, with ``--install``. Every format is written once,
to bench-data/peers, with all three arrays exactly as the dataset has them. Each is read in a process of its
own, its files in the page cache: shuffled, in batches of 64, with 0 and with 2 workers, epoch after epoch,
the start of each epoch included. All take turns, twice, and the better time counts. What cannot be installed
or run is listed with the reason. Remove bench-data/peers to have everything made anew.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from bench import ROOT, in_words, machine, pictures_in, say, some_of, table
from formats import BATCH, PEERS, Peer, Samples, Stored

from fgbgpack import DatasetSpec, create

WORKERS = (0, 2)
#: 5 backgrounds with 47 foregrounds and 40 placements are 9,400 samples: 0.9 GB as they are in memory.
BACKGROUNDS = 5


@dataclass
class Outcome:
    """What a format takes and how fast it is read, or why that is not known."""

    name: str
    how: str
    bytes: float = 0.0
    rates: dict[str, float] = dataclasses.field(default_factory=dict)
    failed: str = ""


def install(peer: type[Peer]) -> str:
    """Install what a format needs, as the extra ``peers`` lists it. Returns what went wrong, if anything."""
    listed = [line.partition(";")[0].strip() for line in requires("fgbgpack") or () if "peers" in line]
    for package in peer.packages:
        if is_installed(package):
            continue
        wanted = [line for line in listed if line.startswith(package)] or [package]
        say(f"Installing {wanted[0]}")
        command = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *wanted]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            return f"{package} cannot be installed: {last_line(done.stderr)}"
    return ""


def is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def last_line(text: str) -> str:
    return ([line.strip() for line in text.splitlines() if line.strip()] or ["no reason was given"])[-1]


def write(peer: Peer) -> None:
    """Store all samples: aside, then under the name that counts."""
    aside = peer.path.with_name(f"part-{peer.path.name}")
    if aside.is_dir():
        shutil.rmtree(aside)
    aside.unlink(missing_ok=True)
    peer.write(aside)
    aside.rename(peer.path)


def rate(peer: Peer, workers: int, seconds: float) -> float:
    """Samples a second, after an epoch, or a while, that is not measured."""
    loader = peer.loader(workers)
    start = time.perf_counter()
    for number, batch in enumerate(loader):
        if not number:
            peer.samples.check(batch)
        if time.perf_counter() - start > seconds:
            break
    samples, start = 0, time.perf_counter()
    while True:
        for batch in loader:
            samples += len(batch["index"])
            if (passed := time.perf_counter() - start) >= seconds:
                return samples / passed


def in_own_process(job: str, peer: type[Peer], folder: Path, *more: str) -> str:
    """Have a fresh process do something with a format.

    Returns:
        The last line that it printed.

    Raises:
        RuntimeError: It failed; the message is the last line that it said.
    """
    command = [sys.executable, str(Path(__file__).resolve()), "--job", job, peer.__name__, str(folder), *more]
    environment = os.environ | {"LITDATA_DISABLE_VERSION_CHECK": "1", "TOKENIZERS_PARALLELISM": "false"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    except subprocess.TimeoutExpired as exc:
        raise RuntimeError("it takes more than 10 minutes") from exc
    if done.returncode:
        raise RuntimeError(last_line(done.stderr))
    return last_line(done.stdout)


def do_job(job: str, name: str, folder: str, *more: str) -> None:
    """The other end of ``in_own_process``."""
    (kind,) = (peer for peer in PEERS if peer.__name__ == name)
    peer = kind(Samples(Path(folder)))
    if job == "write":
        write(peer)
    else:
        workers, seconds = more
        print(rate(peer, int(workers), float(seconds)))


def prepare(peer: type[Peer], folder: Path, *, may_install: bool) -> Outcome:
    """Install what a format needs, and store the samples."""
    outcome, stored = Outcome(peer.name, peer.how), peer(Samples(folder))
    if may_install:
        outcome.failed = install(peer)
    missing = [package for package in peer.packages if not is_installed(package)]
    if missing and not outcome.failed:
        outcome.failed = f"not installed: {', '.join(missing)}"
    if not outcome.failed:
        try:
            if not stored.path.exists():
                say(f"Writing: {peer.name}")
                in_own_process("write", peer, folder)
            outcome.bytes = stored.bytes() / len(stored.samples)
        except RuntimeError as exc:
            outcome.failed = f"failed to write: {exc}"
    return outcome


def read(peer: type[Peer], outcome: Outcome, folder: Path, seconds: float) -> None:
    """Read a format with each number of workers; the best of several times counts."""
    for workers in WORKERS:
        if outcome.failed:
            return
        say(f"Reading: {peer.name}, {workers} workers")
        try:
            found = float(in_own_process("read", peer, folder, str(workers), str(seconds)))
        except RuntimeError as exc:
            outcome.failed = f"failed with {workers} workers: {exc}"
        else:
            outcome.rates[str(workers)] = max(found, outcome.rates.get(str(workers), 0))


def lines_of(outcomes: list[Outcome]) -> str:
    ours = next((one for one in outcomes if one.name == Stored.name), None)
    header = [
        "",
        "bytes a sample",
        *(f"{n} workers" for n in WORKERS),
        *(f"fgbgpack, {n}" for n in WORKERS),
        "how",
    ]
    rows = []
    for one in outcomes:
        found = [one.rates.get(str(n)) for n in WORKERS]
        times = [
            f"{ours.rates[str(n)] / rate:.2f} times" if ours and rate and str(n) in ours.rates else ""
            for n, rate in zip(WORKERS, found, strict=True)
        ]
        size = f"{one.bytes:,.0f}" if one.bytes else ""
        shown = [f"{rate:,.0f}/s" if rate else "-" for rate in found]
        rows.append([one.name, size, *shown, *times, one.failed or one.how])
    return table(header, rows)


def make_samples(folder: Path, pictures: Path) -> None:
    samples = Samples(folder)
    if samples.path.exists():
        return
    say("Making the samples")
    part = folder / "pictures"
    shutil.rmtree(part, ignore_errors=True)
    some_of(pictures, part, backgrounds=BACKGROUNDS)
    aside = folder / "part-fgbgpack.zarr"
    shutil.rmtree(aside, ignore_errors=True)
    create(aside, DatasetSpec(backgrounds=str(part / "backgrounds"), foregrounds=str(part / "foregrounds")))
    aside.rename(samples.path)


def main() -> None:
    if sys.argv[1:2] == ["--job"]:
        do_job(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="half a second for each, once: numbers are rough"
    )
    parser.add_argument("--only", action="append", help="part of a format's name; may be repeated")
    parser.add_argument("--pictures", type=Path, help="a folder with backgrounds/ and foregrounds/")
    parser.add_argument(
        "--install", action="store_true", help="install what formats need, in this environment"
    )
    args = parser.parse_args()

    data = ROOT / "bench-data"
    folder = data / "peers"
    folder.mkdir(parents=True, exist_ok=True)
    about = machine()
    start = time.perf_counter()
    make_samples(folder, args.pictures or pictures_in(data))
    asked = [name.lower() for name in args.only or [""]]
    chosen = [peer for peer in PEERS if peer is Stored or any(name in peer.name.lower() for name in asked)]
    outcomes = [prepare(peer, folder, may_install=args.install) for peer in chosen]
    seconds, rounds = (0.5, 1) if args.quick else (1.5, 2)
    for _ in range(rounds):
        for peer, outcome in zip(chosen, outcomes, strict=True):
            read(peer, outcome, folder, seconds)
    packages = dict.fromkeys(package for peer in chosen for package in peer.packages)
    about["packages"] |= {package: version(package) for package in packages if is_installed(package)}
    print(f"\n{in_words(about)}", end=", ")
    print(f"{time.perf_counter() - start:.0f} s; {len(Samples(folder)):,} samples, image + mask + depth,")
    print(f"shuffled, batches of {BATCH}, through a DataLoader; files in the page cache")
    print(", ".join(f"{package} {number}" for package, number in about["packages"].items()))
    print("", lines_of(outcomes), sep="\n")
    document = {
        "machine": about,
        "quick": args.quick,
        "formats": [dataclasses.asdict(one) for one in outcomes],
    }
    (data / "peers.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
