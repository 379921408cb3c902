from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from depth_sessions import depth_of, open_session, pictures
from onnx import helper
from onnx_models import (
    FLOAT,
    afraid_of_light,
    card,
    echo,
    gray,
    halving,
    not_a_number,
    write_network,
)
from refusals import refused

from fgbgpack.depth import DepthSession, Execution, load_model, rounding_bound
from fgbgpack.depth import providers as depth_providers
from fgbgpack.depth.binding import Buffers
from fgbgpack.depth.providers import Gpu
from fgbgpack.depth.session import IN_FLIGHT, _even_part
from fgbgpack.errors import DepthModelError

RNG = np.random.default_rng(11)


def has_gpu_driver():
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def test_fills_the_callers_array_and_tells_its_extent(tmp_path):
    session = open_session(echo(tmp_path / "m.onnx", channel=1))
    images = pictures(5)
    np.testing.assert_array_equal(depth_of(session, images), images[..., 1])
    assert session.provider == "CPUExecutionProvider"
    assert session.passed_over == ()


@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 100])
def test_any_number_of_pictures(tmp_path, n):
    session = open_session(echo(tmp_path / "m.onnx"))
    images = pictures(n)
    np.testing.assert_array_equal(depth_of(session, images), images[..., 0])


@pytest.mark.parametrize("bound", [1, 3])
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_a_network_that_is_bound_to_a_batch_size(tmp_path, bound, n):
    path = echo(
        tmp_path / "m.onnx",
        input=("input", FLOAT, [bound, 3, "h", "w"]),
        output=("output", FLOAT, [bound, 1, "h", "w"]),
    )
    session = open_session(path)
    assert session.batch_size == bound
    images = pictures(n)
    np.testing.assert_array_equal(depth_of(session, images), images[..., 0])


def test_a_network_without_a_batch_axis_in_its_answer(tmp_path):
    nodes = [
        helper.make_node("Gather", ["input", "channel"], ["red"], axis=1),
        helper.make_node("Squeeze", ["red", "axes"], ["output"]),
    ]
    path = write_network(
        tmp_path / "m.onnx",
        nodes,
        input=("input", FLOAT, [1, 3, 6, 8]),
        output=("output", FLOAT, [6, 8]),
        weights={"channel": np.array([0]), "axes": np.array([0, 1])},
        card=card(input={"size": {"fixed": [6, 8]}}, output={"axes": "HW"}),
    )
    images = pictures(4)
    np.testing.assert_array_equal(depth_of(open_session(path), images), images[..., 0])


def test_batch_size_follows_from_the_sizes(tmp_path):
    path = gray(tmp_path / "m.onnx")
    sizes = [(64, 1), (128, 1), (128, 2), (128, 4), (1024, 1)]
    found = [open_session(path, height=s, width=s, scale=k).batch_size for s, k in sizes]
    assert found == [16, 4, 1, 1, 1]
    large = card(input={"size": {"fixed": [256, 256]}})
    path = gray(tmp_path / "n.onnx", card=large)
    assert open_session(path, height=64, width=64).batch_size == 1


def test_non_contiguous_pictures(tmp_path):
    session = open_session(echo(tmp_path / "m.onnx"))
    images = pictures(4, width=16)[:, :, ::2]
    np.testing.assert_array_equal(depth_of(session, images), images[..., 0])


@pytest.mark.parametrize(
    ("images", "out"),
    [
        (np.zeros((2, 6, 9, 3), np.uint8), np.zeros((2, 6, 8), np.float16)),
        (np.zeros((2, 6, 8, 4), np.uint8), np.zeros((2, 6, 8), np.float16)),
        (np.zeros((2, 6, 8, 3), np.float32), np.zeros((2, 6, 8), np.float16)),
        (np.zeros((2, 6, 8, 3), np.uint8), np.zeros((3, 6, 8), np.float16)),
        (np.zeros((2, 6, 8, 3), np.uint8), np.zeros((2, 6, 8), np.float32)),
        (np.zeros((2, 6, 8, 3), np.uint8), np.zeros((2, 6, 16), np.float16)[:, :, ::2]),
        (np.zeros((2, 6, 8, 3), np.uint8), np.zeros((2, 8, 6), np.float16).transpose(0, 2, 1)),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(tmp_path, images, out):
    session = open_session(gray(tmp_path / "m.onnx"))
    with pytest.raises(ValueError, match=r"found .* expected"):
        session.run(images, out)
    assert not out.any()


def test_many_threads_on_one_session_give_what_one_gives(tmp_path):
    session = open_session(halving(tmp_path / "m.onnx"), height=16, width=24, scale=2)
    batches = [pictures(n, 32, 48) for n in (1, 7, 40, 3, 16, 33, 2, 40)]
    expected = [depth_of(session, batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for got, reference in zip(
                pool.map(lambda b: depth_of(session, b), batches), expected, strict=True
            ):
                np.testing.assert_array_equal(got.view(np.uint16), reference.view(np.uint16))


def test_a_network_that_gives_nan_fails_at_once(tmp_path):
    path = not_a_number(tmp_path / "m.onnx")
    with refused(DepthModelError, "network-output-not-finite") as caught:
        open_session(path)
    assert str(path) in caught.value.message
    assert caught.value.exit_status == 5


def test_a_network_that_gives_nan_for_some_pictures(tmp_path):
    session = open_session(afraid_of_light(tmp_path / "m.onnx"))
    images = pictures(9)
    depth_of(session, images)
    images[[2, 7]] = 255
    with refused(DepthModelError, "network-output-not-finite", "2 of 9 pictures"):
        session.run(images, np.empty((9, 6, 8), np.float16))


def test_values_beyond_float16(tmp_path):
    document = card(output={"transform": [{"multiply": 1000}]})
    with refused(DepthModelError, "network-output-not-finite"):
        open_session(gray(tmp_path / "m.onnx", card=document))


def test_a_network_that_cannot_run_at_this_size(tmp_path):
    # The sum of two branches that agree in size only for even heights and widths.
    nodes = [
        helper.make_node("Conv", ["input", "weights"], ["half"], strides=[2, 2]),
        helper.make_node("Resize", ["half", "", "twice"], ["again"], mode="nearest"),
        helper.make_node("Gather", ["input", "channel"], ["red"], axis=1),
        helper.make_node("Add", ["again", "red"], ["output"]),
    ]
    weights = {
        "weights": np.ones((1, 3, 2, 2), np.float32),
        "twice": np.array([1, 1, 2, 2], np.float32),
        "channel": np.array([0]),
    }
    path = write_network(tmp_path / "m.onnx", nodes, weights=weights)
    open_session(path, height=8, width=10)
    with pytest.raises(DepthModelError) as caught:
        open_session(path, height=9, width=10)
    assert caught.value.code in ("model-not-runnable", "network-failed")
    assert str(path) in caught.value.message


def test_an_operator_that_no_provider_has(tmp_path):
    nodes = [helper.make_node("Depthify", ["input"], ["output"], domain="com.example")]
    path = write_network(tmp_path / "m.onnx", nodes)
    with refused(DepthModelError, "model-not-runnable") as caught:
        open_session(path)
    assert str(path) in caught.value.message


def test_weights_beside_the_file(tmp_path, monkeypatch):
    path = gray(tmp_path / "there" / "m.onnx", external=True)
    monkeypatch.chdir(path.parent)
    session = open_session(Path("m.onnx"))
    images = np.full((1, 6, 8, 3), (8, 16, 32), np.uint8)
    assert (depth_of(session, images) == 18).all()


def test_the_smallest_float16_survive(tmp_path):
    document = card(output={"transform": [{"multiply": 2.0**-24}]})
    images = pictures(1)
    depth = depth_of(open_session(echo(tmp_path / "m.onnx", card=document)), images)
    np.testing.assert_array_equal(depth.astype(np.float64), images[..., 0] * 2.0**-24)


SCRIPT = """
import json, sys
import numpy as np
from fgbgpack.depth import DepthSession, Execution, load_model
from fgbgpack.errors import DepthModelError
try:
    session = DepthSession(load_model(sys.argv[1]), (8, 8), execution=Execution(device=sys.argv[2]))
    subnormal = float((np.full(8, 1e-40, np.float32) * np.float32(1))[0])
    answer = {"provider": session.provider, "passed_over": session.passed_over, "subnormal": subnormal}
    print(json.dumps(answer))
except DepthModelError as exc:
    print(json.dumps({"code": exc.code, "exit_code": exc.exit_status, "problems": exc.problems}))
"""


def in_a_new_process(path, device):
    done = subprocess.run([sys.executable, "-c", SCRIPT, path, device], capture_output=True, text=True)
    return json.loads(done.stdout), done.stderr


@pytest.mark.slow
def test_the_callers_arithmetic_is_left_alone(tmp_path):
    # The first session of a process could make the calling thread flush subnormal numbers to zero.
    answer, _ = in_a_new_process(gray(tmp_path / "m.onnx"), "cpu")
    assert answer["provider"] == "CPUExecutionProvider"
    assert answer["subnormal"] > 0


@pytest.mark.slow
@pytest.mark.skipif(has_gpu_driver(), reason="this machine has an NVIDIA driver")
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_gpu_that_is_not_there(tmp_path, device):
    answer, noise = in_a_new_process(gray(tmp_path / "m.onnx"), device)
    assert (answer["code"], answer["exit_code"]) == ("device-unavailable", 5)
    assert [problem.split(":")[0] for problem in answer["problems"]] == [device]
    assert noise == ""


@pytest.mark.slow
@pytest.mark.skipif(has_gpu_driver(), reason="this machine has an NVIDIA driver")
def test_auto_takes_the_cpu_where_there_is_no_gpu_and_says_why(tmp_path):
    answer, noise = in_a_new_process(gray(tmp_path / "m.onnx"), "auto")
    assert answer["provider"] == "CPUExecutionProvider"
    assert [line.split(":")[0] for line in answer["passed_over"]] == ["tensorrt", "cuda"]
    assert noise == ""


@pytest.mark.skipif(not has_gpu_driver(), reason="there is no NVIDIA driver")
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_gpu_gives_what_the_cpu_gives(tmp_path, monkeypatch, device, precision):
    monkeypatch.setenv("FGBGPACK_MODELS", str(tmp_path))
    path = gray(tmp_path / "m.onnx")
    try:
        session = open_session(path, device=device, precision=precision)
    except DepthModelError as exc:
        pytest.skip(str(exc))
    assert session.provider == depth_providers.PROVIDERS[device]
    images = pictures(40)
    there, here = depth_of(session, images), depth_of(open_session(path), images)
    np.testing.assert_allclose(there, here, atol=0.25)


class PretendedGpu(Gpu):
    """Lets a session be opened for a GPU where there is none: what follows is ONNX Runtime's own doing."""

    def __init__(self):
        super().__init__(None)

    name = "Pretended GPU"
    free_bytes = 1 << 34
    pinned_bytes = 0

    def pinned(self, size):
        PretendedGpu.pinned_bytes += size
        return np.empty(size, np.uint8)


@pytest.mark.skipif(has_gpu_driver(), reason="this machine has an NVIDIA driver")
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_libraries_that_are_missing_are_named_and_nothing_falls_back(tmp_path, monkeypatch, capfd, device):
    if depth_providers.PROVIDERS[device] not in onnxruntime.get_available_providers():
        pytest.skip("this build of ONNX Runtime is for CPUs only")
    monkeypatch.setenv("FGBGPACK_MODELS", str(tmp_path))
    monkeypatch.setattr(Gpu, "require", lambda *_: PretendedGpu())
    with refused(DepthModelError, "device-unavailable") as caught:
        open_session(gray(tmp_path / "m.onnx"), device=device)
    assert caught.value.problems[0].startswith(f"{device}: libraries that ")
    assert "pip install" in caught.value.problems[0]
    assert capfd.readouterr() == ("", "")


class ShortOfMemory:
    """Stands before a real session and fails, in ONNX Runtime's words, for more than ``most`` pictures."""

    def __init__(
        self, session, most, words="Failed to allocate memory for requested buffer of size 1073741824"
    ):
        self._session, self._most, self._words = session, most, words
        self.tried = []

    def run_with_ortvaluevector(self, options, names, feeds, *rest):
        count = feeds[names.index("images")].shape()[0]
        self.tried.append(count)
        if count > self._most:
            raise RuntimeError(f"[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : {self._words}")
        self._session.run_with_ortvaluevector(options, names, feeds, *rest)


def test_batches_are_halved_where_memory_runs_out(tmp_path):
    session = open_session(gray(tmp_path / "m.onnx"))
    images = pictures(70)
    expected = depth_of(session, images)
    session._session = short = ShortOfMemory(session._session, 5)
    np.testing.assert_array_equal(depth_of(session, images), expected)
    assert short.tried[:3] == [24, 12, 6]
    assert set(short.tried[3:]) == {3, 2}
    assert session.batch_size == 3
    assert [notice.split(":")[0] for notice in session.notices] == [
        f"Not enough memory for {count} pictures at a time" for count in (24, 12, 6)
    ]
    short.tried.clear()
    depth_of(session, images)
    assert max(short.tried) == 3


def test_threads_that_run_out_of_memory_together(tmp_path):
    session = open_session(gray(tmp_path / "m.onnx"))
    images = pictures(64)
    expected = depth_of(session, images)
    session._session = ShortOfMemory(session._session, 8)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: depth_of(session, images), range(8)):
            np.testing.assert_array_equal(found, expected)
    assert session.batch_size == 8
    assert len(session.notices) == 2


class Recorder:
    """Stands before a real session and notes the shapes of what it is fed, and what is in flight."""

    def __init__(self, session):
        self._session, self._lock = session, threading.Lock()
        self.shapes, self.in_flight, self.most_in_flight = set(), 0, 0

    def run_with_ortvaluevector(self, options, names, feeds, *rest):
        with self._lock:
            self.shapes.add(tuple(tuple(feed.shape()) for feed in feeds))
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self._session.run_with_ortvaluevector(options, names, feeds, *rest)
        with self._lock:
            self.in_flight -= 1


class TestOnADevice:
    """How a GPU is fed: whole batches in buffers of its own, some in flight. The device here is the CPU."""

    @pytest.fixture
    def session(self, tmp_path):
        session = open_session(gray(tmp_path / "m.onnx"))
        session._on_host, session._buffers = False, Buffers(PretendedGpu().pinned)
        session.batch_size = 8
        session._session = Recorder(session._session)
        return session

    @pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 20])
    def test_gives_what_the_host_gives_in_batches_of_one_size(self, session, tmp_path, n):
        images = pictures(n)
        expected = depth_of(open_session(tmp_path / "m.onnx"), images)
        np.testing.assert_array_equal(depth_of(session, images), expected)
        given, _ = session.buffers(n)
        given[...] = images
        np.testing.assert_array_equal(depth_of(session, given), expected)
        assert session._session.shapes <= {((8, 6, 8, 3), (1,))}

    def test_pictures_are_written_to_pinned_memory(self, session):
        images, mask = session.buffers(16)
        assert (images.shape, mask.shape) == ((16, 6, 8, 3), (16, 6, 8))
        assert PretendedGpu.pinned_bytes >= images.nbytes

    def test_some_batches_are_in_flight_and_no_more(self, session):
        images = pictures(40)
        expected = depth_of(session, images)
        with ThreadPoolExecutor(6) as pool:
            for found in pool.map(lambda _: depth_of(session, images), range(30)):
                np.testing.assert_array_equal(found, expected)
        assert session._session.most_in_flight <= IN_FLIGHT

    def test_memory_that_runs_out_halves_the_batches(self, session):
        images = pictures(20)
        expected = depth_of(session, images)
        session._session = short = ShortOfMemory(session._session, 5)
        np.testing.assert_array_equal(depth_of(session, images), expected)
        assert short.tried == [8, 4, 4, 4, 4, 4]
        assert session.batch_size == 4


@pytest.mark.parametrize(
    ("per_call", "most", "expected"),
    [(250, 128, 125), (256, 128, 128), (2, 128, 2), (1, 8, 1), (300, 128, 100)],
)
def test_batches_divide_what_mostly_comes_evenly(per_call, most, expected):
    assert _even_part(per_call, most) == expected


def test_one_picture_that_does_not_fit(tmp_path):
    session = open_session(gray(tmp_path / "m.onnx"))
    session._session = short = ShortOfMemory(session._session, 0)
    with refused(DepthModelError, "network-failed"):
        depth_of(session, pictures(9))
    assert short.tried == [9, 3, 1]
    assert session.batch_size == 1


def test_another_failure_is_not_taken_for_want_of_memory(tmp_path):
    session = open_session(gray(tmp_path / "m.onnx"))
    session._session = short = ShortOfMemory(
        session._session, 0, "CUDA failure 700: an illegal memory access"
    )
    with refused(DepthModelError, "network-failed", "CUDA failure 700"):
        depth_of(session, pictures(9))
    assert short.tried == [9]


def test_a_network_that_is_bound_to_a_batch_size_cannot_be_halved(tmp_path):
    path = echo(
        tmp_path / "m.onnx",
        input=("input", FLOAT, [4, 3, "h", "w"]),
        output=("output", FLOAT, [4, 1, "h", "w"]),
    )
    session = open_session(path)
    session._session = short = ShortOfMemory(session._session, 2)
    with refused(DepthModelError, "network-failed"):
        depth_of(session, pictures(9))
    assert short.tried == [4]


def test_fp16_on_a_cpu_works_and_is_commented(tmp_path):
    path = gray(tmp_path / "m.onnx")
    session, plain = open_session(path, precision="fp16"), open_session(path)
    assert (session.precision, plain.precision) == ("fp16", "fp32")
    assert (len(session.notices), plain.notices) == (1, [])
    assert "fp16 is for GPUs" in session.notices[0]
    images = pictures(9)
    np.testing.assert_allclose(depth_of(session, images), depth_of(plain, images), rtol=2**-10)


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "step"), [(2, 0.0), (2, 2.0**-10), (4, 2.0**-8)])
def test_a_real_network_equals_the_plain_way(scale, step):
    model = load_model("fgbgpack-scene")
    session = DepthSession(model, (64, 96), scale=scale, execution=Execution(device="cpu"))
    images = (
        pictures(5, 64 * scale, 96 * scale) // 2 + np.linspace(0, 127, 96 * scale, dtype=np.uint8)[:, None]
    )
    depth = np.empty((5, 64, 96), np.float16)
    minimum, maximum = session.run(images, depth, step=step)
    plain = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    source = model.card.input
    planes = ((images - np.float32(source.mean)) / np.float32(source.std)).transpose(0, 3, 1, 2)
    answer = plain.run(None, {source.name: planes.astype(np.float32)})[0]
    expected = answer.reshape(5, 64, answer.shape[2] // 64, 96, answer.shape[3] // 96).mean(axis=(2, 4))
    low, high = float(minimum.min()), float(maximum.max())
    np.testing.assert_allclose(depth, expected, atol=(high - low) * rounding_bound(low, high, step) + 1e-5)
    np.testing.assert_array_equal(depth % (step or 2**-24), 0)


def test_a_real_network_does_not_depend_on_batches():
    session = DepthSession(load_model("fgbgpack-scene"), (32, 48), execution=Execution(device="cpu"))
    images = pictures(40, 32, 48)
    together = depth_of(session, images)
    alone = np.concatenate([depth_of(session, images[i : i + 1]) for i in range(40)])
    np.testing.assert_array_equal(together.view(np.uint16), alone.view(np.uint16))
