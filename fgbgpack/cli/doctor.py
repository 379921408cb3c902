"""``fgbgpack doctor``: what is installed to run depth networks with, and whether it works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from fgbgpack.cli import options
from fgbgpack.cli.console import say, say_rows, say_title
from fgbgpack.cli.options import PARTIAL, command
from fgbgpack.cli.output import Output
from fgbgpack.cli.parse import DEVICES, Parser
from fgbgpack.errors import DepthModelError
from fgbgpack.terminal import amount, wrapped

if TYPE_CHECKING:
    from fgbgpack.depth.installation import Driver, Folder, Installation, Trial
    from fgbgpack.depth.libraries import Library

app = typer.Typer()

_COLUMNS = 80
#: Characters of what is wrong with a device.
_LONGEST = 480


@command(app, "fgbgpack doctor", "fgbgpack doctor --device cuda", "fgbgpack doctor --json > doctor.json")
def doctor(ctx: typer.Context, device: str | None = options.DEVICE, as_json: bool = options.JSON) -> None:
    """Show what depth networks run on here, try the devices, and say how to mend what does not work.

    It tries every device that auto considers, or only the one that is asked for, with an included network,
    and compares the depth with that of the CPU. TensorRT builds an engine first, which may take minutes.
    """
    parser = Parser()
    asked = parser.choice("--device", device, DEVICES)
    parser.check()

    from fgbgpack.depth import installation

    output = Output(as_json)
    found = installation.examine()
    if output.is_text:
        _show(found)
        say("")
        say_title("Trials")
    trials = []
    for name in installation.DEVICES if asked == "auto" else (asked,):
        trials.append(installation.try_device(name))
        if output.is_text:
            _show_trial(trials[-1])
    taken = installation.chosen(trials)
    tried = [{**asdict(trial), "works": trial.works} for trial in trials]
    report = {**found.to_dict(), "device": asked, "taken": taken.device, "trials": tried}
    if taken.refusal is not None:
        ctx.meta[PARTIAL] = report
        raise DepthModelError(
            f"Depth cannot run on the device {taken.device!r}. The device 'cpu' always works.",
            [f"{taken.device}: {taken.refusal}"],
            code="device-unavailable",
        )
    output.show(report, lambda: say(f"\n--device {asked} works: it takes {taken.device}."))


def _show(found: Installation) -> None:
    versions = dict(found.software)
    commit = versions.pop("fgbgpack-commit", None)
    packages = ", ".join(f"{name} {version}" for name, version in found.onnxruntime) or "no package"
    say_title("Versions")
    _say_rows(
        [
            ("fgbgpack", versions.pop("fgbgpack") + (f" (commit {commit[:12]})" if commit else "")),
            ("Python", found.python),
            ("system", f"{found.platform}, {found.cores} usable cores"),
            ("ONNX Runtime", f"{versions.pop('onnxruntime')} of {packages}"),
            ("built for", f"CUDA {found.cuda}" if found.cuda else "CPUs, not for CUDA"),
            ("providers", ", ".join(name.removesuffix("ExecutionProvider") for name in found.providers)),
            ("PyTorch", _torch(found)),
            ("packages", ", ".join(f"{name} {version}" for name, version in versions.items())),
            *found.variables.items(),
        ]
    )
    say("")
    say_title("NVIDIA driver")
    _say_rows(_driver_rows(found.driver))
    shown: set[str] = set()
    for device, needed in found.libraries.items():
        more = [library for library in needed if library.name not in shown]
        if more:
            say("")
            say_title(f"Libraries for {device}{', beside those above' if shown else ''}")
            _say_rows([(library.name, _library(library)) for library in more])
        shown |= {library.name for library in more}
    say("")
    say_title("Folders")
    _say_rows([(folder.purpose, _folder(folder)) for folder in found.folders])
    if found.findings:
        say("")
        say_title("To run on an NVIDIA GPU")
        for finding in found.findings:
            for i, line in enumerate(wrapped(finding.text, _COLUMNS - 4)):
                say(f"    {line}" if i else f"  - {line}")
            if finding.command is not None:
                # Not wrapped, so that it can be copied.
                say(f"      {finding.command}")


def _torch(found: Installation) -> str:
    if found.torch is None:
        return "not installed"
    return f"{found.torch}, {f'built for CUDA {found.torch_cuda}' if found.torch_cuda else 'without CUDA'}"


def _driver_rows(driver: Driver) -> list[tuple[str, str]]:
    rows = [("driver", f"not usable: {driver.problem}" if driver.problem else driver.version or "found")]
    if driver.problem and driver.version:
        rows.append(("version", driver.version))
    if driver.cuda is not None:
        rows.append(("supports", f"CUDA up to {driver.cuda}"))
    for index, gpu in enumerate(driver.gpus):
        memory = [
            f"{amount(size)} {what}"
            for size, what in ((gpu.total, "in all"), (gpu.free, "free"))
            if size is not None
        ]
        known = [] if gpu.capability is None else [f"compute capability {gpu.capability}"]
        rows.append((f"GPU {index}", ", ".join([gpu.name, *memory, *known])))
    return rows


def _library(library: Library) -> str:
    if not library.found:
        return "MISSING" if library.required else "missing; only Fourier transforms need it"
    if library.package is not None:
        return f"of {library.package}"
    return library.path or "found"


def _folder(folder: Folder) -> str:
    used = [] if folder.used is None else [f"{amount(folder.used)} used"]
    free = [] if folder.free is None else [f"{amount(folder.free)} free"]
    return ", ".join([folder.path, *([] if folder.writable else ["NOT WRITABLE"]), *used, *free])


def _show_trial(trial: Trial) -> None:
    differs = (
        "" if trial.difference is None else f", differs from the CPU by {trial.difference:.3%} of the range"
    )
    outcome = "works" if trial.works else "does not work"
    _say_rows([(trial.device.ljust(8), f"{outcome}{differs}")])
    for line in (trial.refusal, *trial.notices):
        if line is not None:
            _say_rows([(" " * 8, _without_middle(line))])


def _say_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and values in two columns, values in as many lines as they need."""
    longest = max(len(name) for name, _ in rows)
    for name, value in rows:
        first, *others = wrapped(value, _COLUMNS - 5 - longest)
        say_rows([(name.ljust(longest), first), *((" " * longest, line) for line in others)])


def _without_middle(text: str) -> str:
    """The beginning and the end of what may be pages: ONNX Runtime says where first, and why last."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
