"""Progress on stderr: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest
from command_line import PROGRAM
from rich.console import Console
from terminals import in_terminal, plain

from fgbgpack.pipeline import Notice, Progress
from fgbgpack.pipeline.display import ProgressDisplay
from fgbgpack.terminal import per_second


def show(*events: Notice | Progress, interval: float = 0.0) -> list[str]:
    file = io.StringIO()
    with ProgressDisplay(console=Console(file=file), interval=interval) as display:
        for event in events:
            display(event)
    return file.getvalue().splitlines()


def test_lines_where_there_is_no_terminal() -> None:
    stages = [Progress("samples", done, 2000) for done in (500, 1000, 2000)]
    lines = show(Notice("[b]note[/b]"), *stages, Progress("depth", 0, 9))
    assert lines[0] == "[b]note[/b]"
    assert lines[1] == "Samples: 500 of 2,000"
    assert re.fullmatch(r"Samples: 1,000 of 2,000 \(50%\), [\d,.]+/s, .* left", lines[2])
    assert re.fullmatch(r"Samples: 2,000 of 2,000 in .*, [\d,.]+/s", lines[3])
    assert lines[4:] == ["Depth: 0 of 9"]


@pytest.mark.parametrize(
    ("rate", "shown"),
    [(33098.4, "33,098/s"), (9.96, "10/s"), (9.94, "9.9/s"), (1.0, "1.0/s"), (0.29, "0.29/s")],
)
def test_slow_work_has_a_rate_too(rate: float, shown: str) -> None:
    assert per_second(rate) == shown
    assert per_second(rate, "samples") == shown.replace("/", " samples/")


def test_a_notice_that_is_broken_keeps_its_indent() -> None:
    file = io.StringIO()
    with ProgressDisplay(console=Console(file=file, width=40)) as display:
        display(Notice("Left out 1 file:\n  images/1.jpg: there is no mask for it; expected masks/1.png"))
    assert file.getvalue().splitlines() == [
        "Left out 1 file:",
        "  images/1.jpg: there is no mask for",
        "    it; expected masks/1.png",
    ]


def test_lines_are_few() -> None:
    stages = [Progress("samples", done, 500) for done in range(501)]
    assert len(show(*stages, interval=3600.0)) == 2


def test_a_finished_stage_is_reported_once() -> None:
    assert show(Progress("samples", 9, 9), Progress("samples", 9, 9)) == ["Samples: 9 of 9"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("columns", [80, 120])
def test_bars_on_a_terminal(workspace: Path, columns: int) -> None:
    shown, stdout, status = in_terminal(columns, [*PROGRAM, "create", "x.zarr", "--config", "tiny.toml"])
    assert status == 0
    assert stdout.startswith("Created ")
    assert "\x1b" not in stdout
    last = plain(shown).splitlines()
    bars = [line for line in last if re.match(r"(Pictures|Samples) +━+ 100% .*/s", line)]
    assert len(bars) >= 2
    assert max(map(len, last)) <= columns
