"""Help, lists and errors on a terminal of 80 columns."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from command_line import PROGRAM, all_commands, run
from terminals import in_terminal, plain

from fgbgpack.terminal import wrapped

COMMANDS = [names for names, _ in all_commands()]
needs_terminal = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")


@pytest.mark.parametrize("columns", [60, 80, 100])
@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_help_fits_and_breaks_nothing(names, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = run(*names, "--help").stdout
    text, _, examples = shown.partition("\nExample")
    assert [line for line in text.splitlines() if len(line) > columns] == []
    # Neither types that say nothing nor frames.
    assert re.findall(r"<\w+>|[│╭╰]", shown) == []
    monkeypatch.setenv("COLUMNS", "10000")
    wide = run(*names, "--help").stdout
    assert set(text.split()) == set(wide.partition("\nExample")[0].split())
    assert examples == wide.partition("\nExample")[2]


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_help_names_every_option_with_its_value(names):
    command = dict(all_commands())[names]
    shown = run(*names, "--help").stdout
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            assert f"\n  {parameter.metavar}" in shown
        elif not parameter.hidden:
            value = "" if parameter.is_flag else f" {parameter.metavar}"
            last = (
                max(parameter.opts, key=len) if not parameter.secondary_opts else parameter.secondary_opts[0]
            )
            assert re.search(rf"^  (-\w, )?.*{re.escape(last + value)}(  |$)", shown, re.MULTILINE), last
            assert " ".join((parameter.help or "").split())[:20] in " ".join(shown.split())


@needs_terminal
@pytest.mark.slow
@pytest.mark.parametrize("command", ["models list", "models show dpt-hybrid", "doctor --device cpu"])
def test_addresses_and_paths_stay_whole(command, workspace):
    words = [*PROGRAM, *command.split()]
    narrow, wide = (plain(in_terminal(columns, words, stdout=True)[0]) for columns in (80, 10_000))
    assert {*re.findall(r"https?://[^\s,;]+", narrow)} == {*re.findall(r"https?://[^\s,;]+", wide)}
    for line in narrow.splitlines():
        # Paths of a test's folders may be as long as a line.
        assert len(line) <= 80 or max(map(len, line.split())) > 40, line


@needs_terminal
@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "audit bg fg bad files/masks",
        "info deep.zarr",
        "info hurt.zarr",
        "explain deep.zarr 1",
        "diff deep.zarr tiny.zarr",
        "card deep.zarr",
        "create new.zarr --config tiny.toml --dry-run --workers 4000 --assume core-speed=1.5",
    ],
)
def test_results_fit(command, workspace):
    shown, _, status = in_terminal(80, [*PROGRAM, *command.split()], stdout=True)
    assert status in (0, 1, 3)
    assert [line for line in plain(shown).splitlines() if len(line) > 80] == []


@needs_terminal
@pytest.mark.slow
def test_the_path_in_an_error_stays_whole(workspace):
    path = Path("a" * 60, "b" * 60, "lobby.zarr")
    shown, _, status = in_terminal(80, [*PROGRAM, "info", str(path)])
    assert status == 4
    assert str(path) in plain(shown)
    assert plain(shown).startswith("error: There is no dataset at\r\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["creat"], "No such command 'creat'. Did you mean 'create'? See fgbgpack --help."),
        (["models", "sho"], "No such command 'sho'. Did you mean 'show'? See fgbgpack models --help."),
        (["create", "--nothing", "x.zarr"], "No such option: --nothing"),
        (["info"], "Missing argument 'DATASET'. See fgbgpack info --help."),
        (["create", "x.zarr", "--seed"], "Option '--seed' requires an argument."),
    ],
)
def test_usage_errors_look_like_all_others(words, message):
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {message}")
    result = run(*words, "--json") if words != ["create", "x.zarr", "--seed"] else run("info", "--json")
    error = json.loads(result.stdout)["error"]
    assert (result.exit_code, error["code"]) == (2, "usage-invalid")


def test_words_longer_than_a_line_stay_whole():
    assert wrapped("to /a/long/path it", 6) == ["to", "/a/long/path", "it"]
    assert wrapped("first\n\nthird", 80) == ["first", "", "third"]
    assert wrapped("about 918.5 kB", 11) == ["about", "918.5 kB"]
