"""Many workers that die, on a store that answers late and fails: nothing is lost, no byte is another."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from simulated_cluster import Conditions, Outcome, simulate

from fgbgpack.document import IMAGE, MASK

SHARDS, CHUNKS = 300, 5
UNSTABLE = Conditions(workers=12, shard_seconds=1.0, faults=0.05, deaths=0.1, zombies=0.5)
STABLE = Conditions(workers=12, shard_seconds=1.0, faults=0.0, deaths=0.0, slow_workers=0.0)


@pytest.fixture(scope="module")
def unstable() -> Outcome:
    return simulate(SHARDS, CHUNKS, UNSTABLE)


def test_every_shard_is_written_and_in_the_manifest(unstable):
    for array in (IMAGE, MASK):
        assert unstable.put[array].min() >= 1
        assert unstable.manifest.arrays[array].chunks == SHARDS * CHUNKS
    # Some of the dead had put one object, some both, and some put them although nobody waited for it.
    assert unstable.counts["deaths"] > 10
    assert np.any(unstable.put[IMAGE] > 1)
    assert np.any(unstable.put[IMAGE] != unstable.put[MASK])
    assert unstable.counts["faults"] > 10


def test_the_manifest_does_not_depend_on_what_went_wrong(unstable):
    assert simulate(SHARDS, CHUNKS, STABLE).manifest == unstable.manifest


def test_a_seed_fixes_all_of_it(unstable):
    again = simulate(SHARDS, CHUNKS, UNSTABLE)
    assert (again.seconds, again.counts) == (unstable.seconds, unstable.counts)
    other = simulate(SHARDS, CHUNKS, dataclasses.replace(UNSTABLE, seed=1))
    assert other.seconds != unstable.seconds


def test_what_is_sent_at_a_time_is_bounded(unstable):
    assert 2 * UNSTABLE.workers <= unstable.most_sent <= 8 * UNSTABLE.workers < SHARDS


@pytest.mark.parametrize("workers", [1, 12, 100])
def test_the_formula_predicts_a_cluster_without_faults(workers):
    found = simulate(SHARDS, CHUNKS, dataclasses.replace(STABLE, workers=workers))
    assert found.seconds == pytest.approx(found.ideal, rel=0.15)


def test_workers_wait_for_a_slow_scheduler():
    found = simulate(SHARDS, CHUNKS, dataclasses.replace(STABLE, workers=100, task_seconds=0.5))
    assert found.seconds == pytest.approx(SHARDS * 0.5, rel=0.05)
    assert found.seconds == pytest.approx(found.ideal, rel=0.15)


def test_faults_deaths_and_slow_workers_cost_time(unstable):
    assert unstable.seconds > 1.1 * unstable.ideal
