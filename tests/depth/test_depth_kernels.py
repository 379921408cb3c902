"""The kernel that finds the extremes of float16, compiled and not, against its naive twin."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fgbgpack.depth.kernels import half_extent

PATTERNS = hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))
FINITE = PATTERNS.map(lambda bits: np.where(np.isfinite(bits.view(np.float16)), bits, np.uint16(0x3800)))


def extent(kernel, bits):
    low, high = np.empty(len(bits), np.uint16), np.empty(len(bits), np.uint16)
    wrong = kernel(bits, low, high)
    return low.view(np.float16), high.view(np.float16), wrong


@pytest.mark.slow
@settings(deadline=None)
@given(st.one_of(PATTERNS, FINITE))
def test_half_extent_equals_its_naive_twin(bits):
    expected = [naive.half_extent(row.view(np.float16)) for row in bits]
    for kernel in {half_extent, getattr(half_extent, "py_func", half_extent)}:
        low, high, wrong = extent(kernel, bits)
        assert wrong == sum(is_wrong for _, _, is_wrong in expected)
        for found, (least, greatest, is_wrong) in zip(zip(low, high, strict=True), expected, strict=True):
            if is_wrong:
                assert not np.isfinite(found).all()
            else:
                assert [value.tobytes() for value in found] == [least.tobytes(), greatest.tobytes()]


@pytest.mark.parametrize("bits", [0x7C00, 0xFC00, 0x7C01, 0x7E00, 0xFE00, 0xFFFF, 0x7FFF])
def test_half_extent_finds_one_wrong_value(bits):
    values = np.full((3, 100), 65504, np.float16)
    values[1] = -65504
    assert extent(half_extent, values.view(np.uint16))[2] == 0
    values.view(np.uint16)[1, 57] = bits
    assert extent(half_extent, values.view(np.uint16))[2] == 1
