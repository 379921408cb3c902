"""Reading COCO's annotations takes memory in proportion to the file, not to Python's numbers."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np

from fgbgpack.sources.sets.coco import read_coco
from fgbgpack.sources.sets.sample_set import Folder

IMAGES, OBJECTS, CORNERS = 200, 1500, 40


def document(rng: np.random.Generator) -> dict:
    """Polygons as photographs have them: two digits after the point."""
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in range(IMAGES)],
        "annotations": [
            {
                "id": i,
                "image_id": i % IMAGES,
                "category_id": 1,
                "bbox": [1.25, 2.5, 3.75, 4.5],
                "segmentation": [(rng.random((CORNERS, 2)) * (640, 480)).round(2).reshape(-1).tolist()],
            }
            for i in range(OBJECTS)
        ],
        "categories": [{"id": 1, "name": "person"}],
    }


def test_memory_is_a_few_times_that_of_the_file(tmp_path):
    written = document(np.random.default_rng(1))
    path = tmp_path / "instances_train.json"
    path.write_text(json.dumps(written))
    files = {path.name: 1} | {f"train/{i}.jpg": 1 for i in range(IMAGES)}
    read_coco(Folder(tmp_path, files))  # what is imported and compiled once
    tracemalloc.start()
    try:
        found = read_coco(Folder(tmp_path, files))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Lists of Python's numbers take more than six times the file.
    assert peak < 3.5 * path.stat().st_size
    first = written["annotations"][0]["segmentation"][0]
    np.testing.assert_array_equal(found.objects[0].outlines[0][0], np.array(first, np.float32))
    assert sum(map(len, found.objects)) == OBJECTS
