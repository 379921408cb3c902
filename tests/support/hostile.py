"""Damage to the JSON of a dataset, and what then opens and reads it: a program that runs in its own process.

    python hostile.py DATASET SEED COUNT

It damages a copy COUNT times, each time in one place, reads all that there is to read, and prints what came
of it as JSON. Its memory and its time are limited: what takes all of either ends it.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from stored import open_stored

from fgbgpack import open_dataset
from fgbgpack.errors import DatasetError, SpecError

#: Of address space; the datasets are a few MiB.
MEMORY = 6 << 30
#: For one damaged dataset. It takes a few hundredths of a second.
SECONDS = 20

Path_ = tuple[str | int, ...]
Change = Callable[[Any, Path_, random.Random], Any]

#: What takes the place of a value. ``nan`` and the like are what Python's json writes as NaN.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 2**31, 2**63, 2**64, 2**80, 10**400, -(2**63), 0.5, 1.0, -0.0, 1e308,
    float("nan"), float("inf"), "", "x", "NaN", "/", "../..", "a\x00b", "\ud800", "é" * 100_000, [], {}, [[]],
    [0], [1, 2, 3], [2**62] * 4, {"name": "x"}, {"a": {"b": [1]}}, ["x"] * 100_000,
)  # fmt: skip


def places(node: Any, path: Path_ = ()) -> Iterator[Path_]:
    """The path of every value in a document."""
    yield path
    if isinstance(node, dict):
        for key, value in node.items():
            yield from places(value, (*path, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from places(value, (*path, index))


def _at(node: Any, path: Path_) -> Any:
    for step in path:
        node = node[step]
    return node


def _replace(node: Any, path: Path_, value: Any) -> Any:
    if not path:
        return value
    _at(node, path[:-1])[path[-1]] = value
    return node


def _drop(node: Any, path: Path_, _: random.Random) -> Any:
    if not path:
        return {}
    del _at(node, path[:-1])[path[-1]]
    return node


def _other(node: Any, path: Path_, rng: random.Random) -> Any:
    return _replace(node, path, rng.choice(VALUES))


def _nearby(node: Any, path: Path_, rng: random.Random) -> Any:
    """A number that is a little or much too large or small, another text, a list of another length."""
    value = _at(node, path)
    if isinstance(value, bool):
        value = not value
    elif isinstance(value, int):
        value = rng.choice([value + 1, value - 1, -value, value * 2, value * 10**6, value << 40, value / 1])
    elif isinstance(value, float):
        value = rng.choice([value * 2, -value, value * 1e300, 1e-320, int(value)])
    elif isinstance(value, str):
        value = rng.choice([value + "x", value[:-1], value.upper(), value * 1000, value[::-1]])
    elif isinstance(value, list):
        value = rng.choice([value[:-1], value * 2, value[::-1], value * 5000, [value]])
    elif isinstance(value, dict):
        value = rng.choice([list(value), {**value, "unknown": 1}, dict.fromkeys(value)])
    return _replace(node, path, value)


def _exchanged(node: Any, path: Path_, rng: random.Random) -> Any:
    """The value of another place."""
    return _replace(node, path, json.loads(json.dumps(_at(node, rng.choice(list(places(node)))))))


def _edited(content: bytes, rng: random.Random) -> bytes:
    node = json.loads(content)
    # Of the document of a dataset, its copies of other metadata say nothing to us.
    inside = [path for path in places(node) if "consolidated_metadata" not in path] or [()]
    change: Change = rng.choice([_drop, _other, _other, _nearby, _exchanged])
    return json.dumps(change(node, rng.choice(inside), rng)).encode()


def _deep(content: bytes, rng: random.Random) -> bytes:
    node = json.loads(content)
    path = rng.choice(list(places(node)))
    text = json.dumps(_replace(node, path, "DEEP"))
    start, end = rng.choice([("[", "]"), ('{"a":', "}")])
    depth = rng.choice([50, 200, 900, 10_000, 100_000])
    inner = start * depth + "1" + end * depth
    return text.replace('"DEEP"', rng.choice([inner, start * depth])).encode()


def _flipped(content: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 4, 40])):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _digit(content: bytes, rng: random.Random) -> bytes:
    """Another digit where there is one: what stays JSON."""
    digits = [i for i, byte in enumerate(content) if chr(byte).isdigit()]
    at = rng.choice(digits)
    return content[:at] + rng.choice([b"9", b"0", b"-", b"1e9", b"99999999999", b".5"]) + content[at + 1 :]


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def _encoded(content: bytes, rng: random.Random) -> bytes:
    text = content.decode()
    return rng.choice(
        [
            text.encode("utf-16"),
            text.encode("utf-32"),
            b"\xef\xbb\xbf" + content,
            content + b"\x00",
            content + content,
            b"\x00" * 4096,
            b"[" * 1_000_000,
            b"9" * 1_000_000,
            b'{"zarr_format": 3, ' + content.lstrip()[1:],
            content.replace(b"{", b'{"attributes": {}, ', 1),
        ]
    )


KINDS = (_edited,) * 20 + (_deep, _flipped, _digit, _digit, _cut, _encoded)


def damaged(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """The content of a JSON file with damage of some kind, which differs from it, and the kind."""
    while True:
        kind = rng.choice(KINDS)
        try:
            changed = kind(content, rng)
        except (IndexError, KeyError):
            continue
        if changed != content:
            return kind.__name__.strip("_"), changed


# --- reading ---------------------------------------------------------------------------------------


def everything(path: Path) -> str:
    """A digest of all that a dataset has to say, of its samples first."""
    found = sha256()

    def add(*things: Any) -> None:
        for thing in things:
            is_array = isinstance(thing, np.ndarray)
            found.update(np.ascontiguousarray(thing).data if is_array else repr(thing).encode())

    ds = open_stored(path)
    add(len(ds), ds.height, ds.width)
    for sample in (ds[0], ds[-1]):
        add(*sample.arrays.values())
    add(*ds.to_numpy().values(), ds.depth[:], ds.bbox, ds.area, ds.names)
    for batch in ds.batches(7, shuffle=True):
        add(*batch.arrays.values())
    if ds.has_recipe:
        catalog = ds.catalog()
        add(catalog.background, catalog.foreground, catalog.foreground_size, ds.visible)
        add(ds.where(background=0, flip=False), ds.recipe.info.sha256)
        composed = open_dataset(path, pixels="recomposed")
        add(composed.image[:], composed.mask[3:5, 2:])
    if ds.background_depth is not None:
        add(ds.background_depth[:])
    add(ds.depth.attrs.get("quantity"), ds.depth.attrs.get("unit"))
    for name in ds.splits:
        add(*sorted((part, samples.tolist()) for part, samples in ds.split(name).items()))
    add(ds.split({"a": 0.5, "b": 0.5})["a"])
    ds.written_samples()
    ds.stored_bytes()
    return found.hexdigest()


class TooLongError(Exception):
    """Reading took longer than it may."""


def _ring(*_: object) -> None:
    raise TooLongError(f"more than {SECONDS} s")


def outcome(path: Path, expected: str) -> str:
    """What comes of reading a dataset: ``refused``, ``same``, ``differs``, or another error's name."""
    signal.alarm(SECONDS)
    try:
        return "same" if everything(path) == expected else "differs"
    except (DatasetError, SpecError):
        return "refused"
    except Exception as exc:
        return f"{type(exc).__name__}: {str(exc)[:200]}"
    finally:
        signal.alarm(0)


def main(dataset: str, seed: int, count: int) -> None:
    """Damage a dataset so often, and print what came of it."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, _ring)
    warnings.simplefilter("ignore")
    rng, counts, others, silent = random.Random(seed), Counter[str](), [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(shutil.copytree(dataset, Path(folder, "damaged.zarr")))
        expected = everything(path)
        files = sorted(path.rglob("*.json"))
        for number in range(count):
            # The document has the most to say.
            file = rng.choice([*files, *[path / "zarr.json"] * len(files)])
            content = file.read_bytes()
            kind, changed = damaged(content, rng)
            file.write_bytes(changed)
            came = outcome(path, expected)
            file.write_bytes(content)
            counts[came if came in ("refused", "same", "differs") else "other"] += 1
            told = f"{number}, {file.relative_to(path)}, {kind}: {came}"
            if came == "differs":
                silent.append(told)
            elif came not in ("refused", "same"):
                others.append(told)
    print(json.dumps({"counts": counts, "others": others, "silent": silent}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
