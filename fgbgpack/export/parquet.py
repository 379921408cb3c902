"""Parquet files with pictures in them, for Hugging Face ``datasets``."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from fgbgpack.cards import exported_card, stated_about, summarize
from fgbgpack.document import DEPTH, IMAGE, INSTANCE, MASK, OBJECTS
from fgbgpack.errors import SpecError
from fgbgpack.export.naming import CATEGORY
from fgbgpack.export.objects import (
    MASK_ABOVE,
    category_names,
    problems_of_category,
    seen_objects,
    shows_objects,
)
from fgbgpack.export.png import png
from fgbgpack.export.target import ExportJob, Run, Target
from fgbgpack.extras import require

_DATA, _README = "data", "README.md"
_TRAIN = "train"
_SHARD_BYTES = 500_000_000
#: What reads a few rows reads their group.
_GROUP_ROWS, _GROUP_BYTES = 100, 64 << 20
_MEANINGS = {
    IMAGE: "the sample",
    MASK: f"how much of each pixel is foreground, 0 to 255; more than {MASK_ABOVE} is foreground",
    INSTANCE: "the number of the object that is seen, from 1, or 0",
    "sample": "its number in the dataset",
    "name": "its name in the dataset",
    "background": "the file of the background",
    "foreground": "the file of the foreground",
    CATEGORY: "what the foreground shows",
    "flip": "whether the foreground is mirrored",
    "replica": "which placement of its pictures",
    "y": "top row of the pasted foreground, in pixels",
    "x": "left column of the pasted foreground, in pixels",
    OBJECTS: "what is seen of each object, far to near: left, top, width, height; pixels; its category",
}


@dataclass(frozen=True)
class _Column:
    """A column: its type in Arrow, what it is to ``datasets``, and a word for its type and its meaning."""

    name: str
    arrow: Any
    feature: Mapping[str, Any]
    kind: str
    meaning: str


class ParquetTarget(Target):
    """``data/<part>-00000-of-00001.parquet`` and so on, and ``README.md``, a card that names them.

    A row has each field as a PNG file, box, area and category of each object that is seen, its number, and
    its placement or its name. The schema of each file says what the columns are to ``datasets``.
    """

    OPTIONS: ClassVar = frozenset({"category", "depth_bits", "shard_bytes", "shard_samples"})

    def __init__(self, job: ExportJob) -> None:
        if problems := problems_of_category(job):
            raise SpecError("Parquet cannot be written so.", problems, code="export-options-invalid")
        _pyarrow()
        super().__init__(job)

    def write(self, folder: Path) -> dict[str, Any]:
        """Writes the files of each part, and the card."""
        (folder / _DATA).mkdir()
        splits = _split_names([part.slug for part in self._job.parts])
        files: dict[str, int] = {}
        for split, part in zip(splits, self._job.parts, strict=True):
            with closing(_Files(folder / _DATA, split, self._job, self._schema)) as written:
                for rows in self._job.encoded(part, self._encode):
                    written.add(rows)
                written.add_last()
            files |= written.named()
        (folder / _README).write_text(self._card(splits), encoding="utf-8", newline="\n")
        return {"files": files, "mask_above": MASK_ABOVE}

    def how_to_open(self, out: str, details: Mapping[str, Any]) -> list[str]:
        """With Hugging Face datasets."""
        (split, *_) = _split_names([part.slug for part in self._job.parts])
        return [
            "from datasets import load_dataset",
            f"samples = load_dataset({out!r}, split={split!r})",
            f'samples[0]["{self._job.fields[0]}"]',
        ]

    @cached_property
    def _columns(self) -> list[_Column]:
        pa, job = _pyarrow()[0], self._job
        picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        columns = [
            _Column(field, picture, {"_type": "Image"}, "PNG", self._meaning(field)) for field in job.fields
        ]
        texts = dict.fromkeys(("background", "foreground", CATEGORY, "name"), "string")
        kinds = {"flip": "bool", **texts}
        for name in ("sample", *(name for name in job.ids.columns if name != OBJECTS)):
            kind = kinds.get(name, "int64")
            arrow = pa.string() if kind == "string" else pa.bool_() if kind == "bool" else pa.int64()
            columns.append(_Column(name, arrow, _value(kind), kind, _MEANINGS[name]))
        if shows_objects(job):
            box = {"feature": _value("int32"), "length": 4, "_type": "Sequence"}
            label = {"names": category_names(job), "_type": "ClassLabel"}
            of_objects = {
                "bbox": (pa.list_(pa.int32(), 4), box),
                "area": (pa.int32(), _value("int32")),
                "category": (pa.int64(), label),
            }
            if job.dataset.has_objects:
                of_objects["instance"] = (pa.int32(), _value("int32"))
            if job.dataset.document.is_scene:
                of_objects["foreground"] = (pa.string(), _value("string"))
            arrow = pa.struct([(name, pa.list_(of_one)) for name, (of_one, _) in of_objects.items()])
            feature = {
                name: {"feature": of_one, "_type": "Sequence"} for name, (_, of_one) in of_objects.items()
            }
            columns.append(_Column(OBJECTS, arrow, feature, "lists", _MEANINGS[OBJECTS]))
        return columns

    def _meaning(self, field: str) -> str:
        if field != DEPTH or self._job.depth_scale is None:
            return _MEANINGS[field]
        scale = self._job.depth_scale.to_dict()
        unknown = "" if scale["unknown"] is None else f", unknown where value is {scale['unknown']}"
        text = f"depth is {scale['to_depth']}, with low {scale['low']} and high {scale['high']}{unknown}"
        return text.replace("*", "\\*")

    @cached_property
    def _schema(self) -> Any:
        features = {column.name: column.feature for column in self._columns}
        text = json.dumps({"info": {"features": features}}, ensure_ascii=False)
        fields = [(column.name, column.arrow) for column in self._columns]
        return _pyarrow()[0].schema(fields, metadata={"huggingface": text})

    def _encode(self, run: Run) -> Any:
        """The rows of a run, in Arrow."""
        pa, job = _pyarrow()[0], self._job
        paths = [f"{job.ids.key(sample)}.png" for sample in run.samples.tolist()]
        records = job.ids.records(run.samples)
        objects = self._objects(run, records) if shows_objects(job) else []
        arrays = []
        for column in self._columns:
            if column.name in run.arrays:
                pictures = [png(pixels) for pixels in job.pictures(run, column.name)]
                parts = [pa.array(pictures, pa.binary()), pa.array(paths, pa.string())]
                arrays.append(pa.StructArray.from_arrays(parts, fields=list(column.arrow)))
            elif column.name == OBJECTS:
                arrays.append(pa.array(objects, column.arrow))
            else:
                arrays.append(pa.array([record[column.name] for record in records], column.arrow))
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _objects(self, run: Run, records: list[dict[str, Any]]) -> list[dict[str, list[Any]]]:
        """Each of a sample's objects that is seen, as lists."""
        job = self._job
        rows = seen_objects(job, run)
        for row, record in zip(rows, records, strict=True):
            if job.dataset.document.is_scene:
                made_of = record[OBJECTS]
                row["foreground"] = [made_of[number - 1]["foreground"] for number in row["instance"]]
        return rows

    def _card(self, splits: Iterable[str]) -> str:
        dataset = self._job.dataset
        return exported_card(
            summarize(dataset),
            stated_about(dataset.path),
            samples=self._job.samples,
            data_files={split: f"{_DATA}/{split}-*" for split in splits},
            columns=[(column.name, column.kind, column.meaning) for column in self._columns],
        )


class _Files:
    """The files of a part, each begun when the one before is full; how many there are is known at the end."""

    def __init__(self, folder: Path, split: str, job: ExportJob, schema: Any) -> None:
        self._folder, self._split, self._schema = folder, split, schema
        self._max_bytes = job.options.shard_bytes or _SHARD_BYTES
        self._max_samples = job.options.shard_samples
        self._group = max(1, min(_GROUP_ROWS, _GROUP_BYTES // job.sample_bytes))
        self._waiting: list[Any] = []
        self._writer: Any = None
        self._bytes = 0
        self._samples: list[int] = []

    def add(self, rows: Any) -> None:
        """Some more rows: groups of them do not depend on how they come."""
        self._waiting.append(rows)
        while sum(map(len, self._waiting)) >= self._next_rows:
            self._write(self._next_rows)

    def add_last(self) -> None:
        """Writes what is left."""
        while count := sum(map(len, self._waiting)):
            self._write(min(count, self._next_rows))

    def close(self) -> None:
        """Ends the file that is being written."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def named(self) -> dict[str, int]:
        """Gives the files their names; the samples of each."""
        count, named = len(self._samples), {}
        for number, samples in enumerate(self._samples):
            name = f"{self._split}-{number:05d}-of-{count:05d}.parquet"
            self._path(number).rename(self._folder / name)
            named[f"{_DATA}/{name}"] = samples
        return named

    @property
    def _next_rows(self) -> int:
        """The rows of the next group."""
        if self._max_samples is None:
            return self._group
        written = self._samples[-1] if self._writer is not None else 0
        return min(self._group, self._max_samples - written % self._max_samples)

    def _write(self, rows: int) -> None:
        pa, parquet = _pyarrow()
        table = pa.Table.from_batches(self._waiting)
        group, rest = table.slice(0, rows).combine_chunks(), table.slice(rows)
        is_full = self._bytes + group.nbytes > self._max_bytes or (
            bool(self._samples) and self._samples[-1] == self._max_samples
        )
        if self._writer is None or is_full:
            self.close()
            # Pictures are compressed already, and their least and greatest mean nothing.
            self._writer = parquet.ParquetWriter(
                self._path(len(self._samples)),
                self._schema,
                compression="NONE",
                use_dictionary=False,
                write_statistics=["sample"],
                write_page_checksum=True,
            )
            self._samples.append(0)
            self._bytes = 0
        self._writer.write_table(group, row_group_size=rows)
        self._bytes += group.nbytes
        self._samples[-1] += rows
        self._waiting = rest.to_batches()

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._split}-{number:05d}.parquet"


def _split_names(slugs: list[str]) -> list[str]:
    """The names of splits, as ``datasets`` takes them: letters, digits and underscores."""
    names = [re.sub(r"\W", "_", slug or _TRAIN, flags=re.ASCII) for slug in slugs]
    if len({name.casefold() for name in names}) < len(names):
        names = [f"{name}_{number}" for number, name in enumerate(names)]
    return names


def _value(kind: str) -> dict[str, str]:
    return {"dtype": kind, "_type": "Value"}


def _pyarrow() -> tuple[Any, Any]:
    parquet = require("pyarrow.parquet", extra="parquet", needed_by="--to parquet")
    return importlib.import_module("pyarrow"), parquet
