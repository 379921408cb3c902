"""The picture of statistics, looked at through its pixels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image
from refusals import refused

from fgbgpack import open_dataset
from fgbgpack.errors import SpecError
from fgbgpack.visual import stats_picture
from fgbgpack.visual.stats_picture import render_stats, write_stats_picture


@pytest.fixture(scope="module")
def stats(kinds):
    return open_dataset(kinds["split"]).stats("both")


def count_of(picture, colour):
    return int((np.asarray(picture) == np.array(colour)).all(axis=-1).sum())


def test_it_is_the_same_for_the_same_statistics(stats, tmp_path):
    picture = render_stats(stats, "split.zarr")
    write_stats_picture(stats, "split.zarr", tmp_path / "it.png")
    assert Image.open(tmp_path / "it.png").tobytes() == picture.tobytes()
    assert render_stats(stats, "split.zarr").tobytes() == picture.tobytes()


def test_parts_have_lines_below_and_depth_has_a_panel(stats, kinds):
    whole = render_stats(stats.without_split(), "it")
    assert render_stats(stats, "it").height > whole.height
    flat = open_dataset(kinds["plain"]).stats()
    assert count_of(render_stats(flat, "it"), stats_picture._BARS) > 0


def test_bars_are_as_high_as_what_they_count(stats):
    sizes = dataclasses.replace(stats.sizes, heights=stats_picture.Histogram(0, 2, (10, 5)), visible=None)
    none = dataclasses.replace(stats.without_split(), sizes=None, counts=None)
    some = dataclasses.replace(none, sizes=sizes)
    drawn = np.asarray(render_stats(some, "it")) != np.asarray(render_stats(none, "it"))
    bars = np.asarray(render_stats(some, "it")) == np.array(stats_picture._BARS)
    columns = (bars.all(axis=-1) & drawn.any(axis=-1)).sum(axis=0)
    heights = sorted(set(columns.tolist()) - {0})
    assert heights[-1] == pytest.approx(2 * heights[0], abs=2)


def test_more_sources_than_bars_share_them(stats):
    many = dataclasses.replace(stats.counts, backgrounds=(3,) * 1000)
    assert (
        render_stats(dataclasses.replace(stats, counts=many), "it").width == render_stats(stats, "it").width
    )


@pytest.mark.parametrize("name", ["it.gif", "no/it.png"])
def test_where_no_picture_can_be_written_that_is_said(stats, tmp_path, name):
    with refused(SpecError, "preview-invalid"):
        write_stats_picture(stats, "it", tmp_path / name)
