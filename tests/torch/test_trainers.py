"""Trainers that count steps, share samples among processes, or take a loader apart."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trainer_runs
from tensors import SAMPLES, indices_of
from torch.utils.data import SequentialSampler

from fgbgpack import SpecError
from fgbgpack.torch import BlockShuffleSampler, FgBgDataset, make_loader
from fgbgpack.torch.trainers import RankSampler, TrainerBatches

ALL = list(range(SAMPLES))


def flat(batches: Any) -> list[int]:
    return [i for batch in batches for i in batch]


def check_orders(epochs: list[list[list[int]]]) -> None:
    """Each epoch begins with other samples."""
    firsts = [tuple(epoch[0]) for epoch in epochs]
    assert len(set(firsts)) == len(firsts) > 1


class TestCountedSteps:
    @pytest.mark.parametrize("workers", [0, 2])
    @pytest.mark.parametrize("steps", [1, 4, 15])
    def test_an_epoch_that_is_left_early_is_followed_by_another(
        self, path: Path, workers: int, steps: int
    ) -> None:
        loader = make_loader(path, 8, workers=workers, seed=1, window=2)
        ways = [
            lambda: list(itertools.islice(loader, steps)),
            lambda: [batch for _, batch in zip(range(steps), loader, strict=False)],
            lambda: [next(batches) for batches in [iter(loader)] for _ in range(steps)],
        ]
        epochs = []
        for number, way in enumerate(ways):
            epochs.append([batch["index"].tolist() for batch in way()])
            ended = steps == len(loader)
            state = loader.state_dict()
            assert state["epoch"] == loader.epoch == number + ended
            assert state["batches"] == (0 if ended else steps)
        check_orders(epochs)
        if steps == 15:
            assert all(sorted(flat(epoch)) == ALL for epoch in epochs)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_epochs_of_some_steps_go_on_through_all_samples(self, path: Path, workers: int) -> None:
        loader = make_loader(path, 8, workers=workers, steps_per_epoch=4, window=2)
        assert len(loader) == 4
        epochs = [[batch["index"].tolist() for batch in loader] for _ in range(8)]
        assert [len(epoch) for epoch in epochs] == [4] * 8
        assert loader.epoch == 8
        seen = flat(itertools.chain(*epochs))
        assert sorted(seen[:SAMPLES]) == sorted(seen[SAMPLES : 2 * SAMPLES]) == ALL
        assert seen[:SAMPLES] != seen[SAMPLES : 2 * SAMPLES]
        loader.set_epoch(2)
        assert [batch["index"].tolist() for batch in loader] == epochs[2]

    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_stream_has_no_end_and_goes_on_where_it_was_left(self, path: Path, workers: int) -> None:
        loader = make_loader(path, 8, workers=workers, steps_per_epoch=math.inf, window=2)
        with pytest.raises(TypeError):
            len(loader)
        seen = indices_of(itertools.islice(loader, 20))
        assert (loader.epoch, loader.state_dict()["batches"]) == (1, 5)
        for _ in range(10):
            seen += next(iter(loader))["index"].tolist()
        assert sorted(seen[:SAMPLES]) == sorted(seen[SAMPLES:]) == ALL
        assert seen[:SAMPLES] != seen[SAMPLES:]
        assert (loader.epoch, loader.state_dict()["batches"]) == (2, 0)

    @pytest.mark.parametrize("workers", [0, 2])
    @pytest.mark.parametrize("steps", [None, 4, math.inf])
    def test_the_state_is_that_of_what_was_returned(self, path: Path, workers: int, steps: Any) -> None:
        options = {"steps_per_epoch": steps, "window": 2}
        whole = make_loader(path, 8, workers=0, **options)
        expected: list[list[int]] = []
        while len(expected) < 40:
            expected += [batch["index"].tolist() for batch in itertools.islice(whole, 40)]
        for given_out in (3, 4, 15, 17):
            first = make_loader(path, 8, workers=workers, **options)
            got = 0
            while got < given_out:
                got += sum(1 for _ in itertools.islice(first, given_out - got))
            state = first.state_dict()
            assert state["epoch"] == first.epoch
            second = make_loader(path, 8, workers=workers, **options)
            second.load_state_dict(json.loads(json.dumps(state)))
            assert second.epoch == first.epoch
            batch = next(iter(second))["index"].tolist()
            assert batch == expected[given_out]

    def test_an_epoch_that_is_asked_for_comes_however_often(self, path: Path) -> None:
        loader = make_loader(path, 8, workers=0)
        firsts = []
        for _ in range(3):
            loader.set_epoch(5)
            firsts.append(next(iter(loader))["index"].tolist())
        assert firsts[0] == firsts[1] == firsts[2]

    @pytest.mark.parametrize(
        ("persistent", "expected"), [(None, [0, 1, 2]), (False, [0, 1, 2]), (True, [0, 0, 0])]
    )
    def test_what_changes_in_a_transform_reaches_workers_that_start_anew(
        self, path: Path, persistent: bool | None, expected: list[int]
    ) -> None:
        strength = Strength()
        loader = make_loader(path, 40, workers=2, transform=strength, persistent_workers=persistent)
        seen = []
        for epoch in range(3):
            strength.value = epoch
            seen.append({int(value) for batch in loader for value in batch["strength"]})
        assert seen == [{value} for value in expected]

    def test_workers_stay_where_nothing_can_change(self, path: Path) -> None:
        assert make_loader(path, 8, workers=1).persistent_workers
        assert not make_loader(path, 8, workers=1, persistent_workers=False).persistent_workers


class Strength:
    value = 0

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        return sample | {"strength": self.value}


class TestTakenApart:
    def test_a_sampler_around_another_is_refused_and_says_what_to_do(self, path: Path) -> None:
        for make in (BlockShuffleSampler, TrainerBatches):
            with pytest.raises(SpecError) as caught:
                make(SequentialSampler(range(10)), batch_size=4, drop_last=False)  # type: ignore[arg-type]
            assert caught.value.code == "order-invalid"
            assert "use_distributed_sampler=False" in str(caught.value)

    def test_its_batch_sampler_has_the_batches_of_all_ranks(self, path: Path) -> None:
        alone = [batch["index"].tolist() for batch in make_loader(path, 8, workers=0)]
        loader = make_loader(path, 8, workers=0, rank=1, world_size=2)
        assert [list(batch) for batch in loader.batch_sampler] == alone
        rebuilt = TrainerBatches(loader.sampler, batch_size=8, drop_last=False)
        assert [list(batch) for batch in rebuilt] == [batch["index"].tolist() for batch in loader]

    def test_epochs_that_trainers_tell(self, path: Path) -> None:
        data = FgBgDataset(path)
        sampler = BlockShuffleSampler(data, 8)
        told = RankSampler(sampler, sampler.tell_epoch)
        orders = {}
        for epoch in range(6):
            sampler.set_epoch(epoch)
            orders[epoch] = next(iter(sampler))
        sampler = BlockShuffleSampler(data, 8)
        told = RankSampler(sampler, sampler.tell_epoch)
        # Accelerate tells the same number again where an iteration was left early; Lightning counts on.
        for number, epoch in ((0, 0), (0, 1), (1, 2), (4, 4), (4, 5), (3, 3)):
            told.set_epoch(number)
            assert next(iter(sampler)) == orders[epoch], (number, epoch)

    def test_a_batch_that_was_filled_up_is_read_as_it_is(self, path: Path) -> None:
        data = FgBgDataset(path)
        batch = next(iter(BlockShuffleSampler(data, 8)))
        whole = [*batch, 3, 5]
        batch += [3, 5]
        for one in (batch, pickle.loads(pickle.dumps(batch))):
            assert [int(sample["index"]) for sample in data.__getitems__(one)] == whole

    @pytest.mark.parametrize("workers", [0, 1])
    def test_a_loader_can_be_pickled(self, path: Path, workers: int) -> None:
        loader = make_loader(path, 8, workers=workers)
        first = indices_of(loader)
        other = pickle.loads(pickle.dumps(loader))
        assert other.epoch == 1
        other.set_epoch(0)
        assert indices_of(other) == first


def run(name: str, package: str, path: Path, tmp_path: Path, ranks: int = 1) -> list[dict[str, Any]]:
    """What each rank of a trainer saw."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: it is in the extra dev")
    script = [sys.executable, trainer_runs.__file__, name, str(path), str(tmp_path / "seen")]
    done = subprocess.run(script, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((tmp_path / f"seen.{rank}").read_text()) for rank in range(ranks)]


def check_all(ranks: list[dict[str, Any]], name: str) -> None:
    """All ranks together see each sample once in each epoch, in equally many steps."""
    for epochs in zip(*(found[name] for found in ranks), strict=True):
        assert sorted(i for batches in epochs for i in flat(batches)) == ALL
        assert len({len(batches) for batches in epochs}) == 1
    for found in ranks:
        if len(found[name]) > 1:
            check_orders(found[name])


@pytest.mark.slow
class TestTrainers:
    def test_lightning(self, path: Path, tmp_path: Path) -> None:
        (found,) = run("lightning", "pytorch_lightning", path, tmp_path)
        for name in ("fit", "fit with workers", "predict", "predict all"):
            check_all([found], name)
        assert found["fit"] == found["fit with workers"]
        assert [len(epoch) for epoch in found["limited"]] == [4, 4]
        check_orders(found["limited"])
        assert [len(epoch) for epoch in found["steps"]] == [8, 8]
        assert sorted(flat(itertools.chain(*found["steps"]))[:SAMPLES]) == ALL
        (stream,) = found["stream"]
        assert sorted(flat(stream[:15])) == sorted(flat(stream[15:])) == ALL
        assert found["overfit"] == [[ALL[:8], ALL[8:16]]] * 2
        for stop in (5, 15):
            expected, resumed = found[f"resume {stop}"]
            assert resumed == expected
            assert len(resumed) == 30 - stop

    def test_lightning_on_two_devices_with_its_defaults(self, path: Path, tmp_path: Path) -> None:
        ranks = run("lightning_ddp", "pytorch_lightning", path, tmp_path, 2)
        check_all(ranks, "fit")
        check_all(ranks, "predict")
        # Of the dataset's positions, which here are its samples.
        for found in ranks:
            assert found["predicted indices"] == found["predict"]

    def test_accelerate(self, path: Path, tmp_path: Path) -> None:
        (found,) = run("accelerate", "accelerate", path, tmp_path)
        for even in (True, False):
            check_all([found], f"prepared, even {even}")
            check_orders(found[f"cut, even {even}"])
            assert [len(epoch) for epoch in found[f"steps, even {even}"]] == [3, 3]
            check_orders(found[f"steps, even {even}"])
        check_all([found], "not prepared")
        check_all([found], "gathered")

    def test_accelerate_with_two_processes(self, path: Path, tmp_path: Path) -> None:
        ranks = run("accelerate_two", "accelerate", path, tmp_path, 2)
        check_all(ranks, "not prepared")
        for epochs in zip(*(found["prepared, even False"] for found in ranks), strict=True):
            assert sorted(flat(itertools.chain(*epochs))) == ALL
        # Accelerate fills up the last batches, and leaves what it filled in out of what it gathers.
        for epochs in zip(*(found["prepared, even True"] for found in ranks), strict=True):
            assert set(flat(itertools.chain(*epochs))) == set(ALL)
            assert [len(epoch) for epoch in epochs] == [8, 8]
        for found in ranks:
            assert sorted(flat(found["gathered"][0])) == ALL
            for name in ("prepared", "cut", "steps"):
                check_orders(found[f"{name}, even True"])
            assert [len(epoch) for epoch in found["steps, even True"]] == [3, 3]
        first = [flat(found["steps, even True"][0]) for found in ranks]
        assert len({*first[0], *first[1]}) == 48

    def test_ignite(self, path: Path, tmp_path: Path) -> None:
        (found,) = run("ignite", "ignite", path, tmp_path)
        for kind in ("Engine", "DeterministicEngine"):
            check_all([found], f"{kind} None")
            check_orders(found[f"{kind} 4"])
            assert [len(epoch) for epoch in found[f"{kind} 4"]] == [4, 4]
