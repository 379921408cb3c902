"""The datasets that exports are tested with."""

from __future__ import annotations

import numpy as np
import pytest
from builders import Pictures
from PIL import Image

from fgbgpack import create, open_dataset
from fgbgpack.export import export
from fgbgpack.pipeline import ImportSpec, import_folder

HEIGHT, WIDTH = 21, 33


@pytest.fixture(scope="session")
def scenes(tmp_path_factory, pictures):
    """20 scenes of no to three objects, some of them cut by the border, open."""
    path = tmp_path_factory.mktemp("scenes") / "scenes.zarr"
    create(
        path,
        pictures.spec(samples=20, objects="1-3", empty=0.2, foreground_height="6-12", truncate=0.3),
    )
    return open_dataset(path)


@pytest.fixture(scope="session")
def imported(tmp_path_factory):
    """Six imported samples, in folders, with some unknown depth, open."""
    folder = tmp_path_factory.mktemp("imported")
    random = np.random.default_rng(3)
    for i, name in enumerate(("a/0", "a/1", "a.png/0", "b/con", "b/ü", "c")):
        depth = random.integers(100 * i, 1000, (HEIGHT, WIDTH)).astype(np.uint16)
        depth[:2] = 0
        pictures = {
            "image": random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8),
            "mask": random.integers(0, 256, (HEIGHT, WIDTH), np.uint8),
            "depth": depth,
        }
        for kind, pixels in pictures.items():
            path = folder / "files" / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    spec = ImportSpec(
        str(folder / "files"), images="image", masks="mask", depths="depth",
        depth_quantity="depth", depth_unit="m", depth_factor=0.01, depth_invalid=0,
    )  # fmt: skip
    import_folder(folder / "imported.zarr", spec)
    return open_dataset(folder / "imported.zarr")


#: What each foreground of the datasets with categories is: by its folder, unless a table states it.
CATEGORY_OF = {
    "pairs": {"f0.png": "dog", "f1.png": "a 'person': ü", "f2.png": "dog"},
    "scenes": {"dog/f2.png": "dog", "person/f0.png": "person", "person/f1.png": "rider, 2"},
}


@pytest.fixture(scope="session")
def categorised(tmp_path_factory):
    """Open datasets of pairs and of scenes whose foregrounds have categories, and what each of these is."""
    root = tmp_path_factory.mktemp("categorised")
    pairs, scenes = Pictures(root / "pairs", 2, 3), Pictures(root / "scenes", 2, 3)
    (pairs.foregrounds / "sources.csv").write_text(
        "file,category\nf0.png,dog\nf1.png,a 'person': ü\nf2.png,dog\n", encoding="utf-8"
    )
    for name in CATEGORY_OF["scenes"]:
        path = scenes.foregrounds / name
        path.parent.mkdir(exist_ok=True)
        (scenes.foregrounds / path.name).rename(path)
    table = scenes.foregrounds / "person" / "sources.csv"
    table.write_text('file,category\nf1.png,"rider, 2"\n', encoding="utf-8")
    create(root / "pairs.zarr", pairs.spec(placements=2))
    options = {"objects": "1-3", "foreground_height": "6-12", "truncate": 0.3, "empty": 0.2}
    create(root / "scenes.zarr", scenes.spec(samples=24, classes=True, **options))
    return {name: (open_dataset(root / f"{name}.zarr"), of) for name, of in CATEGORY_OF.items()}


@pytest.fixture(scope="session")
def annotated(tmp_path_factory, categorised):
    """The scenes of ``categorised``, exported to COCO and imported, open."""
    root = tmp_path_factory.mktemp("annotated")
    export(categorised["scenes"][0], root / "coco", to="coco", segmentation="rle")
    import_folder(root / "it.zarr", ImportSpec(str(root / "coco")))
    return open_dataset(root / "it.zarr")
