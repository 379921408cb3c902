"""Execution providers of ONNX Runtime, their memory, and NVIDIA's driver."""

from __future__ import annotations

import onnxruntime
import pytest
from onnx_models import (
    gray,
    halving,
)

from fgbgpack.depth import DepthSession, Execution, load_model
from fgbgpack.depth.graph import compile_graph
from fgbgpack.depth.providers import (
    Gpu,
    affordable_batch,
    cpu_fallbacks,
    engine_folder,
    is_out_of_memory,
    picture_bytes,
    provider_options,
)


def test_options_of_the_providers(tmp_path):
    shapes = {"images": ((1, 256, 192, 3), (16, 256, 192, 3)), "step": ((1,), (1,))}
    cpu, cuda, tensorrt = (
        provider_options(device, "fp32", shapes, tmp_path) for device in ("cpu", "cuda", "tensorrt")
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
    bound = provider_options("tensorrt", "fp16", {"images": ((4, 8, 8, 3),) * 2}, None)[0][1]
    assert bound == {"trt_fp16_enable": "True"}


def test_engines_are_kept_apart_by_all_that_they_depend_on(tmp_path, monkeypatch):
    monkeypatch.setenv("FGBGPACK_MODELS", str(tmp_path / "models"))
    sizes = {"sample": (6, 8), "rendered": (12, 16)}
    given = {"precision": "fp32", "sizes": sizes, "gpu": "A"}
    model, other = load_model(gray(tmp_path / "m.onnx")), load_model(halving(tmp_path / "n.onnx"))
    folder = engine_folder(model, **given)
    assert folder == engine_folder(model, **given)
    assert folder.parent == tmp_path / "models" / "tensorrt"
    changes = [
        {"precision": "fp16"},
        {"sizes": {**sizes, "n": 16}},
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
            "cuDeviceTotalMem_v2": self._total,
            "cuDeviceGetAttribute": self._attribute,
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

    def _total(self, total, device):
        total._obj.value = 16 << 30
        return 0

    def _attribute(self, value, attribute, device):
        value._obj.value = {75: 8, 76: 6}[attribute] + device.value
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


def test_memory_and_compute_capability_of_each_gpu():
    assert Gpu(Driver()).total_bytes == 16 << 30
    assert (Gpu(Driver()).capability, Gpu(Driver(), 1).capability) == ((8, 6), (9, 7))
    for name, what in (("cuDeviceTotalMem_v2", "total_bytes"), ("cuDeviceGetAttribute", "capability")):
        assert getattr(Gpu(Driver(name)), what) is None
        assert getattr(Gpu(Driver("cuDeviceGet")), what) is None
