"""Programs with a terminal, and notebooks."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence


def in_terminal(columns: int, command: Sequence[str], *, stdout: bool = False) -> tuple[str, str, int]:
    """Run a command with a terminal for its stderr, and for its stdout if that is asked for.

    Returns what the terminal showed, what else came on stdout, and the exit status.
    """
    import fcntl
    import pty
    import struct
    import termios

    terminal, screen = pty.openpty()
    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        environment.pop(name, None)
    process = subprocess.Popen(
        list(command), stdout=screen if stdout else subprocess.PIPE, stderr=screen, text=True, env=environment
    )
    os.close(screen)
    shown = b""
    try:
        while part := os.read(terminal, 65536):
            shown += part
    except OSError:
        pass  # Linux reports so that the other side was closed.
    os.close(terminal)
    rest, _ = process.communicate()
    return shown.decode(), rest or "", process.returncode


def plain(shown: str) -> str:
    """What a terminal showed, without colours and movements of the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
