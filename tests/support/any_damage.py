"""Damage to any file of a dataset, and what then opens, reads, verifies and repairs it: a program of its own.

    python any_damage.py read|repair SEED FIRST COUNT < DATASETS

On its standard input is a JSON list of objects with ``path`` and ``others``: a dataset, and those of which it
may get files, older copies of it and foreign ones. It damages copies of them COUNT times, each in one way,
and prints as JSON what came of it. Damage number N depends on the seed and N alone: FIRST N and COUNT 1 make
it again. Memory and time are limited; a process that is stuck ends itself.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import hostile
import numpy as np
from stored import open_stored

from fgbgpack import open_dataset
from fgbgpack.dataset.dataset import Dataset
from fgbgpack.errors import DatasetError
from fgbgpack.pipeline import repair, verify
from fgbgpack.storage.hdf5 import Hdf5Store, probe
from fgbgpack.visual.info import describe

#: Of address space; the datasets are below a MiB.
MEMORY = 6 << 30
#: For all that is done with one damaged dataset. It takes about a tenth of a second.
SECONDS = 60
#: Of which the HDF5 library may be silent so long, each time that it is asked.
LIBRARY_SECONDS = 20.0

#: Changes a dataset, and says how; ``None`` where it would change nothing.
Damage = Callable[["Place"], str | None]


class Place:
    """A dataset that is to be damaged, a folder or an HDF5 file, and those of which it may get files."""

    def __init__(self, path: Path, others: Sequence[Path], rng: random.Random) -> None:
        self.path, self.others, self.rng = path, others, rng

    def files(self) -> list[Path]:
        if self.path.is_file():
            return [self.path]
        return sorted(path for path in self.path.rglob("*") if path.is_file())

    def folders(self) -> list[Path]:
        return sorted(path for path in self.path.rglob("*") if path.is_dir())

    def name(self, path: Path) -> str:
        return path.relative_to(self.path).as_posix()

    def file(self) -> Path:
        """A file: as often of metadata or the manifest as of all the rest, which has more of them."""
        files = self.files()
        some = [one for one in files if one.suffix == ".json" or "manifest" in one.parts]
        return self.rng.choice(some if some and self.rng.random() < 0.5 else files)

    def other(self) -> Path:
        return self.rng.choice(self.others)


# --- what becomes of the bytes of a file -----------------------------------------------------------


def _span(content: bytes, rng: random.Random, most: int = 4096) -> tuple[int, int]:
    """Start and end of a block."""
    length = min(len(content), rng.choice([1, 4, 8, 64, 512, most]))
    start = rng.randrange(len(content) - length + 1)
    if length == most and rng.random() < 0.5:
        start -= start % most
    return start, start + length


def bits(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 1, 2, 3, 8, 50])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def bytes_(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4])):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def zeroed(content: bytes, rng: random.Random) -> bytes:
    start, end = _span(content, rng)
    return content[:start] + bytes(end - start) + content[end:]


def noise(content: bytes, rng: random.Random) -> bytes:
    start, end = _span(content, rng)
    return content[:start] + rng.randbytes(end - start) + content[end:]


def nothing_but_zeros(content: bytes, rng: random.Random) -> bytes:
    return bytes(len(content))


def cut_out(content: bytes, rng: random.Random) -> bytes:
    start, end = _span(content, rng)
    return content[:start] + content[end:]


def put_in(content: bytes, rng: random.Random) -> bytes:
    start, end = _span(content, rng)
    return content[:start] + rng.choice([bytes(end - start), content[start:end], b"\n"]) + content[start:]


def moved(content: bytes, rng: random.Random) -> bytes:
    """A block takes the place of another one."""
    start, end = _span(content, rng)
    to = rng.randrange(len(content) - (end - start) + 1)
    return content[:to] + content[start:end] + content[to + end - start :]


def exchanged(content: bytes, rng: random.Random) -> bytes:
    """Two halves, or the two halves of a part."""
    start, end = sorted(rng.sample(range(len(content) + 1), 2))
    middle = (start + end) // 2
    return content[:start] + content[middle:end] + content[start:middle] + content[end:]


def cut_off(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.choice([0, rng.randrange(len(content)), -1, -4, -rng.randrange(1, 40)])]


def grown(content: bytes, rng: random.Random) -> bytes:
    length = rng.choice([1, 4, 16, 512, 5000])
    return content + rng.choice([bytes(length), rng.randbytes(length), content, content[-length:]])


def line_ends(content: bytes, rng: random.Random) -> bytes:
    """As programs change them that take all files for text."""
    return content.replace(b"\n", b"\r\n") if rng.random() < 0.5 else content.replace(b"\r", b"")


CONTENTS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(bits, bits, bits, bytes_, bytes_, zeroed, noise, nothing_but_zeros, cut_out, put_in, moved),
    *(exchanged, cut_off, cut_off, cut_off, grown, grown, line_ends),
)


def changed_content(place: Place) -> str | None:
    file, kind = place.file(), place.rng.choice(CONTENTS)
    content = file.read_bytes()
    if not content or (changed := kind(content, place.rng)) == content:
        return None
    file.write_bytes(changed)
    return f"{kind.__name__.strip('_')} in {place.name(file)}"


def changed_json(place: Place) -> str | None:
    files = [file for file in place.files() if file.suffix == ".json"]
    root = place.path / "zarr.json"
    # The document has the most to say.
    file = root if root in files and place.rng.random() < 0.5 else place.rng.choice(files)
    kind, changed = hostile.damaged(file.read_bytes(), place.rng)
    file.write_bytes(changed)
    return f"{kind} in {place.name(file)}"


# --- what becomes of files and folders -------------------------------------------------------------


def deleted(place: Place) -> str | None:
    path = place.rng.choice([place.file(), place.file(), place.rng.choice(place.folders())])
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    return f"deleted {place.name(path)}"


def some_deleted(place: Place) -> str | None:
    files = place.files()
    some = place.rng.sample(files, place.rng.randrange(2, len(files)))
    for file in some:
        file.unlink()
    return f"deleted {len(some)} files"


def _pair(place: Place) -> tuple[Path, Path]:
    """Two files: as often of the same array as not."""
    one = place.file()
    others = [file for file in place.files() if file != one]
    beside = [file for file in others if file.relative_to(place.path).parts[0] == one.parts[0]]
    return one, place.rng.choice(beside if beside and place.rng.random() < 0.5 else others)


def files_exchanged(place: Place) -> str | None:
    one, other = _pair(place)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    return f"exchanged {place.name(one)}, {place.name(other)}" if first != second else None


def file_copied(place: Place) -> str | None:
    one, other = _pair(place)
    if one.read_bytes() == other.read_bytes():
        return None
    shutil.copyfile(one, other)
    return f"copied {place.name(one)} to {place.name(other)}"


def folders_exchanged(place: Place) -> str | None:
    one, other = place.rng.sample(place.folders(), 2)
    if one in other.parents or other in one.parents:
        return None
    between = place.path / "between"
    one.rename(between)
    other.rename(one)
    between.rename(other)
    return f"exchanged folders {place.name(one)}, {place.name(other)}"


def renamed(place: Place) -> str | None:
    path = place.rng.choice([place.file(), place.rng.choice(place.folders())])
    to = path.with_name(place.rng.choice([path.name + "~", path.name.upper() + "_", "0", "1", "7"]))
    if to.exists():
        return None
    path.rename(to)
    return f"renamed {place.name(path)} to {to.name}"


def file_of_another(place: Place) -> str | None:
    other = place.other()
    names = [path.relative_to(other) for path in sorted(other.rglob("*")) if path.is_file()]
    some = place.rng.sample(names, place.rng.choice([1, 1, 1, 2, len(names) // 2, len(names) - 1]))
    for name in some:
        (place.path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(other / name, place.path / name)
    return f"{len(some)} files of {other.name}, as {some[0]}"


def folder_of_another(place: Place) -> str | None:
    other = place.other()
    folders = [path.relative_to(other) for path in sorted(other.rglob("*")) if path.is_dir()]
    name = place.rng.choice(folders)
    shutil.rmtree(place.path / name, ignore_errors=True)
    shutil.copytree(other / name, place.path / name)
    return f"folder {name} of {other.name}"


def block_of_another(place: Place) -> str | None:
    """A block of the same file of another dataset, as blocks of disks and of torn writes are."""
    if place.path.is_file():
        files = [(place.path, place.other())]
    else:
        other = place.other()
        files = [(file, other / place.name(file)) for file in place.files()]
    file, other = place.rng.choice([pair for pair in files if pair[1].is_file()])
    content, foreign = file.read_bytes(), other.read_bytes()
    start, end = _span(content, place.rng)
    changed = content[:start] + foreign[start:end] + content[end:]
    if changed == content:
        return None
    file.write_bytes(changed)
    return f"bytes {start} to {end} of {other.name} in {place.name(file)}"


def emptied(place: Place) -> str | None:
    file = place.file()
    file.write_bytes(b"")
    return f"emptied {place.name(file)}"


def replaced(place: Place) -> str | None:
    """By a folder, a link, a pipe, a device."""
    file, rng = place.file(), place.rng
    kept = place.path.parent / "kept"
    shutil.copyfile(file, kept)
    links: list[tuple[str, Path | str]] = [
        ("a link to itself", file.name),
        ("a link to nothing", "nothing"),
        ("a link to a folder", place.path.parent),
        ("a link to a copy", kept),
        ("a link to a device", "/dev/zero"),
        ("a link to no bytes", "/dev/null"),
        ("a link to another file", rng.choice(place.files())),
    ]
    by = rng.choice(["a folder", "a folder", "a pipe", "a pipe", *[link for link, _ in links]])
    file.unlink()
    if by == "a folder":
        file.mkdir()
        if rng.random() < 0.5:
            (file / file.name).write_bytes(kept.read_bytes())
    elif by == "a pipe":
        os.mkfifo(file)
    else:
        file.symlink_to(dict(links)[by])
    return f"{by} in the place of {place.name(file)}"


def folder_replaced(place: Place) -> str | None:
    """By a file, a link, a pipe."""
    folder, rng = place.rng.choice(place.folders()), place.rng
    by = rng.choice(["a file", "a pipe", "a link to itself", "a link to another"])
    other = rng.choice([one for one in place.folders() if one != folder and folder not in one.parents])
    shutil.rmtree(folder)
    if by == "a file":
        folder.write_bytes(rng.choice([b"", b"{}", rng.randbytes(99)]))
    elif by == "a pipe":
        os.mkfifo(folder)
    else:
        folder.symlink_to(folder.name if by == "a link to itself" else other)
    return f"{by} in the place of the folder {place.name(folder)}"


def added(place: Place) -> str | None:
    """What does not belong there."""
    file, rng = place.file(), place.rng
    names = [f"{file.name}.{'0' * 32}.partial", f"{file.name}~", ".zarray", ".nfs0001", "c", "zarr.json", "9"]
    to = rng.choice([file.parent, place.path]) / rng.choice(names)
    if to.exists():
        return None
    shutil.copyfile(file, to)
    return f"added {place.name(to)}"


OF_FOLDERS: tuple[Damage, ...] = (
    *(changed_content,) * 12,
    *(changed_json,) * 12,
    *(deleted, deleted, some_deleted, files_exchanged, files_exchanged, file_copied, folders_exchanged),
    *(renamed, file_of_another, file_of_another, file_of_another, folder_of_another, block_of_another),
    *(emptied, replaced, replaced, replaced, folder_replaced, added),
)


# --- HDF5 ------------------------------------------------------------------------------------------


def changed_file(place: Place) -> str | None:
    """In a part of an HDF5 file: mostly between its chunks, of which there is less."""
    rng, content = place.rng, place.path.read_bytes()
    spans = sorted(
        (offset, offset + size)
        for array in Hdf5Store(place.path).file.arrays.values()
        for offset, size in array.chunks.tolist()
        if offset < len(content)
    )
    ends = [0, *(end for _, end in spans)]
    gaps = [
        (a, b) for a, b in zip(ends, [*(start for start, _ in spans), len(content)], strict=True) if a < b
    ]
    start, end = rng.choice(spans if spans and rng.random() < 0.25 else gaps)
    kind = rng.choice([kind for kind in CONTENTS if kind not in (nothing_but_zeros, cut_off, grown)])
    changed = content[:start] + kind(content[start:end], rng) + content[end:]
    if changed == content:
        return None
    place.path.write_bytes(changed)
    return f"{kind.__name__.strip('_')} within bytes {start} to {end}"


def another_file(place: Place) -> str | None:
    shutil.copyfile(place.other(), place.path)
    return "another dataset"


OF_FILES: tuple[Damage, ...] = (
    *(changed_file,) * 14,
    *(changed_content,) * 6,
    *(block_of_another, block_of_another, emptied, replaced, another_file),
)


def damage(path: Path, whole: Path, others: Sequence[Path], rng: random.Random) -> str:
    """Make a damaged copy of a dataset; what it has suffered."""
    while True:
        remove(path)
        shutil.copytree(whole, path) if whole.is_dir() else shutil.copyfile(whole, path)
        kind = rng.choice(OF_FOLDERS if whole.is_dir() else OF_FILES)
        try:
            told = kind(Place(path, others, rng))
        except (IndexError, ValueError):
            continue  # There is no such file, or none so large.
        if told is not None:
            return f"{kind.__name__.strip('_')}: {told}"


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# --- reading ---------------------------------------------------------------------------------------


def digest(*things: Any) -> str:
    """Of arrays, and of all that has a ``repr`` that is the same in every process."""
    found = sha256()
    for thing in things:
        if isinstance(thing, np.ndarray):
            found.update(f"{thing.dtype}{thing.shape}".encode())
            found.update(np.ascontiguousarray(thing).data)
        else:
            found.update(repr(thing).encode())
    return found.hexdigest()


def ways(ds: Dataset) -> Iterator[tuple[str, Callable[[], str]]]:
    """All that a dataset has to say, one by one."""
    n = len(ds)
    some = [n - 1, 3, 3, 0, n // 2]
    yield "size", lambda: digest(n, ds.height, ds.width, ds.fields, ds.complete, ds.pixels)
    yield "document", lambda: digest(json.dumps(ds.document.to_dict(), sort_keys=True))
    yield "attributes", lambda: digest(*(sorted(one.attrs.items()) for one in (ds.image, ds.mask, ds.depth)))
    yield "first", lambda: digest(*ds[0].arrays.values())
    yield "last", lambda: digest(*ds[-1].arrays.values())
    yield "image", lambda: digest(ds.image[2:9, 3:7, ::2])
    yield "mask", lambda: digest(ds.mask[some, :, 4], ds.mask[-3:])
    yield "depth", lambda: digest(ds.depth[::4, 5:], ds.depth[1, 2, 3])
    yield "read", lambda: digest(*ds.read(some).arrays.values())
    yield "masks alone", lambda: digest(*ds.read(slice(4, 11), "mask").arrays.values())
    yield "batches", lambda: digest(*(x for one in ds.batches(7, shuffle=True) for x in one.arrays.values()))
    yield "everything", lambda: digest(*ds.to_numpy().values())
    yield "names", lambda: digest(ds.names)
    yield "boxes", lambda: digest(ds.bbox, ds.area)
    yield (
        "splits",
        lambda: digest(
            sorted((name, part, x.tolist()) for name in ds.splits for part, x in ds.split(name).items())
        ),
    )
    yield "a new split", lambda: digest(ds.split({"a": 0.5, "b": 0.5})["a"])
    if ds.has_depth:
        yield "extremes", lambda: digest(ds.whole("depth_min"), ds.whole("depth_max"))
    if ds.background_depth is not None:
        background_depth = ds.background_depth
        yield "depth of backgrounds", lambda: digest(background_depth[:])
    if ds.has_recipe:
        yield "sources", lambda: digest(*sources(ds))
        yield "recipe", lambda: digest(ds.recipe.info, ds.visible, ds.where(background=0, flip=False))
        yield "placements", lambda: digest(*vars(ds.placements).values())
        yield "recomposed", lambda: recomposed(ds)


def sources(ds: Dataset) -> Iterator[Any]:
    catalog = ds.catalog()
    yield from (catalog.background, catalog.foreground, catalog.foreground_size)
    yield from (catalog.backgrounds, catalog.foregrounds)


def recomposed(ds: Dataset) -> str:
    composed = open_dataset(ds.path, pixels="recomposed")
    return digest(composed.image[:], composed.mask[3:5, 2:])


def everything(path: Path) -> dict[str, str | Exception]:
    """Digests of all that a dataset has to say, by what was read, or the errors that came instead."""
    found: dict[str, str | Exception] = {}
    try:
        ds = open_stored(path)
        for name, read in ways(ds):
            try:
                found[name] = read()
            except DatasetError as exc:
                found[name] = exc
        describe(ds)
    except DatasetError as exc:
        found["open"] = exc
    return found


class TooLongError(Exception):
    """It took longer than it may."""


def _ring(*_: object) -> None:
    raise TooLongError(f"more than {SECONDS} s")


def is_unsound(path: Path) -> bool:
    """Whether ``fgbgpack verify`` would exit with 4."""
    try:
        verify(path, workers=1).check()
    except DatasetError as exc:
        if exc.exit_status != 4:
            raise
        return True
    return False


class Known:
    """What is read of the datasets that there are, whole."""

    def __init__(self) -> None:
        self._known: dict[Path, dict[str, str | Exception]] = {}

    def __getitem__(self, path: Path) -> dict[str, str | Exception]:
        if path not in self._known:
            self._known[path] = everything(path)
        return self._known[path]


def read_outcome(path: Path, whole: Path, others: Sequence[Path], known: Known) -> str:
    """What comes of reading a dataset and of verifying it."""
    found = everything(path)
    digests = {name: value for name, value in found.items() if isinstance(value, str)}
    errors = {name: value for name, value in found.items() if not isinstance(value, str)}

    def agrees(candidate: Path) -> bool:
        return all(known[candidate].get(name) == value for name, value in digests.items())

    if not agrees(whole) and not any(map(agrees, others)):
        differing = [name for name, value in digests.items() if known[whole].get(name) != value]
        return f"SILENT: other {', '.join(differing)}"
    unsound = is_unsound(path)
    if errors and not unsound:
        return f"NOT FOUND by verify: {next(iter(errors.values()))}"
    if not errors and not unsound:
        if not agrees(whole):
            return "harmless: it is another dataset, whole"
        missing = known[whole].keys() - digests.keys()
        return f"SILENT: no {', '.join(missing)}" if missing else "harmless"
    if not errors:
        return "detected by verify alone"
    return "detected as it is opened" if "open" in errors else "detected as it is read"


def files_of(path: Path) -> dict[str, bytes]:
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def bytes_of(file: Path) -> bytes | None:
    """What a file holds; ``None`` where there is none."""
    return file.read_bytes() if file.is_file() else None


def repair_outcome(path: Path, whole: Path, others: Sequence[Path], known: Known) -> str:
    """What comes of repairing a dataset."""
    try:
        done = repair(path, workers=1, device="cpu")
    except DatasetError as exc:
        return f"refused: {exc.code}"
    if done.left_count:
        return "named" if all(one.advice for one in done.left) else "LEFT without advice"
    if is_unsound(path):
        return "UNSOUND after it"
    if not done.fault_count:
        return "harmless"
    # Read by their names, as readers do: a link may stand in the place of a folder.
    differing = [
        [name for name, content in files_of(one).items() if bytes_of(path / name) != content]
        for one in (whole, *others)
    ]
    if not all(differing):
        return "given back"
    return f"OTHER bytes: {', '.join(min(differing, key=len))}"


def main(what: str, seed: int, first: int, count: int) -> None:
    """Damage datasets so often, and print what came of it."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, _ring)
    warnings.simplefilter("ignore")
    probe.SECONDS = LIBRARY_SECONDS
    datasets = [(Path(one["path"]), list(map(Path, one["others"]))) for one in json.load(sys.stdin)]
    outcome = read_outcome if what == "read" else repair_outcome
    known, counts, wrong = Known(), Counter[str](), []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, first + count):
            whole, others = datasets[number % len(datasets)]
            path = Path(folder, "damaged" + whole.suffix)
            known[whole]
            told = f"{number}, {whole.name}, {damage(path, whole, others, random.Random(f'{seed}.{number}'))}"
            print(told, file=sys.stderr, flush=True)
            # What no Python handler interrupts ends the process, with a traceback.
            faulthandler.dump_traceback_later(2 * SECONDS, exit=True)
            signal.alarm(SECONDS)
            try:
                came = outcome(path, whole, others, known)
            except Exception as exc:
                came = f"FOREIGN {type(exc).__name__}: {str(exc)[:300]}"
            finally:
                signal.alarm(0)
            if came[:2].isupper():
                wrong.append(f"{told}: {came}")
                came = came.split()[0]
            counts[came] += 1
        faulthandler.cancel_dump_traceback_later()
    print(json.dumps({"counts": counts, "wrong": wrong}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
