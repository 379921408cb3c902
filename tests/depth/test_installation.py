"""What is found out about an installation, and the trial of its devices."""

from __future__ import annotations

import ctypes
import json
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from fgbgpack.depth import installation
from fgbgpack.depth.installation import (
    Driver,
    GpuFacts,
    Trial,
    chosen,
    examine,
    run_trial,
    try_device,
)
from fgbgpack.depth.libraries import Library
from fgbgpack.depth.providers import DRIVER, Execution, Gpu
from fgbgpack.version import __version__

PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")


def has_gpu_driver():
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return False
    return True


class TestExamine:
    def test_it_is_silent_and_can_be_written_as_json(self, capfd):
        found = examine()
        assert capfd.readouterr() == ("", "")
        document = json.loads(json.dumps(found.to_dict()))
        assert document["software"]["fgbgpack"] == __version__
        assert document["software"]["onnxruntime"] == onnxruntime.__version__
        assert document["providers"] == onnxruntime.get_available_providers()
        assert document["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
        assert document["cores"] >= 1
        assert set(document["libraries"]) == {"cuda", "tensorrt"}
        assert [entry["version"] for entry in document["onnxruntime"]] == [
            version for _, version in found.onnxruntime
        ]

    @pytest.mark.skipif(has_gpu_driver(), reason="this machine has an NVIDIA driver")
    def test_a_machine_without_a_driver(self):
        driver = examine().driver
        assert (driver.found, driver.cuda, driver.gpus) == (False, None, ())
        assert driver.problem == f"{DRIVER} was not found"

    @pytest.mark.skipif(not has_gpu_driver(), reason="there is no NVIDIA driver")
    def test_a_machine_with_a_driver(self):
        driver = examine().driver
        assert driver.found
        assert driver.cuda is not None
        assert (driver.problem is None) == bool(driver.gpus)

    def test_variables_that_matter(self, monkeypatch):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "")
        variables = examine().variables
        assert variables["CUDA_VISIBLE_DEVICES"] == "0"
        assert "NVIDIA_TF32_OVERRIDE" not in variables

    def test_folders(self, tmp_path, monkeypatch):
        models = tmp_path / "models"
        monkeypatch.setenv("FGBGPACK_MODELS", str(models))
        before = {folder.purpose: folder for folder in examine().folders}
        assert (before["depth models"].path, before["depth models"].used) == (str(models), 0)
        assert before["depth models"].writable
        assert before["depth models"].free
        (models / "tensorrt" / "scene").mkdir(parents=True)
        (models / "m.onnx").write_bytes(bytes(1000))
        (models / "tensorrt" / "scene" / "m.engine").write_bytes(bytes(300))
        after = {folder.purpose: folder.used for folder in examine().folders}
        assert (after["depth models"], after["TensorRT engines"]) == (1000, 300)
        assert after["temporary files"] is None

    @pytest.mark.parametrize(
        ("line", "cuda"),
        [
            ("cuda: Optional[str] = '13.0'", "13.0"),
            ("cuda = '12.8'", "12.8"),
            ("cuda: Optional[str] = None", None),
        ],
    )
    def test_pytorch_is_described_without_importing_it(self, tmp_path, monkeypatch, line, cuda):
        folder = tmp_path / "torch-9.9.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 9.9\n")
        (tmp_path / "torch").mkdir()
        (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('it is not to be imported')\n")
        (tmp_path / "torch" / "version.py").write_text(f"__version__ = '9.9'\n{line}\nhip = None\n")
        monkeypatch.delitem(sys.modules, "torch", raising=False)
        monkeypatch.syspath_prepend(str(tmp_path))
        found = examine()
        assert (found.torch, found.torch_cuda) == ("9.9", cuda)
        assert "torch" not in sys.modules


def library(name, *, found=False, required=True):
    return Library(name, required, None, None, None if found else "it is not there")


def findings(providers=PROVIDERS, driver=None, supported=13000, cuda=(), tensorrt=()):
    driver = driver or Driver(True, "580.65.06", "13.0", None, (GpuFacts("A", 1 << 34, 1 << 33, "9.0"),))
    needed = {"cuda": cuda, "tensorrt": (*cuda, *tensorrt)}
    return list(installation._findings(providers, driver, supported, needed))


@pytest.fixture
def for_cuda_13(monkeypatch):
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0")
    monkeypatch.setattr(onnxruntime, "__version__", "1.31.1")
    monkeypatch.setattr(installation, "onnxruntime_packages", lambda: [("onnxruntime-gpu", "1.31.1")])


@pytest.mark.usefixtures("for_cuda_13")
class TestFindings:
    def test_nothing_is_wrong(self):
        there = (library("libcublas.so.13", found=True), library("libcufft.so.12", required=False))
        assert findings(cuda=there, tensorrt=(library("libnvinfer.so.10", found=True),)) == []

    def test_missing_libraries_are_named_once_with_the_command_for_them(self):
        cuda, tensorrt = findings(
            cuda=(library("libcublas.so.13"), library("libcudnn.so.9")),
            tensorrt=(library("libnvinfer.so.10"),),
        )
        assert "libcublas.so.13 and libcudnn.so.9" in cuda.text
        assert cuda.command == 'pip install "onnxruntime-gpu[cuda,cudnn]"'
        assert "libnvinfer.so.10" in tensorrt.text
        assert "libcublas" not in tensorrt.text
        assert tensorrt.command is not None
        assert tensorrt.command.endswith('"tensorrt-cu13~=10.0"')

    def test_no_driver(self):
        (finding,) = findings(driver=Driver(found=False, problem="it was not found"), supported=0)
        assert finding.command is None
        assert "--gpus all" in finding.text

    def test_a_driver_that_finds_no_gpu(self, monkeypatch):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
        (finding,) = findings(driver=Driver(True, problem="it answers CUDA_ERROR_NO_DEVICE (100)"))
        assert "CUDA_ERROR_NO_DEVICE (100)" in finding.text
        assert "CUDA_VISIBLE_DEVICES is '7'" in finding.text

    def test_an_old_driver_comes_before_libraries_for_it(self):
        (finding,) = findings(supported=12040, cuda=(library("libcublas.so.13"),))
        assert "12.4" in finding.text
        assert finding.command is not None
        assert "<1.27" in finding.command

    def test_an_old_gpu(self):
        gpus = (
            GpuFacts("New", None, None, "7.5"),
            GpuFacts("Old", None, None, "6.1"),
            GpuFacts("?", None, None, None),
        )
        (finding,) = findings(driver=Driver(True, None, "13.0", None, gpus))
        assert finding.text.startswith("Old has compute capability 6.1")

    def test_a_build_for_cpus(self):
        (finding,) = findings(providers=("CPUExecutionProvider",))
        assert "CUDAExecutionProvider" in finding.text

    def test_two_builds_at_a_time(self, monkeypatch):
        both = [("onnxruntime", "1.32.0"), ("onnxruntime-gpu", "1.31.1")]
        monkeypatch.setattr(installation, "onnxruntime_packages", lambda: both)
        (finding,) = findings(providers=("CPUExecutionProvider",))
        assert finding.text.startswith("onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1 overwrite")

    def test_two_builds_of_cudnn(self, monkeypatch):
        real = metadata.version
        monkeypatch.setattr(metadata, "version", lambda name: "9.1" if "cudnn" in name else real(name))
        (finding,) = findings()
        assert finding.command == (
            "pip uninstall -y nvidia-cudnn-cu12 nvidia-cudnn-cu13 && pip install nvidia-cudnn-cu13"
        )


@pytest.fixture
def with_a_gpu(monkeypatch):
    """Lets trials go as far as their own process where there is no GPU."""
    monkeypatch.setattr(Gpu, "require", lambda *_: Gpu(None))


class TestTrial:
    def test_the_cpu_works(self, capfd):
        assert try_device("cpu") == Trial("cpu", opened=True)
        assert capfd.readouterr() == ("", "")

    @pytest.mark.skipif(has_gpu_driver(), reason="this machine has an NVIDIA driver")
    @pytest.mark.parametrize("device", ["cuda", "tensorrt"])
    def test_a_gpu_that_is_not_there(self, capfd, device):
        trial = try_device(device)
        assert not trial.opened
        assert not trial.works
        assert capfd.readouterr() == ("", "")

    @pytest.mark.slow
    @pytest.mark.usefixtures("with_a_gpu")
    @pytest.mark.skipif(has_gpu_driver(), reason="this machine has an NVIDIA driver")
    def test_the_process_of_a_trial_says_what_the_session_says(self, capfd):
        trial = try_device("cuda")
        assert not trial.opened
        assert trial.refusal is not None
        assert not trial.refusal.startswith("cuda:")
        assert capfd.readouterr() == ("", "")

    @pytest.mark.usefixtures("with_a_gpu")
    @pytest.mark.parametrize(
        ("code", "expected"),
        [
            ("import sys; print('at last', file=sys.stderr); sys.exit(3)", "exit status 3: at last"),
            ("import os; os._exit(9)", "exit status 9"),
            ("print('no JSON')", "exit status 0"),
            ("print('[1]')", "exit status 0"),
        ],
    )
    def test_a_trial_that_ends_its_process(self, monkeypatch, capfd, code, expected):
        monkeypatch.setattr(installation, "_TRIAL", code)
        trial = try_device("cuda")
        assert not trial.opened
        assert trial.refusal == f"the trial ended with {expected}"
        assert capfd.readouterr() == ("", "")

    @pytest.mark.usefixtures("with_a_gpu")
    def test_a_trial_that_hangs(self, monkeypatch):
        monkeypatch.setattr(installation, "_TRIAL", "import time; time.sleep(60)")
        monkeypatch.setattr(installation, "_TRIAL_SECONDS", 0.1)
        trial = try_device("cuda")
        assert trial.refusal is not None
        assert trial.refusal.startswith("the trial did not end")

    @pytest.mark.usefixtures("with_a_gpu")
    def test_noise_before_the_result(self, monkeypatch, capfd):
        fields = {"device": "cuda", "opened": True, "difference": 0.001}
        monkeypatch.setattr(
            installation, "_TRIAL", f"print('noise'); print({json.dumps(json.dumps(fields))})"
        )
        assert try_device("cuda") == Trial("cuda", opened=True, difference=0.001)
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize(("error", "works"), [(0.0, True), (0.01, True), (0.5, False)])
    def test_depth_is_compared_with_that_of_the_cpu(self, monkeypatch, error, works):
        # A session on the CPU stands for one on the GPU, with an error that is added.
        monkeypatch.setattr(installation, "Execution", lambda device: Execution(device="cpu"))
        real, calls = installation._depth, []

        def depth(session):
            calls.append(session)
            found = real(session)
            if len(calls) == 1:
                found[0, 3, 4] += error * np.ptp(found)
            return found

        monkeypatch.setattr(installation, "_depth", depth)
        trial = Trial(**run_trial("cuda"))
        assert trial.opened
        assert trial.works is works
        assert trial.difference == pytest.approx(error, abs=0.5 * error)

    def test_the_device_that_is_taken(self):
        no, wrong, yes = (
            Trial("tensorrt", opened=False, refusal="no"),
            Trial("cuda", opened=True, refusal="wrong"),
            Trial("cpu", opened=True),
        )
        assert chosen([no, yes]) is yes
        # auto takes what opens, so one that computes wrongly is not passed over.
        assert chosen([no, wrong, yes]) is wrong
        assert chosen([no]) is no


def test_the_version_of_the_driver_is_text_or_unknown(monkeypatch, tmp_path):
    assert installation._driver_version() is None or has_gpu_driver()
    told = tmp_path / "version"
    told.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\nGCC 12.3.0\n"
    )
    monkeypatch.setattr(installation, "_KERNEL_MODULE", Path(told))
    if not has_gpu_driver():
        assert installation._driver_version() == "580.65.06"
