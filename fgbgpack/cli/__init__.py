"""The command line: options in, text and exit status out."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

    app: typer.Typer

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line of this process, and exit."""
    try:
        from fgbgpack.cli import program
    except KeyboardInterrupt:
        # Nothing has begun: a traceback of imports tells nobody anything.
        sys.exit(128 + signal.SIGINT)
    program.main()


def __getattr__(name: str) -> object:
    """``app``, which :func:`main` imports where it can handle Ctrl-C."""
    if name == "app":
        from fgbgpack.cli.program import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
