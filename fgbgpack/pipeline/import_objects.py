"""The objects of imported samples: categories as they were annotated, boxes of what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.objects import FORMS, NO_OBJECT, shapes
from fgbgpack.dataset.geometry import instance_boxes
from fgbgpack.document import BOXES, CATEGORIES, INSTANCE, OBJECTS, VISIBLE, Document
from fgbgpack.pipeline.executor import Threads
from fgbgpack.sources.sets import SampleObjects
from fgbgpack.storage.arrays import METADATA, ArraySpec, group_metadata
from fgbgpack.storage.layout import LayoutPolicy
from fgbgpack.storage.store import DatasetStore

_READ_BYTES = 16 << 20  # of maps that are measured at a time


def write_objects(
    store: DatasetStore,
    document: Document,
    objects: Sequence[SampleObjects],
    policy: LayoutPolicy,
    threads: Threads,
) -> None:
    """Publish what is known of objects, once all instances are stored: boxes are those of their pixels."""
    forms = shapes(document.samples, document.most_objects)
    specs = {}
    for path in document.object_arrays:
        dtype, more = FORMS[path]
        dimensions = ("sample", "object", *(name for name, _ in more))
        specs[path] = ArraySpec(path, policy.objects(forms[path][0]), dtype, dimensions)
    reader = store.reader(INSTANCE)
    many = max(1, _READ_BYTES // (document.height * document.width))

    def measured(rows: range) -> NDArray[np.int32]:
        maps = reader.read(rows)
        return np.stack([instance_boxes(one, document.most_objects) for one in maps])

    for path, spec in specs.items():
        for number, rows in enumerate(spec.layout.rows()):
            samples = range(rows.start, min(rows.stop, document.samples))
            values = np.full((len(samples), *forms[path][0][1:]), NO_OBJECT, spec.dtype)
            if path == BOXES:
                runs = [samples[start : start + many] for start in range(0, len(samples), many)]
                boxes = np.concatenate([found for _, found in threads.in_order(measured, runs, ahead=1)])
            for place, sample in enumerate(samples):
                count = len(objects[sample])
                if path == BOXES:
                    values[place, :count] = boxes[place, :count]
                else:
                    values[place, :count] = _said(path, objects[sample])
            store.write_rows(spec, number, values)
    store.put_changed(f"{OBJECTS}/{METADATA}", group_metadata())
    store.declare(*specs.values())


def _said(path: str, objects: SampleObjects) -> Sequence[Any]:
    """What is said of the objects of a sample for one array."""
    said = {CATEGORIES: objects.categories, VISIBLE: objects.visible or ()}
    return said[path]
