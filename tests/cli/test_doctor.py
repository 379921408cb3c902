"""``fgbgpack doctor``: what it prints depends on the machine, so tests look at its structure."""

from __future__ import annotations

import ctypes
import json
import re
from typing import Any

import pytest
from command_line import problems, rejected, run

from fgbgpack.depth import installation
from fgbgpack.depth.installation import Trial
from fgbgpack.depth.providers import DRIVER
from fgbgpack.version import __version__


def has_gpu_driver() -> bool:
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return False
    return True


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> dict[str, Trial]:
    """What the trials come to, by device; tests may change it."""
    outcome = {
        "tensorrt": Trial("tensorrt", opened=False, refusal="there is no TensorRT"),
        "cuda": Trial("cuda", opened=True, difference=0.00123, notices=("a notice",)),
        "cpu": Trial("cpu", opened=True),
    }
    monkeypatch.setattr(installation, "try_device", lambda device: outcome[device])
    return outcome


def test_the_cpu_works_everywhere() -> None:
    result = run("doctor", "--device", "cpu")
    assert (result.exit_code, result.stderr) == (0, "")
    titles = re.findall(r"^[A-Z].*$", result.stdout, re.MULTILINE)
    assert [title for title in titles if not title.startswith(("Libraries", "To run"))] == [
        "Versions",
        "NVIDIA driver",
        "Folders",
        "Trials",
    ]
    assert re.search(rf"^  fgbgpack +{re.escape(__version__)}", result.stdout, re.MULTILINE)
    assert re.search(r"^  cpu +works$", result.stdout, re.MULTILINE)
    assert result.stdout.endswith("\n--device cpu works: it takes cpu.\n")


@pytest.mark.slow
def test_auto_always_finds_a_device() -> None:
    result = run("doctor", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    assert "error" not in report
    assert [trial["device"] for trial in report["trials"]] == ["tensorrt", "cuda", "cpu"]
    assert report["trials"][-1]["works"] is True
    (taken,) = [trial for trial in report["trials"] if trial["device"] == report["taken"]]
    assert taken["works"] is True


@pytest.mark.skipif(has_gpu_driver(), reason="this machine has an NVIDIA driver")
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_gpu_that_is_not_there(device: str) -> None:
    result = run("doctor", "--device", device)
    assert result.exit_code == 5
    assert re.search(rf"^  {device} +does not work$", result.stdout, re.MULTILINE)
    assert [problem.split(":")[0] for problem in problems(result)] == [device]
    # The facts and the error are one object.
    result = run("doctor", "--device", device, "--json")
    assert result.exit_code == 5
    report = json.loads(result.stdout)
    assert report["error"]["code"] == "device-unavailable"
    assert report["error"]["problems"] == problems(result)
    assert [trial["works"] for trial in report["trials"]] == [False]
    assert report["software"]["fgbgpack"] == __version__


def test_auto_takes_the_first_device_that_works(trials: dict[str, Trial]) -> None:
    result = run("doctor")
    assert result.exit_code == 0
    assert re.search(r"^  tensorrt   does not work\n +there is no TensorRT$", result.stdout, re.MULTILINE)
    assert re.search(
        r"^  cuda       works, differs from the CPU by 0.123% of the range\n +a notice$",
        result.stdout,
        re.MULTILINE,
    )
    assert result.stdout.endswith("\n--device auto works: it takes cuda.\n")


def test_a_device_that_computes_wrongly_is_an_error_even_for_auto(trials: dict[str, Trial]) -> None:
    trials["cuda"] = Trial("cuda", opened=True, difference=0.4, refusal="it computes another depth")
    report = json.loads(run("doctor", "--json").stdout)
    assert (report["taken"], report["error"]["code"]) == ("cuda", "device-unavailable")
    assert run("doctor").exit_code == run("doctor", "--device", "cuda").exit_code == 5
    assert run("doctor", "--device", "cpu").exit_code == 0


def test_what_takes_pages_is_cut_in_the_middle(trials: dict[str, Trial]) -> None:
    words = [f"word{i}" for i in range(500)]
    trials["tensorrt"] = Trial("tensorrt", opened=False, refusal=" ".join(words))
    shown = run("doctor").stdout
    assert "word0" in shown
    assert "word499" in shown
    assert "word250" not in shown
    assert json.loads(run("doctor", "--json").stdout)["trials"][0]["refusal"] == " ".join(words)


def test_it_fits_80_columns(trials: dict[str, Trial]) -> None:
    for line in run("doctor").stdout.splitlines():
        # Paths and commands are not wrapped, so that they can be copied.
        assert len(line) <= 80 or "/" in line or "\\" in line or "pip " in line, line


def test_a_wrong_device() -> None:
    assert rejected("doctor", "--device", "gpu") == ["--device"]


def test_json_of_libraries_and_driver(trials: dict[str, Trial]) -> None:
    report: dict[str, Any] = json.loads(run("doctor", "--json").stdout)
    assert set(report["driver"]) == {"found", "version", "cuda", "problem", "gpus"}
    for device in ("cuda", "tensorrt"):
        for library in report["libraries"][device]:
            assert set(library) == {"name", "required", "path", "package", "problem"}
    assert all(set(finding) == {"text", "command"} for finding in report["findings"])
