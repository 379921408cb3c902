"""The script that checks and measures a GPU, on the CPU; and that its checks fail when they should."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import gpu
import gpu_checks
import gpu_loader
import gpu_rates
import numpy as np
import pytest
from documents import ROOT
from gpu_report import WIDTHS, Report, Settings, failed_in, numbers_in, read_lines, table

CASES = {case.name: case for case in gpu_checks.CASES}
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


def run_script(*arguments, folder):
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
    )


def has_gpu():
    return gpu_rates.gpu_of("cuda") is not None


@pytest.mark.slow
def test_what_is_known_is_shown_when_it_is_interrupted(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--device", "cpu", "--quick"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if line.rstrip().endswith(": correctness"):
            process.terminate()
    shown = process.stdout.read()
    process.stdout.close()
    process.stderr.close()
    assert process.wait() == 1
    assert "FAILED: it was interrupted" in shown
    assert "| a session opens" in shown


@pytest.fixture
def settings(tmp_path):
    return Settings("cpu", tmp_path, float("inf"), quick=True)


@pytest.mark.slow
def test_the_whole_script_on_a_cpu(tmp_path):
    finished = run_script("--device", "cpu", "--quick", "--json", "found.json", folder=tmp_path)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    head, _, shown = finished.stdout.partition("\n\n")
    assert "FAILED" not in finished.stdout
    lines = shown.rstrip().splitlines()
    assert all(line.startswith("|") and line.endswith("|") and len(line) <= 100 for line in lines)
    document = json.loads((tmp_path / "found.json").read_text())
    assert list(document["sections"]) == list(gpu.SECTIONS)
    assert document["failed"] == []
    assert all(section["ended"] == "" for section in document["sections"].values())
    assert f"{sum(len(s['checks']) for s in document['sections'].values())} checks" in head
    numbers = document["sections"]["end_to_end"]["numbers"]
    assert {name.rpartition(" ")[0] for name in numbers} == {
        "end to end guided",
        "end to end scene",
        "end to end enc-dec",
    }
    assert all(0 < one["part of the time in runs"] <= 1 for one in numbers.values())
    # Nothing but the JSON is left behind.
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


@pytest.mark.slow
@pytest.mark.skipif(has_gpu(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so_and_still_ends_with_the_table(tmp_path):
    finished = run_script("--quick", "--only", "environment", "--only", "kernels", folder=tmp_path)
    assert finished.returncode == 1
    assert "FAILED: a session opens" in finished.stdout
    assert finished.stdout.rstrip().splitlines()[-1].startswith("|")
    document = json.loads((tmp_path / "gpu.json").read_text())
    assert "there is no NVIDIA driver" in document["sections"]["kernels"]["errors"][0]["text"]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_case_holds_on_the_cpu(settings, name):
    report = Report()
    gpu_checks.correctness(settings, report, cases=[CASES[name]])
    assert report.failed() == []
    found = numbers_in(report.lines)["differences"][name]
    assert found["fp32"]["to the CPU"] == 0
    assert 0 <= found["fp16"]["to the CPU"] < found["fp16"]["allowed"]


def test_a_network_of_ones_own_is_checked_too(settings, tmp_path):
    path = CASES["guided"].make(tmp_path)
    own = Settings("cpu", tmp_path, float("inf"), network=path)
    report = Report()
    gpu_checks.correctness(own, report, cases=[])
    assert report.failed() == []
    assert list(numbers_in(report.lines)["differences"]) == ["own: guided"]


class Pretender:
    """A session of ONNX Runtime that runs on the CPU and says that it runs on CUDA."""

    def __init__(self, session, nodes):
        self._session, self._nodes = session, nodes

    def __getattr__(self, name):
        return getattr(self._session, name)

    def get_providers(self):
        return [CUDA, CPU]

    def get_provider_graph_assignment_info(self):
        return [
            SimpleNamespace(ep_name=provider, get_nodes=lambda node=node: [SimpleNamespace(op_type=node)])
            for node, provider in self._nodes
        ]


def as_cuda(session, nodes=(("Conv", CUDA),)):
    session._session, session.provider = Pretender(session._session, nodes), CUDA
    return session


class TestChecksThatFail:
    @pytest.fixture
    def failed(self, monkeypatch, tmp_path):
        """The checks that fail on a pretended CUDA device, whose session is changed before it is used."""

        def checked(change, *, case="free size"):
            real = gpu_checks.open_session

            def open_session(model, size, precision, device, **options):
                session = real(model, size, precision, "cpu", **options)
                return session if device == "cpu" else change(session)

            monkeypatch.setattr(gpu_checks, "open_session", open_session)
            monkeypatch.setattr(gpu_checks, "PRECISIONS", ("fp32",))
            report = Report()
            settings = Settings("cuda", tmp_path, float("inf"))
            gpu_checks.correctness(settings, report, cases=[CASES[case]])
            names = report.failed()
            rows = {line["row"][0]: line["row"] for line in report.lines if "row" in line}
            assert (rows[case][3] == "FAILED") == bool(names)
            return [name.partition(": ")[2] for name in names]

        return checked

    def test_none_where_all_is_well(self, failed):
        assert failed(as_cuda) == []

    def test_a_provider_that_silently_is_the_cpu(self, failed):
        assert failed(lambda session: session) == ["runs on the device", "leaves no node to the CPU"]

        def lying(session):
            session.provider = CUDA
            return session

        assert "runs on the device" in failed(lying)

    def test_a_node_that_is_left_to_the_cpu(self, failed):
        nodes = (("Conv", CUDA), ("Resize", CPU))
        assert failed(lambda session: as_cuda(session, nodes)) == ["leaves no node to the CPU"]

    def test_shape_arithmetic_on_the_cpu_counts_too(self, failed):
        nodes = (("Conv", CUDA), ("Gather", CPU))
        assert failed(lambda session: as_cuda(session, nodes)) == ["leaves no node to the CPU"]

    def test_a_session_that_tells_of_no_nodes(self, failed):
        assert failed(lambda session: as_cuda(session, ())) == ["leaves no node to the CPU"]

    @pytest.mark.parametrize("case", ["free size", "bound to batches of 3", "guided", "scene, scale 3"])
    def test_a_wrong_depth(self, failed, case):
        def everywhere(out, images):
            out += np.float16(0.25)

        found = failed(changing(everywhere), case=case)
        assert "has the CPU's depth" in found
        assert set(found) <= {"has the CPU's depth", "is rounded to the grid"}

    def test_depth_that_is_wrong_in_one_pixel(self, failed):
        def in_one(out, images):
            out[-1, 2, 3] += np.float16(0.1)

        # Elsewhere it is the last of a batch, and so the difference shows between batches, too.
        assert failed(changing(in_one))[0] == "has the CPU's depth"

    def test_depth_of_another_sample(self, failed):
        def shifted(out, images):
            out[:] = np.roll(out, 1, axis=0)

        assert "has the CPU's depth" in failed(changing(shifted))

    def test_depth_that_is_not_a_number(self, failed):
        def unknown(out, images):
            out[0, 0, 0] = np.nan

        # The extremes are NaN as well, and unlike themselves: this is an exception.
        assert failed(changing(unknown)) == [""]

    def test_a_result_that_depends_on_the_batch(self, failed):
        def by_batch(out, images):
            out += np.float16(len(images) / 10)

        assert "is the same in other batches" in failed(changing(by_batch))

    def test_a_result_that_depends_on_the_place_in_the_batch(self, failed):
        def by_place(out, images):
            out[len(out) // 2 :] += np.float16(0.1)

        assert "is the same in other batches" in failed(changing(by_place))

    def test_a_result_that_differs_from_run_to_run(self, failed):
        runs = iter(range(10_000))

        def by_run(out, images):
            out[0, 0, 0] = next(runs) / 1000

        assert "has equal bytes when it runs again" in failed(changing(by_run))

    def test_a_result_that_depends_on_other_threads(self, failed):
        at_work = threading.Semaphore(1)

        def alone(out, images):
            if at_work.acquire(blocking=False):
                time.sleep(0.05)
                at_work.release()
            else:
                out[0, 0, 0] += np.float16(0.01)

        assert failed(changing(alone)) == ["is the same on 8 threads"]

    def test_values_off_the_grid(self, failed):
        def off(out, images):
            out += np.float16(0)

        def ignoring_the_step(session):
            real = session.run
            session.run = lambda images, out, *, step=0.0, **guides: real(images, out, **guides)
            return as_cuda(session)

        assert failed(changing(off)) == []
        assert failed(ignoring_the_step) == ["is rounded to the grid"]

    def test_a_session_that_cannot_be_opened(self, failed):
        def broken(session):
            raise RuntimeError("out of luck")

        assert failed(broken) == [""]


def changing(change):
    """Sessions whose depth is changed in place by ``change(out, images)``."""

    def changed(session):
        real = session.run

        def run(images, out, **options):
            real(images, out, **options)
            change(out, images)
            return out.min((1, 2)), out.max((1, 2))

        session.run = run
        return as_cuda(session)

    return changed


class TestKernels:
    @pytest.fixture
    def events(self, settings, monkeypatch):
        """A profile of a session on the CPU."""
        seen = []
        monkeypatch.setattr(gpu_checks, "check_kernels", lambda name, events, *_: seen.append(events))
        monkeypatch.setattr(gpu_checks, "PRECISIONS", ("fp32",))
        report = Report()
        gpu_checks.kernels(settings, report, names=["encoder-decoder"])
        monkeypatch.undo()
        assert report.failed() == []
        return seen[0]

    def failed(self, events, device):
        report = Report()
        gpu_checks.check_kernels("it", events, device, report)
        return report.failed()

    def test_kernels_of_the_device(self, events):
        assert self.failed(events, "cpu") == []
        as_if = json.loads(json.dumps(events).replace(CPU, CUDA))
        assert self.failed(as_if, "cuda") == []

    def test_kernels_of_the_cpu(self, events):
        assert self.failed(events, "cuda") == ["it: all kernels are the device's"]

    def test_one_kernel_of_the_cpu(self, events):
        as_if = json.loads(json.dumps(events).replace(CPU, CUDA))
        next(event for event in as_if if event.get("cat") == "Node")["args"]["provider"] = CPU
        assert self.failed(as_if, "cuda") == ["it: all kernels are the device's"]

    def test_copies_to_the_host(self, events):
        as_if = json.loads(json.dumps(events).replace(CPU, CUDA).replace('"Concat"', '"MemcpyToHost"'))
        assert self.failed(as_if, "cuda") == ["it: no kernel copies to the host"]

    def test_no_kernels_at_all(self):
        assert self.failed([], "cuda") == ["it: all kernels are the device's"]


class TestRates:
    def test_the_bare_network_gives_the_depth_of_the_session(self, settings):
        for subject in gpu_rates.subjects(settings)[::2]:
            session = gpu_rates.opened(subject, "cpu")
            run = gpu_rates.BareRun(gpu_rates.Bare(session, "cpu"), 3)
            assert run.answer().shape == (3, *subject.size)
            assert np.isfinite(run.answer()).all()

    def test_a_graph_of_a_fixed_batch(self, settings, tmp_path):
        path = CASES["bound to batches of 3"].make(tmp_path)
        subject = gpu_rates.Subject("bound", str(path), (24, 40), "fp32")
        assert gpu_rates.Bare(gpu_rates.opened(subject, "cpu"), "cpu").fixed_batch == 3

    def test_a_failing_run_is_an_error(self):
        def fail():
            raise MemoryError

        with pytest.raises(MemoryError):
            gpu_rates.rate([fail], 1, 0.01)

    def test_the_part_of_a_time_that_is_busy(self):
        runs = [(0, 2), (1, 3), (5, 6), (5.5, 5.6), (9, 20)]
        assert gpu_rates.busy_share(runs, 0, 10) == pytest.approx(0.5)
        assert gpu_rates.busy_share([], 0, 10) == 0
        assert gpu_rates.busy_share(runs, 2.5, 5.5) == pytest.approx(1 / 3)

    def test_depth_that_is_not_finite(self, settings, monkeypatch):
        monkeypatch.setattr(gpu_rates.BareRun, "answer", lambda run: np.full(3, np.nan))
        monkeypatch.setattr(gpu_rates, "subjects", lambda settings: SUBJECTS(settings)[:1])
        report = Report()
        gpu_rates.bare(settings, report)
        assert report.failed() == ["bare guided fp32: depth is finite"]

    @pytest.mark.slow
    def test_a_dataset_that_the_cpu_fills_otherwise(self, settings, monkeypatch):
        real = gpu_rates.fill_depth
        devices = iter(("fp16", "fp32"))

        def fill(path, depth, **options):
            model = {"fp16": gpu_rates.SCENE_MODEL, "fp32": depth.model}[next(devices)]
            return real(path, gpu_rates.DepthSpec(model, mode="per-sample", scale=1), **options)

        monkeypatch.setattr(gpu_rates, "fill_depth", fill)
        monkeypatch.setattr(gpu_rates, "subjects", lambda settings: SUBJECTS(settings)[4:5])
        report = Report()
        gpu_rates.filled_as_on_cpu(settings, report)
        assert report.failed() == ["dataset by enc-dec fp32: as the CPU fills it"]


SUBJECTS = gpu_rates.subjects


class TestWithPyTorch:
    @pytest.mark.slow
    def test_values_that_are_not_the_datasets(self, settings, monkeypatch):
        pytest.importorskip("torch")
        real = gpu_loader._on_device

        def wrong(*arguments, **options):
            for batch in real(*arguments, **options):
                yield batch | {"mask": batch["mask"] + 1}

        monkeypatch.setattr(gpu_loader, "_on_device", wrong)
        report = Report()
        gpu_loader.loader(settings, report)
        assert report.failed() == [
            f"loader, {workers} workers, pageable: the dataset's values" for workers in (0, 2)
        ]

    def test_a_process_that_gives_something_wrong(self, settings, monkeypatch):
        pytest.importorskip("torch")
        told = SimpleNamespace(returncode=0, stdout='{"0": true, "1": false}')
        monkeypatch.setattr(gpu_loader.subprocess, "run", lambda *_, **__: told)
        report = Report()
        gpu_loader.together(settings, report)
        assert len(report.failed()) == 2

    def test_a_process_that_dies(self, settings, monkeypatch):
        pytest.importorskip("torch")
        told = SimpleNamespace(returncode=-11, stdout="")
        monkeypatch.setattr(gpu_loader.subprocess, "run", lambda *_, **__: told)
        report = Report()
        gpu_loader.together(settings, report)
        assert len(report.failed()) == 2


class TestSections:
    def test_one_that_does_not_end(self, settings):
        section = gpu.run_section("correctness", settings, limit=0.01, import_torch=False)
        assert section.ended.startswith("ended after")
        assert section.failed == [f"section correctness: {section.ended}"]
        assert section.rows[-1][3] == "FAILED"

    def test_one_that_dies(self, settings, monkeypatch):
        monkeypatch.setattr(gpu.sys, "executable", "/bin/false")
        section = gpu.run_section("correctness", settings, limit=10, import_torch=False)
        assert section.failed == ["section correctness: ended with status 1"]

    def test_one_that_begins_after_the_deadline(self, tmp_path):
        (section,) = gpu.run(Settings("cpu", tmp_path, 0.0), 0.0, tmp_path / "found.json", ["bare"])
        assert section.failed == []
        assert section.to_dict()["skipped"]
        assert json.loads((tmp_path / "found.json").read_text())["failed"] == []

    def test_a_deadline_within_one(self, settings):
        report = Report(deadline=0.0)
        gpu_checks.correctness(settings, report)
        gpu_rates.bare(settings, report)
        skipped = [line["skipped"] for line in report.lines if "skipped" in line]
        assert len(skipped) == len(gpu_checks.CASES[:: gpu_checks.QUICK_STEP]) + 6
        assert report.failed() == []


class TestReport:
    def test_an_exception_is_recorded_and_is_a_failed_check(self, tmp_path):
        report = Report(file=tmp_path / "lines.jsonl")
        with report.attempt("this"):
            raise ValueError("that")
        with report.attempt("more", must=False):
            raise ValueError("less")
        report.check("fine", True)
        report.number(one=1)
        lines = read_lines(tmp_path / "lines.jsonl")
        assert failed_in(lines) == report.failed() == ["this"]
        assert "ValueError: that" in lines[0]["text"]
        assert numbers_in(lines) == {"one": 1}

    def test_a_line_that_was_cut_off(self, tmp_path):
        file = tmp_path / "lines.jsonl"
        report = Report(file=file)
        report.check("a", False)
        with file.open("a") as stream:
            stream.write('{"check": "b", "ho')
        assert failed_in(read_lines(file)) == ["a"]
        assert read_lines(tmp_path / "none") == []

    def test_the_table_has_a_hundred_columns(self):
        shown = table({"One": [("x" * 90, "y|z", "z" * 50, "holds")], "Empty": []})
        assert [len(line) for line in shown.splitlines()] == [100] * 4
        assert "Empty" not in shown
        assert sum(WIDTHS) + 13 <= 101
