"""Layouts cover every sample exactly once, in chunks and shards of the sizes that the policy says."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgbgpack.storage.layout import DEFAULT_POLICY, Extent, LayoutPolicy


@st.composite
def extents(draw):
    per_background = draw(st.one_of(st.integers(1, 200), st.integers(1, 10_000_000)))
    samples = per_background * draw(st.integers(1, 200))
    return Extent(samples, draw(st.integers(8, 8192)), draw(st.integers(8, 8192)), per_background)


@st.composite
def policies(draw):
    """Of sizes from far too small to far too large."""
    size = st.integers(1, 1 << 28)
    return LayoutPolicy(
        pixel_chunk_samples=draw(st.integers(1, 200)),
        pixel_chunk_bytes=draw(size),
        pixel_shard_bytes=draw(size),
        depth_chunk_bytes=draw(size),
        guided_chunk_samples=draw(st.integers(1, 100)),
        guided_chunk_bytes=draw(size),
        guided_shard_bytes=draw(size),
        depth_memory_bytes=draw(size),
        depth_shard_bytes=draw(size),
        source_chunk_bytes=draw(size),
        vector_chunk=draw(st.integers(1, 1 << 20)),
        max_shard_chunks=draw(st.integers(1, 10_000)),
        min_shards=draw(st.integers(1, 100)),
        max_shards=draw(st.integers(100, 1_000_000)),
        max_growth=draw(st.integers(1, 50)),
        background_depth_shards=draw(st.integers(1, 100)),
    )


def check(layout, count):
    """What holds for the layout of any array of samples, or of backgrounds."""
    assert layout.shape[0] == count
    assert all(s % c == 0 and s >= c >= 1 for s, c in zip(layout.shard, layout.chunk, strict=True))
    assert all(s >= n for s, n in zip(layout.shard[1:], layout.shape[1:], strict=True))
    # No chunk has nothing but padding below the picture.
    assert all(
        s - c < n for s, c, n in zip(layout.shard[1:], layout.chunk[1:], layout.shape[1:], strict=True)
    )
    # The shards cover every sample once, in order; only the last one may be smaller.
    assert layout.samples_of(0).start == 0
    assert layout.samples_of(layout.shards - 1).stop == count
    for shard in {0, layout.shards // 2, layout.shards - 1}:
        samples = layout.samples_of(shard)
        assert samples.start == shard * layout.shard[0]
        assert len(samples) == layout.shard[0] or shard == layout.shards - 1
        assert len(samples) >= 1
        if layout.grid[0] > 10_000:
            continue
        runs = list(layout.chunk_runs(shard))
        assert [run.start for run in runs] == list(range(samples.start, samples.stop, layout.chunk[0]))
        assert [run.stop for run in runs] == [*(run.start for run in runs[1:]), samples.stop]
        assert len(runs) <= layout.grid[0]


def growth(layout, policy=DEFAULT_POLICY):
    """How many times as large as usual the shards of a layout may be: only where there are very many."""
    return policy.max_growth if layout.shards > policy.max_shards // 2 - 1 else 1


# --- by default ------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=300)
@given(extents(), st.one_of(st.none(), st.integers(1, 65536)))
def test_layouts_of_pixels(extent, chunk):
    image, mask = DEFAULT_POLICY.pixels(extent, chunk)
    for layout in (image, mask):
        check(layout, extent.samples)
        assert math.prod(layout.grid) <= max(4096, layout.grid[1])
    assert image.shape == (extent.samples, extent.height, extent.width, 3)
    assert (image.shape[:3], image.chunk[:3], image.shard[:3]) == (mask.shape, mask.chunk, mask.shard)
    assert image.chunk[2:] == (extent.width, 3)
    assert image.grid[2:] == (1, 1)
    if chunk is not None:
        assert image.chunk[0] == min(chunk, extent.samples)
        return
    assert math.prod(image.chunk) <= 3 << 20
    assert image.chunk[0] <= 64
    one_chunk_deep = image.chunk[0] * math.prod(image.shard[1:])
    assert math.prod(image.shard) <= max(128 << 20, one_chunk_deep) * growth(image)
    assert image.chunk[0] >= min(20, extent.samples), "so few that the background is hardly found again"


@given(extents())
def test_chunks_do_not_straddle_backgrounds_where_any_size_near_40_divides(extent):
    chunk, background = DEFAULT_POLICY.pixels(extent)[0].chunk[0], extent.per_background
    if background <= 40:
        assert chunk % background == 0 or chunk == extent.samples
        assert chunk == extent.samples or 20 <= chunk <= 40
    elif any(background % n == 0 for n in range(20, 65)):
        assert background % chunk == 0
    else:
        assert chunk == 40


@pytest.mark.parametrize(
    ("per_background", "expected"),
    [
        (1880, 40),
        (2000, 40),
        (30, 30),  # all of a background
        (14, 28),  # all of two backgrounds
        (54, 54),  # all of a background, which nothing nearer to 40 divides
        (82, 41),  # half of a background
        (67, 40),  # nothing divides a prime number
        (400, 40),  # a tenth
        (1, 2),
    ],
)
def test_a_chunk_is_about_40_samples_of_one_background_or_of_a_few_whole_ones(per_background, expected):
    extent = Extent(2 * per_background, 128, 128, per_background)
    assert DEFAULT_POLICY.pixels(extent)[0].chunk[0] == expected


@settings(max_examples=200)
@given(extents())
def test_layout_of_depth_per_sample(extent):
    layout = DEFAULT_POLICY.depth(extent, guided=False)
    check(layout, extent.samples)
    assert layout.shape == (extent.samples, extent.height, extent.width)
    assert layout.chunk[1:] == layout.shard[1:] == layout.shape[1:]
    one = extent.height * extent.width * 2
    assert math.prod(layout.chunk) * 2 <= max(128 << 10, one)
    assert math.prod(layout.shard) * 2 <= max(8 << 20, one) * growth(layout)


@pytest.mark.slow
@settings(max_examples=200)
@given(extents())
def test_layout_of_guided_depth(extent):
    layout = DEFAULT_POLICY.depth(extent, guided=True)
    check(layout, extent.samples)
    assert layout.shape == (extent.samples, extent.height, extent.width)
    assert layout.chunk[2] == layout.shard[2] == extent.width
    samples, rows, _ = layout.chunk
    assert math.prod(layout.chunk) * 2 <= max(2 << 20, samples * extent.width * 2)
    # The part of one sample is found again in the 2 MiB that zstd looks back.
    assert 2 * rows * extent.width <= max(2 << 20, 2 * extent.width)
    together = samples * layout.shard[1] * extent.width * 2
    assert together <= 512 << 20, "what each thread holds to fill a chunk"
    most = max(32 << 20, together) * layout.shard[1] / extent.height
    assert math.prod(layout.shard) * 2 <= most * growth(layout)
    background, size = extent.per_background, extent.height * extent.width * 2
    if size <= 4 << 20 and samples < extent.samples:
        assert 20 <= samples < 65
    if size <= 4 << 20 and any(background % n == 0 for n in range(40, 64)):
        assert background % samples == 0


@pytest.mark.parametrize(
    ("size", "per_background", "expected"),
    [
        ((128, 128), 1880, (40, 128, 128)),
        ((128, 128), 4000, (40, 128, 128)),
        ((128, 128), 36, (36, 128, 128)),
        ((128, 128), 74, (37, 128, 128)),  # half of a background's
        ((512, 512), 4000, (40, 47, 512)),  # large ones: cut into bands
        ((250, 500), 10, (20, 84, 500)),  # all of some backgrounds
        ((4096, 4096), 4000, (8, 32, 4096)),  # as many as memory holds
    ],
)
def test_chunks_of_guided_depth(size, per_background, expected):
    extent = Extent(2 * per_background, *size, per_background)
    assert DEFAULT_POLICY.depth(extent, guided=True).chunk == expected


@settings(max_examples=200)
@given(st.integers(1, 100_000), st.integers(8, 8192), st.integers(8, 8192))
def test_layout_of_the_depth_of_backgrounds(backgrounds, height, width):
    layout = DEFAULT_POLICY.background_depth(backgrounds, height, width)
    check(layout, backgrounds)
    assert layout.chunk == (1, height, width)
    assert layout.shards >= min(backgrounds, 33), "little is repeated after a kill"
    assert math.prod(layout.shard) * 4 <= max(8 << 20, 4 * height * width)


@given(st.integers(1, 10_000), st.integers(0, 1 << 24), st.integers(1, 1 << 31))
def test_layouts_of_rows_and_of_vectors(count, row_bytes, samples):
    layout = DEFAULT_POLICY.rows((count, 5), row_bytes)
    check(layout, count)
    assert layout.chunk == layout.shard
    assert layout.chunk[0] == 1 or layout.chunk[0] * row_bytes <= 8 << 20
    assert [*layout.rows()][-1].stop == count
    assert sum(rows.stop - rows.start for rows in layout.rows()) == count
    vector = DEFAULT_POLICY.vector(samples)
    assert vector.shape == (samples,)
    assert vector.chunk[0] in (samples, (1 << 16) * -(-samples // (100_000 // 16 << 16)))
    assert vector.shards <= 2 * 100_000 / 16
    assert vector.chunk == vector.shard


def test_keys_are_those_of_zarr():
    image, mask = DEFAULT_POLICY.pixels(Extent(36, 21, 33))
    assert (image.key(3), mask.key(0)) == ("c/3/0/0/0", "c/0/0/0")


# --- by any policy ---------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=300)
@given(extents(), policies(), st.one_of(st.none(), st.integers(1, 65536)))
def test_any_policy_covers_every_sample_once_and_keeps_to_its_sizes(extent, policy, chunk):
    image, mask = policy.pixels(extent, chunk)
    per_sample, guided = policy.depth(extent, guided=False), policy.depth(extent, guided=True)
    backgrounds = policy.background_depth(extent.samples // extent.per_background, extent.height, 9)
    for layout in (image, mask, per_sample, guided):
        check(layout, extent.samples)
        # Shards have one chunk along the samples, or keep the number of shards up.
        assert layout.grid[0] == 1 or layout.shards > policy.min_shards / 2
    check(backgrounds, extent.samples // extent.per_background)
    if chunk is None and policy.pixel_chunk_samples < extent.per_background:
        assert image.chunk[0] <= max(1, policy.pixel_chunk_samples * 13 // 8)
    row = image.chunk[0] * extent.width * 3
    assert math.prod(image.chunk) <= max(policy.pixel_chunk_bytes, row)
    one_deep = image.chunk[0] * math.prod(image.shard[1:])
    assert math.prod(image.shard) <= max(policy.pixel_shard_bytes, one_deep) * growth(image, policy)
    assert math.prod(image.grid) <= max(policy.max_shard_chunks, image.grid[1])
    one_map = 2 * extent.height * extent.width
    assert math.prod(per_sample.chunk) * 2 <= max(policy.depth_chunk_bytes, one_map)
    one_deep = 2 * math.prod(per_sample.chunk)
    most = max(policy.depth_shard_bytes, one_deep)
    assert math.prod(per_sample.shard) * 2 <= most * growth(per_sample, policy)
    for layout in (per_sample, guided):
        assert layout.shards <= policy.max_shards or layout.grid[0] >= policy.max_growth


@pytest.mark.parametrize(
    ("samples", "pixels", "depth"),
    [
        (400_000, (148, 2720), (400, 1000)),
        (20_000_000, (7353, 2720), (20_000, 1000)),
        (400_000_000, (73_530, 5440), (100_000, 4000)),
        (4_000_000_000, (98_040, 40_800), (250_000, 16_000)),
    ],
)
def test_shards_of_very_many_samples_are_larger(samples, pixels, depth):
    extent = Extent(samples, 128, 128, 4000)
    for layout, (shards, each) in (
        (DEFAULT_POLICY.pixels(extent)[0], pixels),
        (DEFAULT_POLICY.depth(extent, guided=True), depth),
    ):
        check(layout, samples)
        assert (layout.shards, layout.shard[0]) == (shards, each)


EXTENT = Extent(samples=4000, height=100, width=80, per_background=400)


@pytest.mark.parametrize(
    ("field", "value", "layout_of", "found"),
    [
        ("pixel_chunk_samples", 20, lambda p: p.pixels(EXTENT)[0].chunk, (20, 100, 80, 3)),
        ("pixel_chunk_bytes", 480_000, lambda p: p.pixels(EXTENT)[1].chunk, (40, 50, 80)),
        ("pixel_shard_bytes", 2 * 960_000, lambda p: p.pixels(EXTENT)[1].shard, (80, 100, 80)),
        ("depth_chunk_bytes", 16_000, lambda p: p.depth(EXTENT, guided=False).chunk, (1, 100, 80)),
        ("guided_chunk_samples", 10, lambda p: p.depth(EXTENT, guided=True).chunk, (10, 100, 80)),
        ("guided_chunk_bytes", 320_000, lambda p: p.depth(EXTENT, guided=True).chunk, (40, 50, 80)),
        ("guided_shard_bytes", 1_280_000, lambda p: p.depth(EXTENT, guided=True).shard, (80, 100, 80)),
        ("depth_memory_bytes", 160_000, lambda p: p.depth(EXTENT, guided=True).chunk, (10, 100, 80)),
        ("depth_shard_bytes", 256_000, lambda p: p.depth(EXTENT, guided=False).shard, (16, 100, 80)),
        ("source_chunk_bytes", 64_000, lambda p: p.background_depth(999, 100, 80).shard, (2, 100, 80)),
        ("vector_chunk", 1000, lambda p: p.vector(4000).chunk, (1000,)),
        ("max_shard_chunks", 2, lambda p: p.pixels(EXTENT)[1].shard, (80, 100, 80)),
        ("min_shards", 50, lambda p: p.pixels(EXTENT)[1].shard, (80, 100, 80)),
        ("max_shards", 5, lambda p: p.pixels(EXTENT)[1].shard, (840, 100, 80)),
        ("background_depth_shards", 2, lambda p: p.background_depth(9, 100, 80).shard, (5, 100, 80)),
    ],
)
def test_each_field_of_a_policy_has_its_effect(field, value, layout_of, found):
    assert layout_of(replace(DEFAULT_POLICY, **{field: value})) == found != layout_of(DEFAULT_POLICY)
