from __future__ import annotations

from dataclasses import replace

import pytest

from fgbgpack.document import DeviceInfo
from fgbgpack.pipeline.devices import with_device

A = DeviceInfo("CUDAExecutionProvider", "A", "1.31.1")
B = DeviceInfo("CUDAExecutionProvider", "B", "1.31.1")
#: Shards of ten samples.
SHARDS = [range(i, min(i + 10, 95)) for i in range(0, 95, 10)]


@pytest.mark.parametrize("there", [[], SHARDS[:3], SHARDS])
def test_the_first_device_has_all(there):
    assert with_device((), A, there) == (A,)
    assert with_device((A,), A, there) == (A,)


def test_another_device_has_what_the_first_did_not_make():
    there = [SHARDS[i] for i in (0, 1, 4, 9)]
    assert with_device((A,), B, there) == (replace(A, ranges=((0, 20), (40, 50), (90, 95))), B)
    assert with_device((A,), B, []) == (B,)
    assert with_device((A,), replace(A, onnxruntime="1.32.0"), there)[0].ranges == (
        (0, 20),
        (40, 50),
        (90, 95),
    )


def test_a_device_that_comes_back_is_the_last_again():
    devices = with_device((A,), B, SHARDS[:3])
    devices = with_device(devices, A, SHARDS[:5])
    assert devices == (replace(B, ranges=((30, 50),)), A)
    assert with_device(devices, B, SHARDS[:6]) == (replace(A, ranges=((0, 30), (50, 60))), B)


def test_what_is_lost_and_made_again_is_of_the_device_that_makes_it():
    devices = with_device((A,), B, SHARDS[:4])
    assert with_device(devices, B, [SHARDS[i] for i in (0, 2, 3, 6)]) == (
        replace(A, ranges=((0, 10), (20, 40))),
        B,
    )
