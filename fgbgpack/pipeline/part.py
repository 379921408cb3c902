"""One part of the shards of a dataset, and what parts note of their work beside it."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass

from fgbgpack.document import DeviceInfo
from fgbgpack.errors import SpecError
from fgbgpack.inputs import parse_json
from fgbgpack.options import whole_number
from fgbgpack.storage.beside import HIDDEN
from fgbgpack.storage.store import DatasetStore

#: Where notes are, until the dataset is complete.
NOTES = f"{HIDDEN}parts/"
_NOTE = re.compile(r"(\d+)-of-(\d+)")


@dataclass(frozen=True)
class Part:
    """One of ``count`` parts of the shards of a dataset, counted from 0."""

    number: int
    count: int

    def __post_init__(self) -> None:
        number, count = whole_number(self.number), whole_number(self.count)
        if number is None or count is None or count < 1 or not 0 <= number < count:
            last = "" if count is None or count < 1 else f": the parts of {count} are 0 to {count - 1}"
            raise SpecError(
                f"Found part {self.number} of {self.count}, expected a number from 0 of 1 or more{last}.",
                code="part-invalid",
            )

    @property
    def name(self) -> str:
        """The part as options give it."""
        return f"{self.number}/{self.count}"

    def of(self, shards: int) -> range:
        """Its own of so many shards: a run of them, as many as any other part has or one more."""
        return range(self.number * shards // self.count, (self.number + 1) * shards // self.count)

    @classmethod
    def with_shard(cls, shard: int, shards: int, count: int) -> Part:
        """The part of ``count`` that a shard belongs to."""
        return cls(((shard + 1) * count - 1) // shards, count)


class Note:
    """What a part notes beside the dataset: that it has run, and which device fills which shards of depth."""

    def __init__(self, store: DatasetStore, part: Part) -> None:
        self._store, self._key = store, f"{NOTES}{part.number}-of-{part.count}"

    def add(self, device: DeviceInfo | None, shards: list[int]) -> None:
        """Note that some shards are about to be filled, if there are any."""
        before = self._store.get(self._key)
        made = _made_of(before)
        if device is not None:
            made.append((device, shards))
        entries = [{"device": one.to_dict(), "shards": of_one} for one, of_one in made]
        text = json.dumps({"depth": entries}).encode()
        if text != before:
            self._store.put(self._key, text)


def _made_of(note: bytes | None) -> list[tuple[DeviceInfo, list[int]]]:
    """The devices of a note with the shards that each has filled, in the order of the part's runs; none if it
    is damaged.
    """
    try:
        entries = parse_json(note or b"")["depth"]
        return [(DeviceInfo.of(entry["device"]), [int(i) for i in entry["shards"]]) for entry in entries]
    except (ValueError, KeyError, TypeError):
        return []


class Notes:
    """The notes of all parts of a dataset that have run."""

    def __init__(self, store: DatasetStore) -> None:
        keys = store.find(NOTES)
        found = [(match, key) for key in keys if (match := _NOTE.fullmatch(key.removeprefix(NOTES)))]
        counts = Counter(int(match[2]) for match, _ in found)
        #: How many parts there are, as most of them say; ``None`` where none has run.
        self.count: int | None = max(counts, key=lambda n: (counts[n], n)) if counts else None
        self.makers: dict[int, DeviceInfo] = {}
        for note in store.get_all(key for _, key in found):
            for device, shards in _made_of(note):
                self.makers |= dict.fromkeys(shards, device)
