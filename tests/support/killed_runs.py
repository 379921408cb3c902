"""Processes that make datasets and are killed on the way."""

from __future__ import annotations

import signal
import time

import numpy as np

from fgbgpack.storage.layout import LayoutPolicy

#: Sizes that make many shards, and both phases about as long.
SHARDS = LayoutPolicy(pixel_shard_bytes=100_000, depth_chunk_bytes=50_000, depth_shard_bytes=150_000)


class Run:
    """A process that is at work."""

    def __init__(self, processes, target, *arguments):
        self.receiver, sender = processes.Pipe(duplex=False)
        self.process = processes.Process(target=target, args=(sender, *arguments))
        self.process.start()
        sender.close()

    def reach(self, stage):
        """Wait until it comes to a stage; whether it does."""
        try:
            while self.receiver.recv() != stage:
                pass
        except EOFError:
            return False
        return True

    def kill(self):
        """Kill it; whether it was still there."""
        self.process.kill()
        self.process.join()
        self.receiver.close()
        assert self.process.exitcode in (0, -signal.SIGKILL)
        return self.process.exitcode != 0

    def finish(self, *stages):
        """Let it finish; the seconds that each of its stages took, or so."""
        times = []
        for stage in stages:
            self.reach(stage)
            times.append(time.monotonic())
        self.process.join()
        self.receiver.close()
        assert self.process.exitcode == 0
        times.append(time.monotonic())
        return {"start": 0.4} | dict(zip(stages, np.diff(times), strict=True))
