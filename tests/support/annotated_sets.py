"""Folders of annotated pictures as other tools keep them, made on the spot."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 20, 30


def picture(seed: int, height=HEIGHT, width=WIDTH) -> np.ndarray:
    """(h, w, 3) uint8 of noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def instances(seed: int, count: int, height=HEIGHT, width=WIDTH) -> np.ndarray:
    """(h, w) uint8: so many rectangles side by side, with the numbers 1 to ``count``."""
    found = np.zeros((height, width), np.uint8)
    for number in range(count):
        left = 1 + number * (width // 4)
        top = 1 + (seed + number) % 5
        found[top : top + 6 + number, left : left + 5] = number + 1
    return found


def penn_fudan(root: Path, counts=(2, 0, 3), *, step=1, mode=None) -> list[np.ndarray]:
    """``PNGImages`` and ``PedMasks`` as Penn-Fudan has them, with a palette (``P``) or more bits (``I;16``);
    pixels have ``step`` times the numbers of objects. The maps are returned.
    """
    (root / "PNGImages").mkdir(parents=True)
    (root / "PedMasks").mkdir()
    maps = []
    for i, count in enumerate(counts):
        maps.append(instances(i, count))
        Image.fromarray(picture(i)).save(root / f"PNGImages/Fudan{i:05d}.png")
        values = maps[-1].astype(np.uint16 if mode == "I;16" else np.uint8) * step
        image = Image.fromarray(values)
        if mode == "P":
            image = Image.frombytes("P", image.size, values.tobytes())
            image.putpalette([(37 * k) % 256 for k in range(768)])
        image.save(root / f"PedMasks/Fudan{i:05d}_mask.png")
    return maps


class Coco:
    """A set of COCO's: two pictures and three objects, of which one is a group. Change it, then write it."""

    def __init__(self) -> None:
        self.licenses: list[dict] | None = None
        self.images = [{"id": i, "file_name": f"p{i}.png", "width": WIDTH, "height": HEIGHT} for i in (7, 9)]
        self.categories = [{"id": 3, "name": "dog"}, {"id": 18, "name": "person"}]
        self.annotations = [
            self.rectangle(1, image=7, category=18, left=2, top=3, right=8, bottom=10),
            self.rectangle(2, image=7, category=3, left=12, top=3, right=20, bottom=9),
            self.crowd(3, image=9, category=18),
        ]

    @staticmethod
    def rectangle(number: int, *, image: int, category: int, left=0, top=0, right=0, bottom=0) -> dict:
        corners = [left, top, right, top, right, bottom, left, bottom]
        box, area = [left, top, right - left, bottom - top], (right - left) * (bottom - top)
        return {
            "id": number, "image_id": image, "category_id": category, "iscrowd": 0,
            "segmentation": [corners], "bbox": box, "area": area,
        }  # fmt: skip

    @staticmethod
    def crowd(number: int, *, image: int, category: int) -> dict:
        """A group on the two leftmost columns, by run lengths that are not compressed."""
        counts = [0, 2 * HEIGHT, (WIDTH - 2) * HEIGHT]
        return {
            "id": number, "image_id": image, "category_id": category, "iscrowd": 1,
            "segmentation": {"size": [HEIGHT, WIDTH], "counts": counts},
            "bbox": [0, 0, 2, HEIGHT], "area": 2 * HEIGHT,
        }  # fmt: skip

    def write(self, root: Path, name="annotations/instances_train.json", *, pictures="train") -> Path:
        """Writes the set, with the pictures that it names, and returns its folder."""
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (root / pictures).mkdir(parents=True, exist_ok=True)
        for image in self.images:
            Image.fromarray(picture(image["id"])).save(root / pictures / image["file_name"])
        path.write_text(json.dumps(self.document))
        return root

    @property
    def document(self) -> dict:
        """What the file holds."""
        lists = {"images": self.images, "annotations": self.annotations, "categories": self.categories}
        return lists | ({} if self.licenses is None else {"licenses": self.licenses})


def yolo(root: Path, labels: dict[str, str], names="names: [dog, person]", *, part="train") -> Path:
    """``data.yaml``, and pictures with the lines of their labels by their names; returns the folder."""
    for folder in ("images", "labels"):
        (root / folder / part).mkdir(parents=True, exist_ok=True)
    for i, (name, lines) in enumerate(labels.items()):
        Image.fromarray(picture(i)).save(root / f"images/{part}/{name}.png")
        (root / f"labels/{part}/{name}.txt").write_text(lines)
    (root / "data.yaml").write_text(f"path: .\ntrain: images/{part}\nval: images/{part}\n{names}\n")
    return root


def as_imported(ds, sample: int) -> tuple[np.ndarray, list[int]]:
    """The instances of a scene without gaps in their numbers, and the categories of the objects: exports
    leave out those that are not seen.
    """
    stored = ds.instance[sample]
    seen = [k for k in range(int(ds.objects.count[sample])) if (stored == k + 1).any()]
    found = np.zeros_like(stored)
    for number, k in enumerate(seen, start=1):
        found[stored == k + 1] = number
    return found, [int(ds.objects.category[sample, k]) for k in seen]
