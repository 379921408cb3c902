"""PNG files and the mapping of depth to whole numbers."""

from __future__ import annotations

import io

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fgbgpack.export.kernels import paeth_filter
from fgbgpack.export.png import DepthScale, png


@st.composite
def pictures_of_bytes(draw):
    """Pictures as different as noise, ramps and plain ones, of one or three channels."""
    height, width, channels = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.sampled_from([1, 3]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.sampled_from([1, 2, 40, 256]))
    noise = random.integers(0, spread, (height, width, channels))
    ramp = np.add.outer(np.arange(height), np.arange(width))[..., None] * draw(st.integers(-30, 30))
    return ((noise + ramp) % 256).astype(np.uint8)


class TestPng:
    @pytest.mark.slow
    @given(pictures_of_bytes())
    def test_the_filter_is_its_naive_twin(self, picture):
        rows, step = picture.reshape(len(picture), -1), picture.shape[2]
        out = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
        getattr(paeth_filter, "py_func", paeth_filter)(rows, step, out)
        np.testing.assert_array_equal(out, naive.paeth(rows, step))
        paeth_filter(rows, step, out)
        np.testing.assert_array_equal(out, naive.paeth(rows, step))

    @pytest.mark.slow
    @given(pictures_of_bytes())
    def test_pillow_reads_what_was_written(self, picture):
        for pixels, mode in (
            (np.repeat(picture, 3 // picture.shape[2], axis=2), "RGB"),
            (picture[..., 0], "L"),
            (picture[..., 0].astype(np.uint16) * 257 - 1, "I;16"),
        ):
            with Image.open(io.BytesIO(png(pixels))) as read:
                assert read.mode == mode
                np.testing.assert_array_equal(np.asarray(read), pixels)
            assert png(pixels.copy()) == png(pixels)

    def test_it_takes_pictures_that_lie_apart_in_memory(self):
        pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
        for part in (pixels[::2, 1::3], pixels[::-1, :, 1], pixels.astype(np.uint16)[:, ::2, 0]):
            with Image.open(io.BytesIO(png(part))) as read:
                np.testing.assert_array_equal(np.asarray(read), part)

    def test_a_plain_picture_is_small(self):
        assert len(png(np.zeros((128, 128, 3), np.uint8))) < 400
        assert len(png(np.full((128, 128), 7, np.uint8))) < 300


class TestDepthScale:
    @pytest.mark.parametrize("bits", [8, 16])
    @pytest.mark.parametrize("unknown", [False, True])
    def test_it_is_undone_within_half_a_step(self, bits, unknown):
        depth = np.random.default_rng(1).normal(3, 4, (5, 6, 7)).astype(np.float16)
        low, high = depth.min(axis=(1, 2)), depth.max(axis=(1, 2))
        scale = DepthScale.of(low, high, bits, unknown=unknown)
        said = scale.to_dict()
        numbers = scale.apply(depth)
        assert numbers.dtype == (np.uint8 if bits == 8 else np.uint16)
        assert numbers.min() == (1 if unknown else 0)
        assert numbers.max() == 2**bits - 1
        undone = eval(said["to_depth"], {}, {"value": numbers.astype(np.float64), **said})
        step = (said["high"] - said["low"]) / (2**bits - 1 - unknown)
        assert np.abs(undone - depth.astype(np.float64)).max() <= step / 2 * (1 + 1e-9)
        assert said["unknown"] == (0 if unknown else None)

    def test_unknown_depth_is_0_and_nothing_else_is(self):
        depth = np.array([[1, np.nan], [2, 4]], np.float16)
        nothing = np.full(2, np.nan, np.float16)
        scale = DepthScale.of(
            np.array([1, np.nan], np.float16), np.array([4, np.nan], np.float16), 8, unknown=True
        )
        assert scale.apply(depth).tolist() == [[1, 0], [86, 255]]
        assert DepthScale.of(nothing, nothing, 8, unknown=True).apply(depth)[0, 1] == 0

    def test_depth_that_is_everywhere_the_same(self):
        flat = np.full(3, 2.5, np.float16)
        scale = DepthScale.of(flat, flat, 16, unknown=False)
        assert scale.apply(flat).tolist() == [0, 0, 0]
        said = scale.to_dict()
        assert eval(said["to_depth"], {}, {"value": 0, **said}) == 2.5
