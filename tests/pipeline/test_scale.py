"""The formula of what a dataset takes on many machines, against counting by hand."""

from __future__ import annotations

import math

import pytest
from refusals import refused

from fgbgpack.errors import SpecError
from fgbgpack.pipeline.scale import Assumptions, Fixed, StageWork, scale_of, seconds_of_all
from fgbgpack.spec import MOST_SAMPLES

HOURS = 3600
NOTHING = Fixed(0.0, 0, 0, 0.0, 0.0, 0, 0, 0)


def work(
    samples=1000, per_shard=10, *, rate=5.0, size=100.0, objects=2, chunks=4, name="samples"
) -> StageWork:
    return StageWork(name, samples, per_shard, objects, chunks, size, rate, memory=1e6)


def scale(works, workers, fixed=NOTHING, *, cluster=True, remote=True, **assumed):
    known = Assumptions(**{"start_seconds": 0.0, "task_seconds": 0.0, **assumed})
    samples = works[0].samples if works else 0
    on = known.on(cluster=cluster, remote=remote)
    return scale_of(samples, works, fixed, workers, on, cluster=cluster, remote=remote)


def simulated(shards: int, workers: int, each: float) -> float:
    """When the last of so many workers ends, each of which takes one shard after the other."""
    ends = [0.0] * workers
    for _ in range(shards):
        first = ends.index(min(ends))
        ends[first] += each
    return max(ends)


@pytest.mark.parametrize(
    ("shards", "workers"), [(0, 3), (1, 3), (3, 3), (7, 2), (34, 2), (100, 7), (1000, 30)]
)
def test_workers_that_take_one_shard_after_the_other(shards, workers):
    found, real = seconds_of_all(shards, workers, 2.0), simulated(shards, workers, 2.0)
    assert abs(found - real) <= 2.0 / 2
    assert found >= shards * 2.0 / workers


def test_a_shard_takes_what_making_putting_and_asking_take():
    (found,) = scale([work()], 10, request_seconds=0.1, store_mb_per_second=0.001).stages
    assert (found.shards, found.samples_per_shard, found.bytes_per_shard) == (100, 10, 1000)
    made, written = 10 / 5.0, 1000 / 1000.0
    # A PUT and two questions before it, for each of two objects.
    assert found.shard_seconds == pytest.approx(made + written + 2 * 3 * 0.1)
    faster = scale([work()], 10, request_seconds=0.1, store_mb_per_second=0.001, core_speed=2.0).stages[0]
    assert found.shard_seconds - faster.shard_seconds == pytest.approx(made / 2)


def test_threads_make_the_next_shard_while_one_is_on_its_way_to_a_store():
    def each(**more):
        slow = {"request_seconds": 0.0, "store_mb_per_second": 1000 / 1e6, **more}
        return scale([work(rate=rate)], 10, **slow).stages[0].shard_seconds

    for rate, together in ((5.0, 2.0), (20.0, 0.75)):
        made, written = 10 / rate, 1.0
        assert each(cluster=False) == pytest.approx(max(made, (made + written) / 2)) == together
        # A worker of a cluster, and what is written to a folder, are one thread's.
        assert each(cluster=True) == each(cluster=False, remote=False) == pytest.approx(made + written)


def test_objects_requests_and_the_index_are_counted():
    fixed = Fixed(0.0, 7, 3, 0.0, 5e6, 1000, 400, 21)
    found = scale([work(), work(size=50.0, objects=3, chunks=5, name="depth")], 10, fixed)
    assert found.objects == 100 * 2 + 100 * 3 + 7 + 3 + 1
    # 500 objects of shards are listed in one answer, three times.
    assert found.puts == found.objects + 3
    assert found.gets == 2 * found.objects + 2 * 500
    assert found.manifest_bytes == 4 * (100 * (4 + 5) + 7)
    assert found.opening_bytes == found.manifest_bytes + found.document_bytes + 21 * 1000
    assert found.worker_bytes - found.client_bytes < 1e6
    assert scale([work()], 10, fixed, remote=False).puts == 0


def test_money_is_asked_only_where_there_is_a_price():
    assert {*vars(scale([work()], 10).money).values()} == {None}
    prices = {"price_core_hour": 0.5, "price_1000_puts": 2.0, "price_1000_gets": 1.0, "price_gb_month": 3.0}
    found = scale([work(size=1e6)], 10, **prices)
    assert found.money.cores == pytest.approx(found.core_hours * 0.5)
    assert found.money.requests == pytest.approx((found.puts * 2.0 + found.gets) / 1000)
    assert found.money.month == pytest.approx((1000 * 1e6 + found.manifest_bytes) / 1e9 * 3.0)
    # Who writes to a folder asks no store.
    assert scale([work()], 10, remote=False, **prices).money.requests == 0


def test_cores_are_paid_for_while_there_is_work():
    fixed = Fixed(3600.0, 0, 0, 0.0, 0.0, 0, 0, 0)
    found = scale([work()], 10, fixed, request_seconds=0.0, store_mb_per_second=1e9, start_seconds=5.0)
    busy = 5.0 + found.stages[0].seconds
    assert found.seconds == pytest.approx(3600 + busy + found.finish_seconds)
    assert found.core_hours == pytest.approx((10 * busy + found.seconds - busy) / HOURS)
    assert found.efficiency == pytest.approx((1000 / 5.0) / (found.core_hours * HOURS))


def test_a_scheduler_that_is_slower_than_the_workers_decides():
    found = scale([work(100_000, 10, rate=1e9)], 1000, task_seconds=0.01, request_seconds=0.0)
    assert found.stages[0].seconds == pytest.approx(100.0)
    assert any("scheduler" in line for line in found.limits)
    assert not scale([work(100_000, 10)], 10, task_seconds=0.001).limits


def test_what_is_in_the_way_is_said():
    few = scale([work()], 1000).limits
    assert few == ("samples: 100 shards for 1,000 workers, so some wait.",)
    assert scale([work()], 1000, cluster=False).limits == ()
    many = 2 * MOST_SAMPLES + 5
    lines = "\n".join(scale([work(many, 10**6, rate=1e6)], 10).limits)
    assert f"make 3 of {math.ceil(many / 3):,}" in lines
    assert "larger shards" in "\n".join(scale([work(many, 1000, rate=1e6)], 10).limits)
    wide = Fixed(0.0, 0, 0, 0.0, 0.0, 0, 20_000_000, 21)
    assert "fewer pictures" in "\n".join(scale([work()], 10, wide).limits)
    assert "5 GB" in "\n".join(scale([work(10**6, 10**5, size=1e5)], 2).limits)
    assert scale([work()], 10).limits == ()


def test_names_and_values_of_assumptions():
    found = Assumptions.parse(["core-speed=2", "price-core-hour=0.04", "task-seconds=0"])
    assert found == Assumptions(core_speed=2.0, price_core_hour=0.04, task_seconds=0.0)
    for wrong in (
        "core-speed",
        "core-speed=fast",
        "core-speed=0",
        "core-speed=nan",
        "core-speed=-1",
        "speed=1",
    ):
        with refused(SpecError, "assumption-invalid"):
            Assumptions.parse([wrong])
    with pytest.raises(SpecError) as caught:
        Assumptions.parse(["x=1", "core-speed=x"])
    assert len(caught.value.problems) == 2


def test_what_is_not_given_is_as_usual():
    assert Assumptions(request_seconds=0.5).on(cluster=True, remote=True).request_seconds == 0.5
    here, there = (Assumptions().on(cluster=kind, remote=kind) for kind in (False, True))
    assert (here.start_seconds, here.request_seconds, here.task_seconds) == (0.0, 0.0, 0.0)
    assert (there.start_seconds, there.request_seconds, there.store_mb_per_second) == (5.0, 0.03, 60.0)
    assert there.price_core_hour is None


def test_small_objects_are_put_several_at_a_time():
    none, many = Fixed(0.0, 0, 0, 0.0, 0.0, 0, 0, 0), Fixed(0.0, 1600, 0, 0.0, 0.0, 0, 0, 0)
    before, after = (scale([], 10, fixed, request_seconds=0.1) for fixed in (none, many))
    # Three requests each, and one more part of the manifest.
    assert after.start_seconds - before.start_seconds == pytest.approx(1601 * 3 * 0.1 / 16)
