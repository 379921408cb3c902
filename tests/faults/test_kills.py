"""Every command killed with SIGKILL: at each call that changes names or syncs, and at random moments.

Whatever the moment, what was there is whole, or what is new is; readers get one of the two or an error of
ours; and the same command again finishes: the folder is then that of a run that was never killed, to the last
byte and the last name.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from builders import write_depth_model
from kill_points import Nursery, lacking
from killed_commands import COMMANDS, Inputs, contents, see

from fgbgpack.errors import FgbgError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc, and lacks what only Linux has"),
]

#: At how many calls some commands are killed, unless all are killed at all.
SOME = {
    "create": 3,
    "create HDF5": 3,
    "create --overwrite": 5,
    "depth --overwrite": 3,
    "export --overwrite": 6,
    "card again": 3,
    "sample": 2,
    "cutout after decisions": 2,
}
#: Kills at random moments, of all commands together; and tries for each, for some commands end before.
RANDOM, _TRIES = 200, 20
#: Characters of a failure that are shown.
_SHOWN = 1000


@pytest.fixture(scope="module")
def nursery():
    nursery = Nursery(
        "killed_commands", "onnxruntime", "onnx", "PIL.Image", "jsonschema", "h5py", "hdf5plugin"
    )
    yield nursery
    nursery.close()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, depth_model, guide_model):
    folder = tmp_path_factory.mktemp("inputs")
    other = write_depth_model(folder / "models", name="other", seed=1)
    return Inputs.make(folder, depth_model, other, guide_model)


def act(name: str, inputs: Inputs, root: Path) -> None:
    """Run a command; it is also run by processes that are killed."""
    command = COMMANDS[name]
    with lacking(*command.lacks):
        command.run(inputs, root)


class Trial:
    """A command that is killed again and again in one folder, each time on what was there before."""

    def __init__(self, name: str, inputs: Inputs, nursery: Nursery, folder: Path) -> None:
        self.name, self._command, self._nursery = name, COMMANDS[name], nursery
        self._before, self._root = folder / "before", folder / "it"
        self._before.mkdir(parents=True)
        self._command.before(inputs, self._before)
        self._action = partial(act, name, inputs, self._root)
        self.reset()
        nursery.warm(self._action)
        self.reset()
        self.events, self.seconds = nursery.finish(self._action)
        self._expected, self._last = self._command.result(self._root), contents(self._root)
        self._new = self._seen()
        self.reset()
        self._old, self._first = self._seen(), contents(self._root)

    def reset(self) -> None:
        """Put there what was there before."""
        shutil.rmtree(self._root, ignore_errors=True)
        shutil.copytree(self._before, self._root)

    def _seen(self) -> dict[str, object]:
        readers = {**self._command.readers, **self._command.whole}
        return {path: see(read, self._root / path) for path, read in readers.items()}

    def kill_at(self, event: int) -> bool:
        return self._nursery.kill_at(self._action, event)

    def kill_after(self, seconds: float) -> bool:
        return self._nursery.kill_after(self._action, seconds)

    def check(self) -> str:
        """What a kill has left is right; whether that is the old or the new, or an error of ours."""
        outcomes = set()
        for path, read in {**self._command.readers, **self._command.whole}.items():
            seen = see(read, self._root / path)
            if isinstance(seen, FgbgError):
                may_fail = path not in self._command.whole
                assert may_fail, (path, seen)
                outcomes.add("an error")
            else:
                assert seen in (self._old[path], self._new[path]), path
                outcomes.add("the new" if seen == self._new[path] else "the old")
        for name, content in contents(self._root).items():
            if name.startswith(tuple(f"{folder}/" for folder in self._command.folders)):
                assert content == self._last.get(name, self._first.get(name)), name
                outcomes.add("the new, or some of it")
        return min(outcomes, default="nothing")

    def finish(self) -> None:
        """Run the same command again, and see that all is as if it had never been killed."""
        self._action()
        found, expected = self._command.result(self._root), self._expected
        assert sorted(found) == sorted(expected)
        assert [name for name in expected if found[name] != expected[name]] == []


def pytest_generate_tests(metafunc):
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", COMMANDS if metafunc.config.getoption("--faults") == "all" else SOME)


def test_killed_at_any_moment_it_loses_nothing_and_finishes_the_next_time(
    tmp_path, inputs, nursery, all_faults, count_faults, name
):
    trial = Trial(name, inputs, nursery, tmp_path)
    events = range(len(trial.events))
    if not all_faults:
        events = np.linspace(0, len(events) - 1, SOME[name]).astype(int).tolist()
    by_call, at_random, failures = Counter(), Counter(), []

    @contextmanager
    def noted(when: str) -> Iterator[None]:
        try:
            yield
        except Exception as exc:
            failures.append(f"killed {when}: {type(exc).__name__}: {exc}"[:_SHOWN])

    for event in events:
        trial.reset()
        assert trial.kill_at(event)
        with noted(f"{trial.events[event]}, event {event} of {len(trial.events)}"):
            by_call[trial.check()] += 1
            trial.finish()

    dice = random.Random(name)
    wanted = -(-RANDOM // len(COMMANDS)) if all_faults else 1
    for _ in range(_TRIES * wanted):
        trial.reset()
        moments = []
        with noted(f"after {moments} s"):
            # Some of what goes on with what a kill has left is killed as well.
            while not moments or (at_random.total() < wanted and dice.random() < 0.5):
                moments.append(dice.uniform(0, trial.seconds))
                if trial.kill_after(moments[-1]):
                    at_random[trial.check()] += 1
            trial.finish()
        if at_random.total() >= wanted:
            break
    assert at_random.total() >= wanted
    count_faults("kills before and after calls", by_call)
    count_faults("kills at random moments", at_random)
    assert not failures, "\n".join(failures)
