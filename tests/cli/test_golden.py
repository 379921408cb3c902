"""All texts of the command line, in one file per command.

A file in ``golden`` is a transcript: commands after ``$``, each with what it prints. Lines of stderr start
with ``2>``; the result of ``--json`` is shown by its keys and types; the exit status comes last. What differs
from run to run is masked. ``pytest tests/cli --update-golden`` rewrites what follows the commands.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import all_commands, run

from fgbgpack.visual import model_check

GOLDEN = Path(__file__).with_name("golden")
PACKAGE = Path(__file__).parents[2] / "fgbgpack"

_NUMBER = r"-?[\d,]+(?:\.\d+)?(?:e[-+]?\d+)?"
_MASKS = (
    (r"\b[0-9a-f]{64}\b", "<sha256>"),
    (r"(verified +)\d{4}-\d\d-\d\d", r"\1<date>"),
    (r"\bfgbgpack \d+\.\d+\S*( \(commit .*?\))?(, [\w-]+ [\w.]+)*", "<versions>"),
    (rf"\bunder 0\.1 s\b|\b\d+ h \d\d min\b|\b\d+ min \d\d s\b|\b{_NUMBER} s\b", "<time>"),
    (rf"{_NUMBER}( samples| pictures)?/s", r"<rate>\1/s"),
    (rf"{_NUMBER} (B|kB|MB|GB)\b", "<size>"),
    (rf"{_NUMBER} bytes per sample", "<size> per sample"),
    (rf"{_NUMBER} : 1", "<ratio>"),
    (rf"{_NUMBER}%? \({_NUMBER}%? to {_NUMBER}%?\)", "<median and quartiles>"),
    (rf"{_NUMBER} with true depth.*", "<rank agreement>"),
    (rf"{_NUMBER} to {_NUMBER}, no NaN", "<range>"),
    (rf"bytes {_NUMBER} to {_NUMBER} \({_NUMBER}\), CRC-32C [0-9a-f]{{8}}", "<bytes>, <checksum>"),
    (r"^(  device +).*", r"\1<processor>"),
    (rf"(rounding error|rank agreement is|gradient .*reaches) {_NUMBER}%?", r"\1 <number>"),
)
#: Which of these lines there are depends on the speed of the machine.
_PROGRESS = re.compile(r"(Pictures|Samples|Backgrounds|Depth|Checking|Chunks|Verifying|Photographs): ")


def masked(line: str, folder: Path) -> str:
    """A line without what differs from run to run; its columns then have no fixed width."""
    line = line.replace(str(folder), "FOLDER").replace(str(PACKAGE), "PACKAGE").rstrip()
    found = line
    for pattern, mask in _MASKS:
        found = re.sub(pattern, mask, found)
    return line if found == line else re.sub(r"(?<=\S) {2,}", "   ", found)


def keys(value: Any, path: str = "") -> Iterator[str]:
    """The paths and types of a JSON document; an error is shown as it is."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from keys(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield from keys(value[0], f"{path}[]")
    else:
        shown = json.dumps(value) if path.startswith("error.") or value in ([], {}) else type(value).__name__
        yield f"{path}: {shown}"


def transcript(command: str, folder: Path) -> list[str]:
    """What a command prints, and its exit status."""
    result = run(*shlex.split(command)[1:])
    stdout = result.stdout.splitlines()
    if "--json" in command:
        stdout = [line for line in keys(json.loads(result.stdout)) if "fgbgpack-commit" not in line]
    stderr = [f"2> {line}" for line in result.stderr.splitlines() if not _PROGRESS.match(line)]
    lines = [masked(line, folder) for line in (*stdout, *stderr)]
    return [f"$ {command}", *lines, f"[exit {result.exit_code}]", ""]


@pytest.mark.slow
@pytest.mark.parametrize("names", [names for names, _ in all_commands()], ids=lambda names: " ".join(names))
def test_the_command_line_prints_what_its_golden_files_hold(
    names: tuple[str, ...],
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(model_check, "_TIMED_SECONDS", 0.01)
    path = GOLDEN / f"{'-'.join(names) or 'fgbgpack'}.txt"
    expected = path.read_text(encoding="utf-8")
    commands = re.findall(r"^\$ (.*)$", expected, re.MULTILINE)
    assert commands[0] == " ".join(["fgbgpack", *names, "--help"])
    found = "\n".join(line for command in commands for line in transcript(command, workspace))
    if request.config.getoption("update_golden", default=False):
        path.write_text(found, encoding="utf-8")
    else:
        assert found == expected


def test_every_golden_file_belongs_to_a_command() -> None:
    known = {"-".join(names) or "fgbgpack" for names, _ in all_commands()}
    assert {path.stem for path in GOLDEN.iterdir()} == known
