"""The order of samples: every sample once in an epoch, the same order everywhere."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from tensors import CHUNK, SAMPLES, indices_of
from zarr.storage import ObjectStore

from fgbgpack import Dataset, SpecError, create, open_dataset
from fgbgpack.torch import BlockShuffleSampler, FgBgDataset, make_loader
from fgbgpack.torch import sampler as sampler_module


def order_of(sampler: BlockShuffleSampler) -> list[list[int]]:
    return [list(batch) for batch in sampler]


@pytest.fixture(scope="module")
def opened(path: Path) -> Dataset:
    return open_dataset(path)


class TestOrder:
    @given(
        shuffle=st.booleans(),
        samples=st.integers(1, SAMPLES),
        size=st.integers(1, 40),
        window=st.integers(1, 9),
        lanes=st.integers(1, 5),
        ranks=st.integers(1, 5),
        epoch=st.integers(0, 2**40),
    )
    def test_all_ranks_together_take_each_sample_once(
        self,
        opened: Dataset,
        shuffle: bool,
        samples: int,
        size: int,
        window: int,
        lanes: int,
        ranks: int,
        epoch: int,
    ) -> None:
        chosen = np.random.default_rng(samples).permutation(SAMPLES)[:samples]
        data = FgBgDataset(opened, indices=chosen)
        options = {"window": window, "lanes": lanes, "world_size": ranks, "shuffle": shuffle}
        if samples < ranks:
            with pytest.raises(SpecError) as caught:
                BlockShuffleSampler(data, size, **options)
            assert caught.value.code == "samples-too-few"
            return
        each = []
        for rank in range(ranks):
            sampler = BlockShuffleSampler(data, size, rank=rank, **options)
            sampler.set_epoch(epoch)
            each.append(order_of(sampler))
            assert len(each[-1]) == len(sampler)
        assert sorted(i for batches in each for batch in batches for i in batch) == list(range(samples))
        assert {len(batch) for batches in each for batch in batches} <= set(range(1, size + 1))
        taken = [sum(map(len, batches)) for batches in each]
        assert max(taken) - min(taken) <= 1
        steps = [len(batches) for batches in each]
        assert max(steps) - min(steps) <= (size == 1)
        assert max(steps) == -(-max(taken) // size)

    @given(size=st.integers(1, 40), ranks=st.integers(1, 5), lanes=st.integers(1, 4))
    def test_all_batches_are_full_where_the_last_is_dropped(
        self, opened: Dataset, size: int, ranks: int, lanes: int
    ) -> None:
        data = FgBgDataset(opened)
        options = {"window": 3, "lanes": lanes, "world_size": ranks, "drop_last": True}
        if size * ranks > SAMPLES:
            with pytest.raises(SpecError) as caught:
                BlockShuffleSampler(data, size, **options)
            assert caught.value.code == "samples-too-few"
            return
        taken: list[int] = []
        for rank in range(ranks):
            batches = order_of(BlockShuffleSampler(data, size, rank=rank, **options))
            assert [len(batch) for batch in batches] == [size] * (SAMPLES // (size * ranks))
            taken += [i for batch in batches for i in batch]
        assert len(set(taken)) == len(taken)

    def test_an_order_never_changes(self, path: Path) -> None:
        sampler = BlockShuffleSampler(FgBgDataset(path), 6, window=3, lanes=2, seed=7)
        sampler.set_epoch(3)
        assert order_of(sampler)[:3] == [
            [12, 14, 10, 117, 13, 11],
            [106, 64, 61, 108, 105, 107],
            [90, 92, 94, 28, 27, 91],
        ]

    def test_epochs_and_seeds_have_orders_of_their_own(self, path: Path) -> None:
        data = FgBgDataset(path)
        orders = []
        for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1)):
            sampler = BlockShuffleSampler(data, 8, seed=seed)
            sampler.set_epoch(epoch)
            orders.append(order_of(sampler))
            sampler.set_epoch(epoch)
            assert order_of(sampler) == orders[-1]
        assert all(a != b for i, a in enumerate(orders) for b in orders[:i])

    @pytest.mark.parametrize("ranks", [1, 3])
    @pytest.mark.parametrize("drop_last", [False, True])
    def test_in_order_each_rank_has_samples_that_follow_one_another(
        self, path: Path, ranks: int, drop_last: bool
    ) -> None:
        data, seen = FgBgDataset(path, indices=slice(3, 120, 2)), []
        for rank in range(ranks):
            options: Any = {"rank": rank, "world_size": ranks, "drop_last": drop_last, "shuffle": False}
            order = BlockShuffleSampler(data, 7, **options)
            batches = order_of(order)
            assert len(batches) == len(order)
            seen += [position for batch in batches for position in batch]
            # Two passes and a half, each of them from a place within it.
            endless = BlockShuffleSampler(data, 7, steps_per_epoch=5 * len(order) // 2, **options)
            assert order_of(endless) == (3 * batches)[: 5 * len(order) // 2]
            endless.load_state_dict(endless.state_dict() | {"epoch": 0, "batches": 2})
            assert order_of(endless) == (3 * batches)[2 : 5 * len(order) // 2]
        assert seen == list(range(len(seen)))
        assert len(data) - len(seen) in (range(7 * ranks) if drop_last else (0,))

    def test_without_shuffling_samples_come_in_their_own_order(self, path: Path) -> None:
        data = FgBgDataset(path, indices=[9, 4, 77, 5, 0])
        assert order_of(BlockShuffleSampler(data, 2, shuffle=False)) == [[0, 1], [2, 3], [4]]

    @pytest.mark.parametrize("lanes", [1, 3])
    def test_a_batch_comes_from_few_chunks_and_mixes_them(self, path: Path, lanes: int) -> None:
        sampler = BlockShuffleSampler(FgBgDataset(path), 10, window=4, lanes=lanes)
        touched = [len({i // CHUNK for i in batch}) for batch in sampler]
        # A group may begin and end within a chunk.
        assert max(touched) <= 4 + 2
        assert np.mean(touched[lanes * 2 :]) > 3

    @pytest.mark.parametrize("pixels", ["stored", "recomposed"])
    def test_large_samples_are_mixed_as_well(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, pixels: Any
    ) -> None:
        """Where memory holds 24 samples for each lane, a batch of 20 comes from about as many chunks."""
        data = FgBgDataset(path, pixels=pixels, fields=["image", "mask"])
        monkeypatch.setattr(sampler_module, "_WINDOW_BYTES", 2 * 24 * data.dataset.sample_bytes)
        sampler = BlockShuffleSampler(data, 20, lanes=2)
        assert (sampler.window, sampler.part) == (24, 1)
        batches = order_of(sampler)
        assert sorted(i for batch in batches for i in batch) == list(range(SAMPLES))
        # Of 24 chunks, 20 samples at random come from 13.9.
        assert np.mean([len({i // CHUNK for i in batch}) for batch in batches]) > 12
        loader = make_loader(data, 20, lanes=2, workers=0)
        assert sorted(indices_of(loader)) == list(range(SAMPLES))
        assert BlockShuffleSampler(data, 20, lanes=2, window=3).part == CHUNK

    @pytest.mark.parametrize("options", [{"lanes": 1}, {"lanes": 4}, {"lanes": 4, "dtype": torch.float32}])
    def test_an_epoch_decodes_each_chunk_about_once(self, path: Path, options: Any) -> None:
        dtype = options.pop("dtype", None)
        data = FgBgDataset(path, dtype=dtype, pixels="stored")
        loader = make_loader(data, 10, workers=0, window=4, **options)
        assert sorted(indices_of(loader)) == list(range(SAMPLES))
        decoded = data.dataset.image.chunks_decoded
        # Groups are made of whole batches, here of two chunks: none needs to be cut.
        assert decoded == SAMPLES // CHUNK

    @pytest.mark.parametrize(
        ("options", "problems"),
        [
            ({"batch_size": 0}, ["batch_size: found 0"]),
            ({"window": 0, "lanes": 0}, ["window: found 0", "lanes: found 0"]),
            ({"seed": -1}, ["seed: found -1"]),
            ({"seed": 1.5}, ["seed: found 1.5"]),
            ({"seed": True}, ["seed: found True"]),
            ({"rank": 2, "world_size": 2}, ["rank: found 2"]),
            ({"rank": 1}, ["rank: found 1"]),
        ],
    )
    def test_a_wrong_number_is_named(self, path: Path, options: Any, problems: list[str]) -> None:
        with pytest.raises(SpecError) as caught:
            BlockShuffleSampler(FgBgDataset(path), **({"batch_size": 8} | options))
        assert caught.value.code == "order-invalid"
        assert [problem.partition(",")[0] for problem in caught.value.problems] == problems

    def test_a_wrong_epoch(self, path: Path) -> None:
        with pytest.raises(SpecError) as caught:
            BlockShuffleSampler(FgBgDataset(path), 8).set_epoch(-1)
        assert caught.value.code == "order-invalid"


class TestState:
    @pytest.mark.slow
    @pytest.mark.parametrize("workers", [0, 2])
    @pytest.mark.parametrize("given_out", [1, 5, 14, 15])
    def test_a_loader_resumes_where_another_was(self, path: Path, workers: int, given_out: int) -> None:
        whole = make_loader(path, 8, workers=0, seed=3, window=3)
        epochs = [[batch["index"].tolist() for batch in whole] for _ in range(3)]
        first = make_loader(path, 8, workers=workers, seed=3, window=3)
        for _ in first:
            pass
        batches = iter(first)
        for _ in range(given_out):
            next(batches)
        state = first.state_dict()
        del batches

        # The seed comes with the state.
        second = make_loader(path, 8, workers=workers, window=3)
        second.load_state_dict(state)
        assert second.state_dict() == state
        rest = epochs[1][given_out:]
        if rest:
            assert second.epoch == 1
            second.set_epoch(1)
            assert [batch["index"].tolist() for batch in second] == rest
        assert second.epoch == 2
        assert [batch["index"].tolist() for batch in second] == epochs[2]

    def test_a_state_survives_torch_save(self, path: Path, tmp_path: Path) -> None:
        loader = make_loader(path, 8, workers=0)
        next(iter(loader))
        torch.save(loader.state_dict(), tmp_path / "state.pt")
        assert torch.load(tmp_path / "state.pt", weights_only=True) == loader.state_dict()

    def test_another_epoch_begins_at_its_beginning(self, path: Path) -> None:
        loader = make_loader(path, 8, workers=0)
        next(iter(loader))
        loader.load_state_dict(loader.state_dict())
        loader.set_epoch(5)
        assert len(list(loader)) == len(loader) == 15
        assert loader.state_dict()["epoch"] == 6
        assert loader.state_dict()["batches"] == 0

    def test_a_sampler_alone_counts_requested_batches(self, path: Path) -> None:
        data = FgBgDataset(path)
        sampler = BlockShuffleSampler(data, 8, seed=9)
        order = order_of(sampler)
        sampler.set_epoch(0)
        batches = iter(sampler)
        for _ in range(4):
            next(batches)
        other = BlockShuffleSampler(data, 8)
        other.load_state_dict(sampler.state_dict())
        assert order_of(other) == order[4:]
        assert other.epoch == 1
        other.load_state_dict(sampler.state_dict(batches=2))
        assert order_of(other) == order[2:]

    def test_between_epochs_anything_but_the_samples_may_change(self, path: Path) -> None:
        first = make_loader(path, 8, workers=0, seed=4)
        list(first)
        state = first.state_dict()
        options = {"window": 3, "lanes": 2, "drop_last": True, "seed": 4}
        ranks = [make_loader(path, 10, workers=0, rank=r, world_size=2, **options) for r in range(2)]
        for rank in ranks:
            rank.load_state_dict(state)
            assert rank.epoch == 1
        assert sorted(indices_of(ranks[0]) + indices_of(ranks[1])) == list(range(SAMPLES))
        other = make_loader(path, 8, workers=0, indices=range(60))
        with pytest.raises(SpecError) as caught:
            other.load_state_dict(state)
        assert [problem.split(":")[0] for problem in caught.value.problems] == ["samples"]

    def test_in_order_another_batch_size_goes_on_at_the_same_sample(self, path: Path) -> None:
        first = make_loader(path, 8, workers=0, shuffle=False)
        seen = indices_of(batch for batch, _ in zip(first, range(5), strict=False))[:40]
        first.load_state_dict(first.order.state_dict(5))
        state = first.state_dict()
        second = make_loader(path, 20, workers=0, shuffle=False, window=3, lanes=1)
        second.load_state_dict(state)
        assert seen + indices_of(second) == list(range(SAMPLES))
        for options in ({"batch_size": 7}, {"batch_size": 10, "rank": 0, "world_size": 2}):
            with pytest.raises(SpecError) as caught:
                make_loader(path, workers=0, shuffle=False, **options).load_state_dict(state)
            assert caught.value.code == "state-differs"

    def test_a_state_of_another_order_is_refused(self, path: Path) -> None:
        loader = make_loader(path, 8, workers=0, window=3)
        next(iter(loader))
        state = loader.state_dict()
        other = make_loader(path, 9, workers=0, window=4, indices=range(60), world_size=2)
        with pytest.raises(SpecError) as caught:
            other.load_state_dict(state)
        assert caught.value.code == "state-differs"
        differing = [problem.split(":")[0] for problem in caught.value.problems]
        assert differing == ["samples", "batch_size", "window", "world_size"]
        assert "batch_size: found 8, expected 9" in caught.value.problems


class TestReadingAhead:
    """Orders of datasets in stores far away."""

    @pytest.fixture
    def far(self, tmp_path: Path, pictures: Any) -> FgBgDataset:
        """1,440 samples in 288 chunks, as if they were far away."""
        store = pytest.importorskip("obstore.store")
        path = tmp_path / "far.zarr"
        spec = pictures.spec(width=25, height=15, foreground_height=8, placements=120, chunk=5, depth=None)
        create(path, spec)
        return FgBgDataset(ObjectStore(store.LocalStore(path), read_only=True))

    @pytest.mark.parametrize("lanes", [1, 2, 3])
    @pytest.mark.parametrize("ranks", [1, 2])
    def test_what_comes_ahead_is_what_comes(self, far: FgBgDataset, lanes: int, ranks: int) -> None:
        seen: list[int] = []
        for rank in range(ranks):
            order = BlockShuffleSampler(far, 10, window=4, lanes=lanes, rank=rank, world_size=ranks)
            assert order.adjacent == 4
            batches: list[Any] = list(order)
            seen += [position for batch in batches for position in batch]
            for number, batch in enumerate(batches):
                assert (batch.ahead is None) == (batch.start > 0)
                if batch.ahead is None:
                    continue
                assert batch.ahead.lanes == order.lanes_used
                ahead = set(batch.ahead.positions.tolist())
                assert not ahead & set(batch.group.tolist())
                later = [
                    one for one in batches[number:] if one.lane == batch.lane and one.group is not batch.group
                ]
                known = {position for one in later for position in one}
                assert ahead <= known
                following = later[0].group.tolist() if later else []
                assert ahead >= set(following) or set(following) >= ahead
                again = pickle.loads(pickle.dumps(batch))
                assert again.ahead.positions.tolist() == batch.ahead.positions.tolist()
        assert sorted(seen) == list(range(len(far)))

    def test_the_order_of_a_local_copy_is_the_same_if_asked(self, far: FgBgDataset) -> None:
        local = FgBgDataset(Path(str(far.dataset.store.store.store.prefix)))
        for adjacent in (1, 4):
            orders = [
                order_of(BlockShuffleSampler(one, 10, window=4, adjacent=adjacent)) for one in (far, local)
            ]
            assert orders[0] == orders[1]
        far_order = BlockShuffleSampler(far, 10, window=4)
        assert order_of(far_order) == orders[0]
        next(iter(far_order))
        with refused(SpecError, "state-differs", "adjacent"):
            BlockShuffleSampler(local, 10, window=4).load_state_dict(far_order.state_dict(batches=3))
