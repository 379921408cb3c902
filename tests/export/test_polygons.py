"""Polygons along the edges of pixels: they cover a mask's pixels, each once, and none touches itself."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from fgbgpack.export import kernels
from fgbgpack.export.polygons import polygons_of

# pycocotools meets NumPy 2 with a class of its own that is older.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def drawn(*rows: str) -> np.ndarray:
    """A mask of which # is set."""
    return np.array([[letter == "#" for letter in row] for row in rows])


@st.composite
def masks(draw):
    """Masks of every density and grain, small enough for the naive twin."""
    shape = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    mask = random.random(shape) < draw(st.sampled_from([0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1]))
    return np.kron(mask, np.ones((draw(st.integers(1, 2)), draw(st.integers(1, 2))), bool))


def soft_masks() -> np.ndarray:
    """Alpha of rings, of hands on hips and of hair, with soft edges: (n, 96, 80) uint8, each with holes."""
    y, x = np.mgrid[:96, :80]
    random = np.random.default_rng(5)

    def disc(cy, cx, radius):
        return np.clip(radius - np.hypot(y - cy, x - cx), -1, 1) / 2 + 0.5

    ring = disc(48, 40, 36.3) * (1 - disc(48, 40, 20.7))
    hips = disc(48, 40, 30) * (1 - disc(40, 22, 6.2)) * (1 - disc(41, 58, 7.1)) * (1 - disc(80, 40, 12))
    nested = ring + disc(48, 40, 12.4) * (1 - disc(48, 40, 5.5))
    hair = np.clip(disc(48, 40, 33) + random.normal(0, 0.45, (96, 80)), 0, 1)
    lace = np.where((y // 3 + x // 3) % 2, ring, 0) + np.where(y % 7 == 0, ring, 0)
    return np.stack([np.clip(one * 255, 0, 255).astype(np.uint8) for one in (ring, hips, nested, hair, lace)])


def corners_of(polygon: list[int]) -> list[tuple[int, int]]:
    return list(zip(polygon[::2], polygon[1::2], strict=True))


def assert_simple(polygon: list[int]) -> None:
    """It turns at every corner, clockwise in all, and visits no point of the grid twice."""
    corners = corners_of(polygon)
    steps = np.diff([*corners, corners[0]], axis=0)
    assert ((steps == 0).sum(axis=1) == 1).all()
    is_level = steps[:, 1] == 0
    assert (is_level != np.roll(is_level, 1)).all()
    visited = [
        (int(x), int(y))
        for corner, step in zip(corners, steps, strict=True)
        for x, y in (np.array(corner) + np.sign(step) * i for i in range(np.abs(step).sum()))
    ]
    assert len(set(visited)) == len(visited)


def area_of(polygon: list[int]) -> float:
    """By the shoelace formula: positive where the corners are clockwise, as y grows downwards."""
    corners = corners_of(polygon)
    pairs = zip(corners, corners[1:] + corners[:1], strict=True)
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs) / 2


def as_pycocotools_draws(polygons: list[list[int]], shape: tuple[int, int]) -> np.ndarray:
    if not polygons:
        return np.zeros(shape, bool)
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *shape))).astype(bool)


def assert_covers(polygons: list[list[int]], mask: np.ndarray) -> None:
    np.testing.assert_array_equal(as_pycocotools_draws(polygons, mask.shape), mask)
    assert sum(map(area_of, polygons)) == mask.sum()
    for polygon in polygons:
        assert_simple(polygon)


@pytest.mark.slow
@settings(max_examples=200)
@given(masks())
def test_polygons_cover_each_pixel_once(mask):
    polygons = polygons_of(mask)
    assert_covers(polygons, mask)
    covered = sum((naive.inside_polygon(polygon, *mask.shape).astype(int) for polygon in polygons), 0)
    np.testing.assert_array_equal(covered, mask)


@pytest.mark.parametrize("mask", soft_masks(), ids=["ring", "hips", "nested", "hair", "lace"])
def test_soft_masks_with_holes(mask):
    inside = mask > 127
    polygons = polygons_of(inside)
    assert_covers(polygons, inside)
    assert len(polygons) > 1


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (drawn("..", ".."), []),
        (drawn("##", "##"), [[0, 0, 2, 0, 2, 2, 0, 2]]),
        (drawn("...", ".#."), [[1, 1, 2, 1, 2, 2, 1, 2]]),
        # An L, and a U whose arms are joined from below.
        (drawn("#.", "##"), [[0, 0, 1, 0, 1, 1, 2, 1, 2, 2, 0, 2]]),
        (drawn("#.#", "###"), [[0, 0, 1, 0, 1, 1, 2, 1, 2, 0, 3, 0, 3, 2, 0, 2]]),
        # Pixels that share a corner only are two.
        (drawn("#.", ".#"), [[0, 0, 1, 0, 1, 1, 0, 1], [1, 1, 2, 1, 2, 2, 1, 2]]),
        # A hole: cut below it.
        (
            drawn("###", "#.#", "###"),
            [[0, 0, 3, 0, 3, 2, 2, 2, 2, 1, 1, 1, 1, 2, 0, 2], [0, 2, 3, 2, 3, 3, 0, 3]],
        ),
    ],
)
def test_the_corners_of_small_masks(mask, expected):
    assert polygons_of(mask) == expected
    assert_covers(expected, mask)


@pytest.mark.parametrize("turns", range(4))
def test_what_has_no_holes_is_one_polygon(turns):
    person = drawn(
        "....##.....",
        "....##.....",
        "##.####..##",
        ".#########.",
        "...####....",
        "...####....",
        "..##..##...",
        "..#....#...",
        ".##....##..",
    )
    mask = np.ascontiguousarray(np.rot90(person, turns))
    (polygon,) = polygons_of(mask)
    assert_covers([polygon], mask)


def test_kernels_give_the_same_uncompiled(monkeypatch):
    compiled = [polygons_of(mask > 127) for mask in soft_masks()]
    for name in ("_piece_of", "_are_apart", "_append"):
        function = getattr(kernels, name)
        monkeypatch.setattr(kernels, name, getattr(function, "py_func", function))
    for name in ("cut_into_pieces", "trace_pieces"):
        function = getattr(kernels, name)
        monkeypatch.setattr(f"fgbgpack.export.polygons.{name}", getattr(function, "py_func", function))
    assert [polygons_of(mask > 127) for mask in soft_masks()] == compiled


def test_masks_in_any_memory_order():
    mask = soft_masks()[1] > 127
    assert polygons_of(np.asfortranarray(mask)) == polygons_of(mask)
    assert polygons_of(mask[:, ::-1]) == polygons_of(mask[:, ::-1].copy())
