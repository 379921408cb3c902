from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import helper
from onnx_models import (
    FLOAT,
    TCMONODEPTH_CARD,
    afraid_of_light,
    card,
    echo,
    gray,
    halving,
    not_a_number,
    write_network,
)

from fgbgpack.depth import DepthSession, Execution, load_model, rounding_bound
from fgbgpack.depth import providers as depth_providers
from fgbgpack.depth.graph import compile_graph
from fgbgpack.depth.kernels import half_extent
from fgbgpack.depth.providers import (
    Gpu,
    affordable_batch,
    cpu_fallbacks,
    engine_folder,
    is_out_of_memory,
    picture_bytes,
    provider_options,
)
from fgbgpack.errors import DepthModelError

SHARED_MODEL = Path(__file__).parents[3] / "shared/models/tcmonodepth-small/tcmonodepth-small.onnx"
RNG = np.random.default_rng(11)


def has_gpu_driver():
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def open_session(path, **options):
    size = options.pop("height", 6), options.pop("width", 8)
    execution = Execution(options.pop("precision", "fp32"), options.pop("device", "cpu"))
    return DepthSession(load_model(path), size, execution=execution, **options)


def depth_of(session, images):
    height, width = session._sample
    out = np.full((len(images), height, width), np.nan, np.float16)
    minimum, maximum = session.run(images, out)
    np.testing.assert_array_equal(minimum, out.min(axis=(1, 2)))
    np.testing.assert_array_equal(maximum, out.max(axis=(1, 2)))
    return out


def pictures(n, height=6, width=8):
    return RNG.integers(0, 256, (n, height, width, 3), np.uint8)


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
    with pytest.raises(DepthModelError) as caught:
        open_session(path)
    assert caught.value.code == "network-output-not-finite"
    assert str(path) in caught.value.message
    assert caught.value.exit_status == 5


def test_a_network_that_gives_nan_for_some_pictures(tmp_path):
    session = open_session(afraid_of_light(tmp_path / "m.onnx"))
    images = pictures(9)
    depth_of(session, images)
    images[[2, 7]] = 255
    with pytest.raises(DepthModelError, match="2 of 9 pictures") as caught:
        session.run(images, np.empty((9, 6, 8), np.float16))
    assert caught.value.code == "network-output-not-finite"


def test_values_beyond_float16(tmp_path):
    document = card(output={"transform": [{"multiply": 1000}]})
    with pytest.raises(DepthModelError) as caught:
        open_session(gray(tmp_path / "m.onnx", card=document))
    assert caught.value.code == "network-output-not-finite"


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
    with pytest.raises(DepthModelError) as caught:
        open_session(path)
    assert caught.value.code == "model-not-runnable"
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


def test_the_callers_arithmetic_is_left_alone(tmp_path):
    # The first session of a process could make the calling thread flush subnormal numbers to zero.
    answer, _ = in_a_new_process(gray(tmp_path / "m.onnx"), "cpu")
    assert answer["provider"] == "CPUExecutionProvider"
    assert answer["subnormal"] > 0


@pytest.mark.skipif(has_gpu_driver(), reason="this machine has an NVIDIA driver")
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_gpu_that_is_not_there(tmp_path, device):
    answer, noise = in_a_new_process(gray(tmp_path / "m.onnx"), device)
    assert (answer["code"], answer["exit_code"]) == ("device-unavailable", 5)
    assert [problem.split(":")[0] for problem in answer["problems"]] == [device]
    assert noise == ""


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


@pytest.mark.skipif(has_gpu_driver(), reason="this machine has an NVIDIA driver")
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_libraries_that_are_missing_are_named_and_nothing_falls_back(tmp_path, monkeypatch, capfd, device):
    if depth_providers.PROVIDERS[device] not in onnxruntime.get_available_providers():
        pytest.skip("this build of ONNX Runtime is for CPUs only")
    monkeypatch.setenv("FGBGPACK_MODELS", str(tmp_path))
    monkeypatch.setattr(Gpu, "require", lambda *_: PretendedGpu())
    with pytest.raises(DepthModelError) as caught:
        open_session(gray(tmp_path / "m.onnx"), device=device)
    assert caught.value.code == "device-unavailable"
    assert caught.value.problems[0].startswith(f"{device}: libraries that ")
    assert "pip install" in caught.value.problems[0]
    assert capfd.readouterr() == ("", "")


# Options of providers


def test_options_of_the_providers(tmp_path):
    cpu, cuda, tensorrt = (
        provider_options(device, "fp32", (1, 16), {"images": (256, 192, 3)}, tmp_path)
        for device in ("cpu", "cuda", "tensorrt")
    )
    assert cpu == [("CPUExecutionProvider", {})]
    assert [name for name, _ in cuda] == ["CUDAExecutionProvider"]
    assert cuda[0][1]["use_tf32"] == "0"
    assert [name for name, _ in tensorrt] == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    assert tensorrt[1] == cuda[0]
    assert tensorrt[0][1] == {
        "trt_fp16_enable": "False",
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(tmp_path),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(tmp_path),
        "trt_profile_min_shapes": "images:1x256x192x3",
        "trt_profile_opt_shapes": "images:16x256x192x3",
        "trt_profile_max_shapes": "images:16x256x192x3",
    }
    # A network that is bound to a batch size has no range of sizes; and no folder, no cache.
    bound = provider_options("tensorrt", "fp16", (4, 4), {"images": (8, 8, 3)}, None)[0][1]
    assert bound == {"trt_fp16_enable": "True"}


def test_engines_are_kept_apart_by_all_that_they_depend_on(tmp_path, monkeypatch):
    monkeypatch.setenv("FGBGPACK_MODELS", str(tmp_path / "models"))
    sizes = {"sample": (6, 8), "rendered": (12, 16)}
    given = {"precision": "fp32", "batch": (1, 8), "sizes": sizes, "gpu": "A"}
    model, other = load_model(gray(tmp_path / "m.onnx")), load_model(halving(tmp_path / "n.onnx"))
    folder = engine_folder(model, **given)
    assert folder == engine_folder(model, **given)
    assert folder.parent == tmp_path / "models" / "tensorrt"
    changes = [
        {"precision": "fp16"},
        {"batch": (1, 16)},
        {"sizes": {"sample": (6, 8), "rendered": (6, 8)}},
        {"gpu": "B"},
    ]
    folders = {folder, engine_folder(other, **given)} | {engine_folder(model, **given | c) for c in changes}
    monkeypatch.setattr(onnxruntime, "__version__", "9.9")
    assert len(folders | {engine_folder(model, **given)}) == 7
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert len(folders | {engine_folder(model, **given)}) == 7


@pytest.mark.parametrize(
    ("free", "each", "expected"),
    [
        (0, 1 << 20, 1),
        (1 << 30, 1 << 30, 1),
        (1 << 34, 1 << 26, 64),
        ((1 << 34) - 1, 1 << 26, 32),
        (1 << 20, 0, 1 << 19),
    ],
)
def test_batch_from_free_memory(free, each, expected):
    assert affordable_batch(free, each) == expected


def test_bytes_that_a_picture_takes(tmp_path):
    compiled = compile_graph(load_model(gray(tmp_path / "m.onnx")), (32, 16), scale=2)
    rendered, sample = 64 * 32, 32 * 16
    # At most: the floats that go in and their copy under the network's own name; all else is smaller.
    most = picture_bytes(compiled)
    assert 2 * 3 * 4 * rendered <= most <= 2 * 3 * 4 * rendered + 3 * rendered + 64
    larger = compile_graph(load_model(gray(tmp_path / "m.onnx")), (64, 32), scale=2)
    assert picture_bytes(larger) == pytest.approx(4 * most, rel=0.01)
    assert most > 4 * sample


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            "bfc_arena.cc:376 AllocateRawInternal Failed to allocate memory for requested buffer of size 4",
            True,
        ),
        ("CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc", True),
        ("CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED", True),
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED", True),
        ("Error Code 2: OutOfMemory (Requested size was 1 bytes.)", True),
        ("std::bad_alloc", True),
        ("CUDA failure 700: an illegal memory access was encountered", False),
        ("Got invalid dimensions for input", False),
    ],
)
def test_what_out_of_memory_sounds_like(error, expected):
    assert is_out_of_memory(RuntimeError(error)) is expected
    assert is_out_of_memory(MemoryError())


class ShortOfMemory:
    """Stands before a real session and fails, in ONNX Runtime's words, for more than ``most`` pictures."""

    def __init__(
        self, session, most, words="Failed to allocate memory for requested buffer of size 1073741824"
    ):
        self._session, self._most, self._words = session, most, words
        self.tried = []

    def io_binding(self):
        self._bound = self._session.io_binding()
        return self

    def bind_input(self, name, device, index, dtype, shape, pointer):
        if name == "images":
            self.count = shape[0]
        self._bound.bind_input(name, device, index, dtype, shape, pointer)

    def bind_output(self, *arguments):
        self._bound.bind_output(*arguments)

    def run_with_iobinding(self, binding):
        self.tried.append(self.count)
        if self.count > self._most:
            raise RuntimeError(f"[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : {self._words}")
        self._session.run_with_iobinding(self._bound)


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
    real = session._session
    local = threading.local()

    class PerThread:
        def io_binding(self):
            local.short = ShortOfMemory(real, 8)
            return local.short.io_binding()

        def run_with_iobinding(self, binding):
            binding.run_with_iobinding(binding)

    session._session = PerThread()
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: depth_of(session, images), range(8)):
            np.testing.assert_array_equal(found, expected)
    assert session.batch_size == 8
    assert len(session.notices) == 2


def test_one_picture_that_does_not_fit(tmp_path):
    session = open_session(gray(tmp_path / "m.onnx"))
    session._session = short = ShortOfMemory(session._session, 0)
    with pytest.raises(DepthModelError) as caught:
        depth_of(session, pictures(9))
    assert caught.value.code == "network-failed"
    assert short.tried == [9, 3, 1]
    assert session.batch_size == 1


def test_another_failure_is_not_taken_for_want_of_memory(tmp_path):
    session = open_session(gray(tmp_path / "m.onnx"))
    session._session = short = ShortOfMemory(
        session._session, 0, "CUDA failure 700: an illegal memory access"
    )
    with pytest.raises(DepthModelError, match="CUDA failure 700") as caught:
        depth_of(session, pictures(9))
    assert caught.value.code == "network-failed"
    assert short.tried == [9]


def test_a_network_that_is_bound_to_a_batch_size_cannot_be_halved(tmp_path):
    path = echo(
        tmp_path / "m.onnx",
        input=("input", FLOAT, [4, 3, "h", "w"]),
        output=("output", FLOAT, [4, 1, "h", "w"]),
    )
    session = open_session(path)
    session._session = short = ShortOfMemory(session._session, 2)
    with pytest.raises(DepthModelError) as caught:
        depth_of(session, pictures(9))
    assert caught.value.code == "network-failed"
    assert short.tried == [4]


class Part:
    """As ONNX Runtime tells of the nodes that a provider got."""

    def __init__(self, ep_name, *ops):
        self.ep_name, self._ops = ep_name, ops

    def get_nodes(self):
        return [type("Node", (), {"op_type": op}) for op in self._ops]


class Assigned:
    def __init__(self, *parts):
        self._parts = parts

    def get_provider_graph_assignment_info(self):
        return self._parts


def test_nodes_that_stay_on_the_cpu_are_told_of(tmp_path):
    cuda, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    shapes = Part(cpu, "Shape", "Gather", "Concat")
    assert cpu_fallbacks(Assigned(Part(cuda, "Conv", "Relu"), shapes), cuda) is None
    notice = cpu_fallbacks(
        Assigned(Part(cuda, "Conv"), Part(cpu, "GridSample"), shapes, Part(cpu, "GridSample")), cuda
    )
    assert notice is not None
    assert notice.startswith("2 of the 6 nodes of the network run on the CPU")
    assert "GridSample (2)" in notice
    assert "Gather" not in notice
    assert cpu_fallbacks(object(), cuda) is not None
    assert cpu_fallbacks(object(), cpu) is None


def test_onnx_runtime_tells_where_nodes_are(tmp_path):
    model = load_model(halving(tmp_path / "m.onnx"))
    session = DepthSession(model, (6, 8), execution=Execution(device="cpu"))._session
    if not hasattr(session, "get_provider_graph_assignment_info"):
        pytest.skip("this version of ONNX Runtime does not tell")
    # Asked of a session on the CPU as though it were meant for CUDA: it is all cpu_fallbacks.
    notice = str(cpu_fallbacks(session, "CUDAExecutionProvider"))
    assert "Conv (1)" in notice


class Driver:
    """Answers as NVIDIA's driver does: 0 for success, results through pointers."""

    def __init__(self, failing=""):
        self._failing = failing
        self.retained = self.pushed = 0

    def __getattr__(self, name):
        if name == self._failing:
            return lambda *arguments: 2
        return {
            "cuDeviceGet": self._get,
            "cuDeviceGetName": self._name,
            "cuDevicePrimaryCtxRetain": lambda context, device: self._count("retained", 1),
            "cuDevicePrimaryCtxRelease_v2": lambda device: self._count("retained", -1),
            "cuCtxPushCurrent_v2": lambda context: self._count("pushed", 1),
            "cuCtxPopCurrent_v2": lambda context: self._count("pushed", -1),
            "cuMemGetInfo_v2": self._memory,
        }[name]

    def _count(self, what, change):
        setattr(self, what, getattr(self, what) + change)
        return 0

    def _get(self, device, index):
        device._obj.value = index
        return 0

    def _name(self, text, size, device):
        text.value = b"NVIDIA Example"
        return 0

    def _memory(self, free, total):
        assert self.retained == self.pushed == 1
        free._obj.value, total._obj.value = 5 << 30, 16 << 30
        return 0


def test_free_memory_is_asked_of_the_driver():
    driver = Driver()
    assert (Gpu(driver).free_bytes, Gpu(driver).name) == (5 << 30, "NVIDIA Example")
    assert (driver.retained, driver.pushed) == (0, 0)
    failing = ["cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent_v2", "cuMemGetInfo_v2"]
    for name in failing:
        driver = Driver(name)
        assert Gpu(driver).free_bytes is None
        assert (driver.retained, driver.pushed) == (0, 0)
    assert Gpu(Driver("cuDeviceGetName")).name == ""


def test_fp16_on_a_cpu_works_and_is_commented(tmp_path):
    path = gray(tmp_path / "m.onnx")
    session, plain = open_session(path, precision="fp16"), open_session(path)
    assert (session.precision, plain.precision) == ("fp16", "fp32")
    assert (len(session.notices), plain.notices) == (1, [])
    assert "fp16 is for GPUs" in session.notices[0]
    images = pictures(9)
    np.testing.assert_allclose(depth_of(session, images), depth_of(plain, images), rtol=2**-10)


@pytest.fixture(scope="session")
def tcmonodepth(tmp_path_factory):
    if not SHARED_MODEL.is_file():
        pytest.skip("../shared/models/tcmonodepth-small is not there")
    folder = tmp_path_factory.mktemp("tcmonodepth")
    path = folder / SHARED_MODEL.name
    shutil.copyfile(SHARED_MODEL, path)
    path.with_suffix(".json").write_text(json.dumps(TCMONODEPTH_CARD))
    return load_model(path)


@pytest.mark.parametrize(("scale", "step"), [(1, 0.0), (2, 2.0**-10), (3, 2.0**-8)])
def test_tcmonodepth_equals_the_plain_way(tcmonodepth, scale, step):
    session = DepthSession(tcmonodepth, (64, 96), scale=scale, execution=Execution(device="cpu"))
    images = (
        pictures(5, 64 * scale, 96 * scale) // 2 + np.linspace(0, 127, 96 * scale, dtype=np.uint8)[:, None]
    )
    depth = np.empty((5, 64, 96), np.float16)
    minimum, maximum = session.run(images, depth, step=step)
    plain = onnxruntime.InferenceSession(str(tcmonodepth.path), providers=["CPUExecutionProvider"])
    answer = plain.run(None, {"input": images.transpose(0, 3, 1, 2).astype(np.float32)})[0]
    expected = answer.reshape(5, 64, scale, 96, scale).mean(axis=(2, 4))
    low, high = float(minimum.min()), float(maximum.max())
    np.testing.assert_allclose(depth, expected, atol=(high - low) * rounding_bound(low, high, step) + 1e-5)
    np.testing.assert_array_equal(depth % (step or 2**-24), 0)


def test_tcmonodepth_does_not_depend_on_batches(tcmonodepth):
    session = DepthSession(tcmonodepth, (32, 48), execution=Execution(device="cpu"))
    images = pictures(40, 32, 48)
    together = depth_of(session, images)
    alone = np.concatenate([depth_of(session, images[i : i + 1]) for i in range(40)])
    np.testing.assert_array_equal(together.view(np.uint16), alone.view(np.uint16))


# The kernel


def naive_half_extent(values):
    """Least and greatest of each row by Python's own numbers (-0 before 0), and how many are not finite."""
    least, greatest, wrong = [], [], 0
    for row in values:
        ordered = sorted(row, key=lambda v: (float(v), not np.signbit(v)))
        least.append(ordered[0])
        greatest.append(ordered[-1])
        wrong += not all(np.isfinite(v) for v in row)
    return np.array(least, np.float16), np.array(greatest, np.float16), wrong


def extent(kernel, values):
    lo, hi = np.empty(len(values), np.uint16), np.empty(len(values), np.uint16)
    wrong = kernel(values.view(np.uint16), lo, hi)
    return lo.view(np.float16), hi.view(np.float16), wrong


halves = hnp.arrays(
    np.uint16,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40),
    elements=st.integers(0, 65535),
).map(lambda bits: bits.view(np.float16))


@settings(deadline=None)
@given(halves)
def test_half_extent_equals_its_naive_twin(values):
    finite = np.where(np.isfinite(values), values, np.float16(0.5))
    for kernel in {half_extent, getattr(half_extent, "py_func", half_extent)}:
        ref, comp = naive_half_extent(finite), extent(kernel, finite)
        np.testing.assert_array_equal(comp[0].view(np.uint16), ref[0].view(np.uint16))
        np.testing.assert_array_equal(comp[1].view(np.uint16), ref[1].view(np.uint16))
        assert comp[2] == ref[2] == 0
        lo, hi, wrong = extent(kernel, values)
        assert wrong == sum(not np.isfinite(row).all() for row in values)
        assert (~np.isfinite(lo) | ~np.isfinite(hi)).sum() == wrong


@pytest.mark.parametrize("bits", [0x7C00, 0xFC00, 0x7C01, 0x7E00, 0xFE00, 0xFFFF, 0x7FFF])
def test_half_extent_finds_one_wrong_value(bits):
    values = np.full((3, 100), 65504, np.float16)
    values[1] = -65504
    assert extent(half_extent, values)[2] == 0
    values.view(np.uint16)[1, 57] = bits
    assert extent(half_extent, values)[2] == 1
