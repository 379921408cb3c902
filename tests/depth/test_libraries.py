"""NVIDIA's libraries: which are needed, where they are, and what installs those that are missing."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
from shared_objects import write_shared_object

from fgbgpack.depth import libraries
from fgbgpack.depth.libraries import (
    Refusal,
    build_refusal,
    capability_refusal,
    cuda_major,
    driver_refusal,
    install_command,
    is_missing_library,
    libraries_refusal,
    missing_libraries,
    needed_libraries,
    onnxruntime_packages,
    replace_command,
    version_text,
)

CUDA = "CUDAExecutionProvider"
needs_gpu_build = pytest.mark.skipif(
    sys.platform != "linux" or CUDA not in onnxruntime.get_available_providers(),
    reason="needs the GPU build of ONNX Runtime, on Linux",
)
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="shared objects of Linux")


class TestNeeded:
    @pytest.mark.parametrize("offset", [0, 16])
    def test_what_a_shared_object_is_linked_with(self, tmp_path, offset):
        names = ("libcublasLt.so.13", "libcuda.so.1", "libc.so.6")
        path = write_shared_object(tmp_path / "libexample.so.1", needed=names, offset=offset)
        assert needed_libraries(path) == names

    def test_a_shared_object_that_is_linked_with_nothing(self, tmp_path):
        assert needed_libraries(write_shared_object(tmp_path / "libexample.so.1")) == ()

    @needs_linux
    def test_a_real_shared_object(self):
        (path,) = Path(onnxruntime.__file__).parent.glob("capi/onnxruntime_pybind11_state*.so")
        assert "libc.so.6" in needed_libraries(path)

    @pytest.mark.parametrize("content", [b"", b"MZ", b"\x7fELF\x02\x01", b"\x7fELF\x01\x01" + bytes(100)])
    def test_other_files_and_broken_ones(self, tmp_path, content):
        (tmp_path / "file").write_bytes(content)
        assert needed_libraries(tmp_path / "file") == ()
        assert needed_libraries(tmp_path / "none") == ()

    def test_a_shared_object_that_is_cut_off(self, tmp_path):
        path = write_shared_object(tmp_path / "libexample.so.1", needed=["libc.so.6"])
        path.write_bytes(path.read_bytes()[:150])
        assert needed_libraries(path) == ()


SCRIPT = """
import json, sys
from fgbgpack.depth.libraries import libraries, missing_libraries
found = [[library.name, library.required, library.path] for library in libraries(sys.argv[1])]
print(json.dumps({"found": found, "missing": missing_libraries(sys.argv[1])}))
"""


def in_a_new_process(device, *, library_path=None, python_path=None):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    if library_path is not None:
        environment["LD_LIBRARY_PATH"] = str(library_path)
    if python_path is not None:
        environment["PYTHONPATH"] += os.pathsep + str(python_path)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, device], capture_output=True, text=True, env=environment
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


@needs_gpu_build
@pytest.mark.slow
def test_libraries_are_found_where_the_loader_finds_them(tmp_path):
    wanted = [library.name for library in libraries.libraries("cuda")]
    folder = tmp_path / "lib"
    for name in wanted:
        write_shared_object(folder / name)
    there = in_a_new_process("cuda", library_path=folder)
    assert there["missing"] == []
    assert [name for name, _, _ in there["found"]] == wanted
    # Those of pip come before those of the loader's path.
    places = {Path(path).parent for _, _, path in there["found"]}
    assert folder in places or all("nvidia" in place.parts for place in places)


@needs_gpu_build
@pytest.mark.slow
def test_tensorrt_of_pip_is_found_in_its_own_folder(tmp_path):
    package = tmp_path / "tensorrt_libs"
    own = [library.name for library in libraries.libraries("tensorrt") if library.name.startswith("libnv")]
    own = [name for name in own if not name.startswith("libnvrtc")]
    assert "libnvinfer.so.10" in own
    for name in own:
        write_shared_object(package / name)
    (package / "__init__.py").write_text("raise ImportError('it need not be imported')\n")
    there = in_a_new_process("tensorrt", python_path=tmp_path)
    assert not set(own) & set(there["missing"])


@needs_gpu_build
@pytest.mark.slow
def test_libraries_of_pip_are_found_in_another_folder_of_packages(tmp_path):
    # ONNX Runtime itself looks beside its own folder only, and PyTorch's may be elsewhere.
    own = [library.name for library in libraries.libraries("cuda") if library.required and not library.found]
    if not own:
        pytest.skip("all libraries are here")
    for name in own:
        write_shared_object(tmp_path / "nvidia/somewhere/lib" / name)
    assert in_a_new_process("cuda", python_path=tmp_path)["missing"] == []


def test_a_build_without_the_provider_needs_no_libraries(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert libraries.libraries("cuda") == libraries.libraries("tensorrt") == ()
    assert missing_libraries("cuda") == ()


@needs_gpu_build
def test_libraries_are_looked_up_silently(capfd):
    found = libraries.libraries("tensorrt")
    assert capfd.readouterr() == ("", "")
    names = [library.name for library in found]
    assert len(set(names)) == len(names)
    # Whether the provider names it or loads it late.
    assert "libcudnn.so.9" in {library.name for library in found if library.required}
    assert "libcuda.so.1" not in names
    for library in found:
        assert library.found == (library.problem is None)
        assert library.path is None or (library.found and Path(library.path).is_absolute())


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Non-zero status code returned while running Conv "
            "node. Status Message: cuDNN is unavailable or disabled for CUDA Execution Provider: dlopen "
            "failed for libcudnn.so: libcudnn.so: cannot open shared object file: No such file",
            True,
        ),
        ("cuDNN is unavailable or disabled for CUDA Execution Provider: LoadLibrary failed", True),
        ("cuFFT is unavailable for CUDA Execution Provider: dlopen failed for libcufft.so.12", True),
        ("Please install TensorRT libraries as mentioned in the GPU requirements page", True),
        ("libcublasLt.so.12: cannot open shared object file: No such file or directory", True),
        ("CUDA failure 700: an illegal memory access was encountered", False),
        ("Failed to allocate memory for requested buffer of size 1073741824", False),
        ("Could not find an implementation for Depthify(1) node", False),
    ],
)
def test_what_a_missing_library_sounds_like(error, expected):
    assert is_missing_library(RuntimeError(error)) is expected


@pytest.mark.parametrize(
    ("version", "cuda", "expected"),
    [
        ("1.31.1", "13.0", 'pip install "onnxruntime-gpu[cuda,cudnn]"'),
        ("1.26.0", "12.8", 'pip install "onnxruntime-gpu[cuda,cudnn]"'),
        ("1.27.0", "13.0", 'pip install --upgrade "onnxruntime-gpu[cuda,cudnn]>=1.28"'),
        ("1.20.2", "12.2", 'pip install --upgrade "onnxruntime-gpu[cuda,cudnn]>=1.28"'),
    ],
)
def test_the_command_that_installs_libraries(monkeypatch, version, cuda, expected):
    monkeypatch.setattr(onnxruntime, "__version__", version)
    monkeypatch.setattr(onnxruntime, "cuda_version", cuda)
    assert install_command("cuda") == expected
    major = 12 if version == "1.26.0" else 13
    assert install_command("tensorrt") == f'{expected} "tensorrt-cu{major}~=10.0"'


def test_the_version_of_cuda(monkeypatch):
    monkeypatch.setattr(onnxruntime, "cuda_version", "12.8")
    assert cuda_major() == 12
    # A build that does not tell is linked with it, or is a build without.
    monkeypatch.setattr(onnxruntime, "cuda_version", "")
    assert cuda_major() in (None, 12, 13)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert cuda_major() is None
    assert (version_text(12040), version_text(13000), version_text(12080)) == ("12.4", "13.0", "12.8")


def test_drivers_and_gpus_that_are_too_old(monkeypatch):
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0")
    assert driver_refusal(13000, "cuda") is None
    assert driver_refusal(13020, "cuda") is None
    # Unknown.
    assert driver_refusal(0, "cuda") is None
    old = driver_refusal(12040, "tensorrt")
    assert old is not None
    assert "12.4" in old.reason
    assert old.command == 'pip install "onnxruntime-gpu[cuda,cudnn]>=1.21,<1.27" "tensorrt-cu12~=10.0"'
    # Too old for any version.
    older = driver_refusal(11080, "cuda")
    assert older is not None
    assert older.command is None
    assert capability_refusal("A", (7, 5)) is None
    pascal = capability_refusal("A", (6, 1))
    assert pascal is not None
    assert pascal.command == 'pip install "onnxruntime-gpu[cuda,cudnn]>=1.21,<1.27"'
    monkeypatch.setattr(onnxruntime, "cuda_version", "12.8")
    assert driver_refusal(12000, "cuda") is None
    assert driver_refusal(11080, "cuda") is not None
    assert capability_refusal("A", (6, 1)) is None


def test_a_refusal_ends_with_its_command():
    assert str(Refusal("there is none")) == "there is none"
    assert str(Refusal("there is none", "pip install it")) == "there is none: pip install it"


def test_libraries_that_are_there_are_not_to_blame(monkeypatch):
    monkeypatch.setattr(libraries, "missing_libraries", lambda device: ())
    refusal = libraries_refusal("cuda", CUDA)
    assert refusal.command is None
    assert "fgbgpack doctor" in refusal.reason


def test_packages_that_own_the_same_module(tmp_path, monkeypatch):
    before = onnxruntime_packages()
    assert len(before) == 1
    for name, module in (("onnxruntime-directml", "onnxruntime"), ("onnxruntime-genai", "onnxruntime_genai")):
        folder = tmp_path / f"{name.replace('-', '_')}-9.9.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n")
        (folder / "RECORD").write_text(f"{module}/__init__.py,,\n")
        # Files that are not there do not count.
        (tmp_path / module).mkdir()
        (tmp_path / module / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    importlib.invalidate_caches()
    assert onnxruntime_packages() == sorted([*before, ("onnxruntime-directml", "9.9")])
    refusal = build_refusal(CUDA)
    assert "onnxruntime-directml 9.9" in refusal.reason
    if (command := replace_command()) is not None:
        assert command.startswith("pip uninstall -y ")
        assert "onnxruntime-directml" in command


@pytest.mark.parametrize("machine", ["aarch64", "arm64"])
def test_a_platform_without_a_gpu_build(monkeypatch, machine):
    monkeypatch.setattr(libraries.platform, "machine", lambda: machine)
    assert replace_command() is None
    assert build_refusal(CUDA).command is None
