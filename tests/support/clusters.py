"""A real scheduler of Dask and its workers, each a process of its own that can be killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from distributed import Client

_ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS, _END_SECONDS = 120, 30


def free_port() -> int:
    """A port on loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cluster:
    """A scheduler and some workers of one thread each; all end with the block. ``folder`` takes logs."""

    def __init__(self, folder: Path, workers: int = 2) -> None:
        self._folder, self._count = folder, workers
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self.workers: list[subprocess.Popen[bytes]] = []
        self._started = 0

    def __enter__(self) -> Cluster:
        self.start_scheduler()
        for _ in range(self._count):
            self.start_worker()
        return self

    def __exit__(self, *error: object) -> None:
        for process in (*self.workers, self.scheduler):
            kill(process)

    def start_scheduler(self) -> None:
        """Start a scheduler, at the same address each time."""
        port = self.address.rpartition(":")[2]
        self.scheduler = self._start(
            "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"
        )

    def wait_for_scheduler(self) -> None:
        """Wait until the scheduler answers."""
        with Client(self.address, timeout=_START_SECONDS, set_as_default=False):
            pass

    def start_worker(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start one more worker, which waits for the scheduler."""
        worker = self._start(
            "distributed.cli.dask_worker",
            self.address,
            *("--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0"),
            *("--local-directory", str(self._folder), "--death-timeout", "60"),
            **environment,
        )
        self.workers.append(worker)
        return worker

    def replace_worker(self, number: int) -> None:
        """Kill a worker, and start another one."""
        kill(self.workers.pop(number))
        self.start_worker()

    def kill_scheduler(self) -> None:
        """Kill the scheduler, and the workers, which without one would wait for it."""
        kill(self.scheduler)
        while self.workers:
            kill(self.workers.pop())

    def logs(self) -> str:
        """What all processes have written."""
        return "".join(path.read_text() for path in sorted(self._folder.glob("*.log")))

    def _start(self, module: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        self._started += 1
        paths = os.pathsep.join([str(_ROOT), str(Path(__file__).parent)])
        with (self._folder / f"{self._started}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": paths, **environment},
            )


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process at once, and wait until it has ended."""
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait(_END_SECONDS)
