"""Workers, the scheduler and the command itself killed in the middle of the work: nothing is lost, and the
same command again makes the dataset that a run makes which was never killed, to the last byte.
"""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from builders import SMALL_SHARDS, assert_same_files, depth_of
from clusters import Cluster

from fgbgpack import ClusterError, create, open_dataset
from fgbgpack.pipeline import Progress, dask_executor, verify

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="starts and kills processes as Linux does"),
]

#: How many are killed where all faults are made.
WORKERS, SCHEDULERS, COMMANDS = 100, 20, 20
#: One chunk in a shard: many tasks that take little time.
SHARDS = replace(SMALL_SHARDS, pixel_shard_bytes=2_000, depth_shard_bytes=6_000)
_START_SECONDS = 120
_END_SECONDS = 120


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster that each test leaves with a scheduler and two workers."""
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def spec(pictures, depth_model, guide_model):
    return pictures.spec(chunk=1, placements=6, depth=depth_of(depth_model, guide=str(guide_model)))


@pytest.fixture(scope="module")
def expected(tmp_path_factory, spec) -> Path:
    path = tmp_path_factory.mktemp("expected") / "it.zarr"
    create(path, spec, layout=SHARDS)
    return path


class At:
    """A callback that does something once, when so many samples are done of a stage."""

    def __init__(self, stage: str, done: int, action) -> None:
        self._stage, self._done, self._action = stage, done, action

    def __call__(self, event) -> None:
        is_due = isinstance(event, Progress) and event.stage == self._stage and event.done >= self._done
        if is_due and self._action is not None:
            action, self._action = self._action, None
            action()


def moment(rng: random.Random) -> tuple[str, int]:
    """Somewhere in the work on 72 samples."""
    return rng.choice(["samples", "depth"]), rng.randrange(1, 60)


def test_killed_workers(tmp_path, cluster, spec, expected, all_faults, count_faults):
    rng, outcomes = random.Random(1), Counter()
    kills = WORKERS if all_faults else 2
    with dask_executor(cluster.address, timeout=_START_SECONDS) as executor:
        for number in range(kills):
            kill = At(*moment(rng), lambda: cluster.replace_worker(rng.randrange(2)))
            create(tmp_path / f"{number}.zarr", spec, layout=SHARDS, executor=executor, on_event=kill)
            assert_same_files(tmp_path / f"{number}.zarr", expected)
            outcomes["finished by others"] += 1
    count_faults("kills of workers", outcomes)
    assert outcomes.total() == kills


def test_killed_schedulers(tmp_path, cluster, spec, expected, all_faults, count_faults):
    rng, outcomes = random.Random(2), Counter()
    for number in range(SCHEDULERS if all_faults else 1):
        path, (stage, done) = tmp_path / f"{number}.zarr", moment(rng)
        with dask_executor(cluster.address, timeout=_START_SECONDS) as executor:
            kill = At(stage, done, cluster.kill_scheduler)
            with pytest.raises(ClusterError) as error:
                create(path, spec, layout=SHARDS, executor=executor, on_event=kill)
        assert error.value.code == "cluster-lost"
        before = open_dataset(path, allow_incomplete=True)
        assert not before.complete
        assert verify(path).sound
        cluster.start_scheduler()
        for _ in range(2):
            cluster.start_worker()
        with dask_executor(cluster.address, timeout=_START_SECONDS) as executor:
            report = create(path, spec, layout=SHARDS, executor=executor)
        assert report.created + report.depth_filled < 2 * 72
        assert_same_files(path, expected)
        outcomes["resumed"] += 1
    count_faults("kills of schedulers", outcomes)


def test_killed_commands(tmp_path, cluster, spec, expected, all_faults, count_faults):
    """Its workers go on for a moment; what they write then is right, too."""
    rng, outcomes = random.Random(3), Counter()
    for number in range(COMMANDS if all_faults else 1):
        path = tmp_path / f"{number}.zarr"
        with command(path, spec, cluster.address) as process:
            wait_for_shards(path, rng.randrange(1, 60), process)
            process.kill()
        with dask_executor(cluster.address, timeout=_START_SECONDS) as executor:
            create(path, spec, layout=SHARDS, executor=executor)
        assert_same_files(path, expected)
        outcomes["resumed"] += 1
    count_faults("kills of commands with workers", outcomes)


def test_interrupt(tmp_path, spec, expected):
    """Ctrl-C in a terminal reaches the command and the workers that it has started."""
    path = tmp_path / "it.zarr"
    with command(path, spec, "local:2", start_new_session=True) as process:
        wait_for_shards(path, 5, process)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(_END_SECONDS) == 130
        assert ends(process.pid)
    assert not open_dataset(path, allow_incomplete=True).complete
    create(path, spec, layout=SHARDS)
    assert_same_files(path, expected)


_PROGRAM = """
import pickle, sys
from fgbgpack import create
from fgbgpack.pipeline import dask_executor

def run():
    path, address = sys.argv[1:3]
    spec, layout = pickle.loads(bytes.fromhex(sys.argv[3]))
    try:
        with dask_executor(address, timeout=120) as executor:
            create(path, spec, layout=layout, executor=executor)
    except KeyboardInterrupt:
        sys.exit(130)

if __name__ == "__main__":
    run()
"""


def command(path: Path, spec, address: str, **options) -> subprocess.Popen[bytes]:
    """A process that makes the dataset on a cluster."""
    program = path.parent / "program.py"
    program.write_text(_PROGRAM)
    arguments = [str(path), address, pickle.dumps((spec, SHARDS)).hex()]
    return subprocess.Popen([sys.executable, str(program), *arguments], **options)


def ends(group: int) -> bool:
    """Whether all processes of a group end."""
    for _ in range(_END_SECONDS):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(1)
    return False


def wait_for_shards(path: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until so many shards of images are there."""
    end = time.monotonic() + _START_SECONDS
    while len(list(path.glob("image/c/*/0/0/0"))) < count:
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.005)
