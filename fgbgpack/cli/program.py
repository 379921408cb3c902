"""The program: its commands, and how errors, signals and closed pipes become messages and exit statuses.

The library is imported inside the commands: ``fgbgpack --help`` needs no NumPy.
"""

from __future__ import annotations

import _thread
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
import typer.core

from fgbgpack.cli import (
    audit,
    card,
    convert,
    create,
    cutout,
    diff,
    doctor,
    explain,
    export,
    importing,
    info,
    merge,
    models,
    pack,
    repair,
    sample,
    split,
    stats,
    verify,
    view,
)
from fgbgpack.cli.console import print_json, say, show_bug, show_error, show_warning
from fgbgpack.cli.help import HelpfulGroup
from fgbgpack.cli.options import AS_JSON, PARTIAL, show_examples
from fgbgpack.errors import DatasetError, FgbgError
from fgbgpack.files import is_full

_USAGE = 2
_INTERRUPTED = 130
_TERMINATED = 143
# How long after it was dropped a signal is sent again.
_AGAIN_SECONDS = 0.01


class _Terminated(KeyboardInterrupt):
    """SIGTERM: work stops as for Ctrl-C, and can be resumed as well."""


@dataclass(frozen=True)
class _Failure:
    """What is reported of an error: ``code``, ``message`` and ``problems`` also as JSON."""

    code: str
    status: int
    message: str
    problems: tuple[str, ...] = ()
    label: str = "error"

    @classmethod
    def of(cls, error: Any) -> _Failure | None:
        """The failure of an error; ``None`` for a bug."""
        notes = getattr(error, "__notes__", [])
        if isinstance(error, FgbgError):
            return cls(error.code, error.exit_status, "\n".join([error.message, *notes]), error.problems)
        if isinstance(error, _UsageError):
            message = error.format_message()
            asked = "" if error.ctx is None else f" See {error.ctx.command_path} --help."
            return cls("usage-invalid", _USAGE, f"{message}{'' if message[-1] in '.?' else '.'}{asked}")
        if isinstance(error, _Terminated):
            return cls("terminated", _TERMINATED, " ".join(notes), label="terminated")
        if isinstance(error, KeyboardInterrupt):
            return cls("interrupted", _INTERRUPTED, " ".join(notes), label="interrupted")
        if isinstance(error, OSError) and (error.filename is not None or is_full(error)):
            where = "" if error.filename is None else f": {os.fsdecode(error.filename)}"
            code = "disk-full" if is_full(error) else "io-failed"
            what = "The disk is full" if is_full(error) else error.strerror
            return cls(code, DatasetError.exit_status, " ".join([f"{what}{where}.", *notes]))
        return None


#: The order of the commands in the help.
_ORDER = (
    *("create", "import", "audit", "cutout", "depth", "info", "preview", "view", "explain", "stats", "diff"),
    *("split", "verify", "repair", "export", "merge", "convert", "pack", "materialize", "virtualize", "card"),
    *("sample", "schema", "models", "doctor"),
)


# Typer does not name it; it is what options that cannot be parsed raise.
_UsageError: type[Any] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")


class _Commands(HelpfulGroup):
    """The one place that turns what commands raise into a message and an exit status."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self.commands, key=_ORDER.index)

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        # Of what cannot be parsed the option itself is never seen.
        meta = {AS_JSON: "--json" in args}
        try:
            context = super().make_context(info_name, args, parent, **extra)
        except _UsageError as exc:
            raise _reported(exc, meta) from exc
        context.meta.update(meta)
        return context

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (FgbgError, KeyboardInterrupt, OSError, _UsageError) as exc:
            raise _reported(exc, ctx.meta) from exc


def _reported(error: Any, meta: Mapping[str, Any]) -> Any:
    """Report an error; returns what ends the program with its status, or the error itself if it is a bug."""
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.ctx.get_help())
        return typer.Exit(_USAGE)
    failure = _Failure.of(error)
    if failure is None:
        return error
    if meta.get(AS_JSON):
        described = {"code": failure.code, "message": failure.message, "problems": failure.problems}
        with suppress(OSError):  # stdout itself may have failed
            print_json({**meta.get(PARTIAL, {}), "error": described})
    show_error(failure.message, failure.problems, label=failure.label)
    return typer.Exit(failure.status)


app = typer.Typer(
    name="fgbgpack",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=show_examples("fgbgpack sample pictures", "fgbgpack create --help"),
)
for _module in (
    audit,
    card,
    convert,
    create,
    cutout,
    diff,
    doctor,
    explain,
    export,
    importing,
    info,
    merge,
    pack,
    sample,
    split,
    stats,
    models,
    verify,
    view,
    repair,
):
    app.add_typer(_module.app)


def _print_version(asked: bool) -> None:
    if asked:
        from fgbgpack.version import __version__, commit

        known = commit()
        is_modified = ", modified" if _is_modified() else ""
        say(f"fgbgpack {__version__}" + (f" (commit {known[:12]}{is_modified})" if known else ""))
        raise typer.Exit


def _is_modified() -> bool:
    """Whether the code is in a checkout with uncommitted changes."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return False
    command = ["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"]
    try:
        return bool(subprocess.run(command, capture_output=True, timeout=10, check=True).stdout)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return False


@app.callback()
def _fgbgpack(
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Composite foregrounds on backgrounds into one Zarr dataset of images, masks and depth."""


def main() -> None:
    """Run the command line of this process, and exit."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    sys.unraisablehook = _on_dropped
    warnings.showwarning = lambda message, *_, **__: show_warning(str(message))
    for stream in (sys.stdout, sys.stderr):
        # The name of a file may hold bytes that the terminal's encoding lacks.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    status: object = 0
    try:
        app(prog_name="fgbgpack")
    except SystemExit as exc:
        # Rich and Typer exit with 1 where the reader of the help has gone, as in `--help | head`.
        status = 0 if isinstance(exc.__context__, BrokenPipeError) else exc.code
    except KeyboardInterrupt:
        status = _INTERRUPTED
    except Exception as exc:
        # Help is printed before a command is invoked, perhaps to a full disk.
        failure = _Failure.of(exc)
        if failure is None:
            show_bug(exc)
            status = 1
        else:
            show_error(failure.message)
            status = failure.status
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # A second Ctrl-C ends the process at once, without a traceback of its shutdown.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(_after_flush(status))


def _on_sigterm(number: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated


def _on_dropped(dropped: sys.UnraisableHookArgs) -> None:
    """Send a signal again, a moment later, that came while Python ran a finalizer or a callback of a weak
    reference: it drops all exceptions of these, and Ctrl-C would do nothing.
    """
    if not isinstance(dropped.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(dropped)
        return
    number = signal.SIGTERM if isinstance(dropped.exc_value, _Terminated) else signal.SIGINT
    if hasattr(signal, "pthread_kill"):
        # Signals are handled in the main thread, so this is it. Sent to it, they also end a wait.
        again = partial(signal.pthread_kill, threading.get_ident(), number)
    else:
        again = partial(_thread.interrupt_main, number)
    threading.Timer(_AGAIN_SECONDS, again).start()


def _after_flush(status: Any) -> Any:
    """Flush stdout: a reader that has gone is no error, a full disk is one."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as exc:
        # Otherwise the interpreter tries again at shutdown, and complains.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(exc, BrokenPipeError):
            show_error(f"The output could not be written: {exc.strerror}.")
            return status or 1
    return status
