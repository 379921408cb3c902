"""Boxes of masks, of instances and of foregrounds."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fgbgpack.dataset.geometry import Outlines, instance_boxes, mask_boxes
from fgbgpack.export.objects import measures_in

#: Mostly 0, so that lines and whole masks are empty too.
FEW = st.sampled_from([0, 0, 0, 0, 0, 0, 1, 2, 5, 127, 128, 255])
SHAPES = array_shapes(min_dims=3, max_dims=3, max_side=6)


@given(arrays(np.uint8, SHAPES, elements=FEW))
def test_boxes_are_the_naive_ones(masks):
    expected = [naive.box(mask) for mask in masks]
    boxes = mask_boxes(masks)
    assert boxes.dtype == np.int32
    assert boxes.tolist() == mask_boxes(masks > 0).tolist() == expected
    described = [[left, top, right - left, bottom - top] for top, left, bottom, right in expected]
    assert [one["bbox"] for one in measures_in(masks > 0)] == described


@given(arrays(np.uint8, SHAPES, elements=FEW), st.sampled_from([1, 2, 5, 254, 255]))
def test_boxes_of_instances_are_the_naive_ones(maps, most):
    for instance in maps:
        boxes = instance_boxes(instance, most)
        assert boxes.dtype == np.int32
        assert boxes.tolist() == [naive.box(instance == number) for number in range(1, most + 1)]


@given(arrays(np.uint8, SHAPES, elements=FEW), st.data())
def test_boxes_of_foregrounds_upright_and_mirrored(alphas, data):
    widths = [data.draw(st.integers(1, alphas.shape[2])) for _ in alphas]
    foreground = np.full((*alphas.shape, 4), 255, np.uint8)
    for picture, alpha, width in zip(foreground, alphas, widths, strict=True):
        alpha[:, width:] = 0
        picture[..., 3] = alpha
    size = np.array([(alphas.shape[1], width) for width in widths], np.int32)
    outlines = Outlines.of(foreground, size)
    assert outlines.box.dtype == np.int64
    assert outlines.box[0].tolist() == [naive.box(alpha) for alpha in alphas]
    patches = [alpha[:, :width] for alpha, width in zip(alphas, widths, strict=True)]
    assert outlines.box[1].tolist() == [naive.box(patch[:, ::-1]) for patch in patches]
    assert outlines.visible.tolist() == [float(alpha.any()) for alpha in alphas]
    assert outlines.area.tolist() == [int((alpha > 127).sum()) for alpha in alphas]


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 1, 1)])
def test_no_masks_and_the_smallest(shape):
    assert mask_boxes(np.zeros(shape, np.uint8)).tolist() == [[0, 0, 0, 0]] * shape[0]
