"""The grid that depth is rounded to."""

from __future__ import annotations

import functools

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import helper
from onnx_models import FLOAT, FLOAT16

from fgbgpack.depth import graph as depth_graph
from fgbgpack.depth import rounding_bound
from fgbgpack.depth.nodes import Nodes


@functools.cache
def grid_session():
    nodes = Nodes(13)
    nodes.add("Cast", depth_graph._to_grid(nodes, "values"), to=FLOAT16, output="depth")
    shape = ["n", 1, "h", "w"]
    graph = helper.make_graph(
        nodes.take(),
        "grid",
        [
            helper.make_tensor_value_info("values", FLOAT, shape),
            helper.make_tensor_value_info("step", FLOAT, [1]),
        ],
        [helper.make_tensor_value_info("depth", FLOAT16, shape)],
        nodes.constants,
    )
    model = helper.make_model(graph, ir_version=7, opset_imports=[helper.make_opsetid("", 13)])
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def to_grid(values, step):
    values = np.asarray(values, np.float32)
    given = {"values": values.reshape(1, 1, 1, -1), "step": np.array([step], np.float32)}
    return grid_session().run(None, given)[0].reshape(values.shape)


# Values of all magnitudes that float16 has; their range may be small beside them, and the step beside both.
values_of_depth = st.tuples(
    hnp.arrays(np.float32, 12, elements=st.floats(-1, 1, width=32, allow_subnormal=False)),
    st.integers(-22, 14),
    st.sampled_from([0.0, 0.5, -1.0, 0.999]),
    st.sampled_from([1.0, 0.1, 1e-3]),
).map(lambda t: ((t[0] * t[3] + t[2]) * 2.0 ** t[1]).astype(np.float32))
steps = st.one_of(st.just(0.0), st.integers(-24, 4).map(lambda exponent: 2.0**exponent))


@pytest.mark.slow
@settings(max_examples=200)
@given(values_of_depth, steps)
def test_grid(values, step):
    depth = to_grid(values, step)
    exact = values.astype(np.float64)
    expected = np.round(exact / step) * step if step else exact
    np.testing.assert_array_equal(depth, expected.astype(np.float32).astype(np.float16))
    if step >= np.abs(values).max() / 2048:
        np.testing.assert_array_equal(depth, expected)  # multiples of the step are exact as float16
    assert (np.diff(depth[np.argsort(values)]) >= 0).all()
    low, high = float(depth.min()), float(depth.max())
    error = np.abs(depth - exact).max()
    assert error <= rounding_bound(low, high, step) * (high - low) * (1 + 1e-12) or low == high


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 70000.0, 3e38])
@pytest.mark.parametrize("step", [0.0, 2.0**-9])
def test_grid_keeps_what_is_wrong_wrong(wrong, step):
    values = np.linspace(0, 1, 6, dtype=np.float32)
    values[2] = wrong
    np.testing.assert_array_equal(np.isfinite(to_grid(values, step)), np.arange(6) != 2)


def test_rounding_bound():
    # Up to 2048 steps float16 adds nothing; beyond, half its own spacing; alone, that is all there is.
    assert rounding_bound(0.0, 1.0, 2**-9) == 2**-10
    assert rounding_bound(-0.5, 1.5, 2**-10) == 2**-12
    assert rounding_bound(1000.0, 1001.0, 2**-9) == (2**-9 + 2**-1) / 2
    assert rounding_bound(0.0, 1.5, 0.0) == 2**-11 / 1.5
    assert rounding_bound(0.0, 2**-20, 0.0) == 2**-5
    assert rounding_bound(3.0, 3.0, 2**-9) == 0
