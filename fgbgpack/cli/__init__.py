"""The command line: options in, text and exit status out."""

from fgbgpack.cli.program import app, main

__all__ = ["app", "main"]
