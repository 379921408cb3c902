"""An order of samples that is shuffled and still cheap to read, epoch after epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch import distributed
from torch.utils.data import Sampler

from fgbgpack.errors import SpecError
from fgbgpack.options import checked_flags, checked_numbers, whole_number
from fgbgpack.torch.batches import Ahead, EpochBatch, GroupBatch, Positions
from fgbgpack.torch.dataset import FgBgDataset
from fgbgpack.torch.order import RankOrder

#: What the windows of all lanes may take by default.
_WINDOW_BYTES = 1 << 30
_LANES = 4
_SEEDS = 1 << 64
_MANY = 1 << 31
#: The options that a state must have in common with the sampler that loads it.
_STATE_OPTIONS = (
    "samples",
    "batch_size",
    "window",
    "part",
    "lanes",
    "adjacent",
    "world_size",
    "drop_last",
    "shuffle",
    "steps_per_epoch",
)


class BlockShuffleSampler(Sampler[list[int]]):
    """Batches of positions, with every sample once in an epoch, in an order that is fast to read.

    Chunks of images (about 40 samples) are shuffled, and every ``window`` chunks make a group, whose samples
    are shuffled and divided into batches. A :class:`FgBgDataset` reads a group at once for the first of its
    batches, so each chunk is decoded once. Of large pictures parts of chunks are shuffled in place of chunks,
    so that a group of the same size in memory mixes as many; a chunk is then decoded once for each part.

    There are several ``lanes`` of groups, and batches come from them in turn. A ``DataLoader`` gives batches
    to its workers in turn, too, so where the number of lanes is a multiple of that of workers, no two workers
    read the same group. The order depends on lanes, but not on workers.

    The order is a function of the seed, the epoch and the options here, the same on every machine. Pass the
    sampler to a ``DataLoader`` as its ``batch_sampler``.

    **Epochs.** Each iteration is an epoch: the next one has another order, also where one was left early.
    :meth:`set_epoch` and :meth:`load_state_dict` name the epoch of the next iteration.

    **Ranks.** All ranks together take each sample once, each rank its own, and none is repeated. The numbers
    of samples of two ranks differ by at most one, the numbers of batches are equal: where a rank has fewer
    samples, its last batches are smaller. (With ``batch_size=1`` it has one batch less.) With ``drop_last``
    all batches are full, and the few samples left over, others in each epoch, are taken by no rank.

    **State.** ``state_dict`` holds the epoch and how many of its batches were returned. A ``DataLoader`` with
    workers requests batches ahead of your loop, which a sampler cannot see: the loader of :func:`make_loader`
    counts correctly, and for a plain ``DataLoader`` you pass the number of batches that your loop has had.

    Args:
        dataset: The samples.
        batch_size: Samples in a batch; see above for the last ones.
        window: Number of chunks in a group, which are in memory together; ``None``: 16, or parts of at least
            as many where the groups of all lanes would take more than 1 GiB with image, mask and depth. A
            part is at least an eighth of a chunk, or one sample where samples are recomposed without depth.
        lanes: Number of groups that are read side by side; fewer where there are not enough chunks.
        adjacent: Number of chunks that follow one another and come soon after one another, each in a group of
            its own, so that they can be requested together; ``None``: 4 in a store far away, else 1. Fewer
            where there are not enough chunks.
        seed: 64 bits.
        rank: Number of this process among ``world_size``, from 0; ``None``: that of ``torch.distributed``,
            which may be initialised at any time before an iteration, else 0.
        world_size: Number of processes that share the samples; ``None``: that of ``torch.distributed``,
            else 1.
        drop_last: Whether to leave out batches that are not full.
        shuffle: With ``False`` samples come in their own order, those of each rank one after the other.
        steps_per_epoch: Batches of this rank in an epoch; ``None``: those that hold all samples once. Passes
            over all samples, each in another order, then follow one another, and an epoch begins where the
            one before ends. With ``math.inf`` an iteration never ends, the next goes on where it was left,
            and epochs are passes.

    Attributes:
        window: Number of chunks in a group, or of parts of chunks.
        part: Samples that are read together: those of a chunk, or of a part of one.
        batches_per_group: Number of batches in a group.

    Raises:
        SpecError: A number is out of range; all problems are reported together.

    Example:
        >>> sampler = BlockShuffleSampler(dataset, 64, seed=1)  # doctest: +SKIP
        >>> loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=collate)  # doctest: +SKIP
    """

    def __init__(
        self,
        dataset: FgBgDataset,
        batch_size: int,
        *,
        window: int | None = None,
        lanes: int = _LANES,
        adjacent: int | None = None,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        drop_last: bool = False,
        shuffle: bool = True,
        steps_per_epoch: float | None = None,
    ) -> None:
        if not isinstance(dataset, FgBgDataset):
            raise SpecError(
                f"dataset: found a {type(dataset).__name__}, expected a FgBgDataset. A trainer that builds "
                "this sampler anew around one of its own need not: give it the loader of make_loader, or "
                "have it leave samplers alone: in Lightning, Trainer(use_distributed_sampler=False).",
                code="order-invalid",
            )
        self.dataset, self._asked_window = dataset, window
        self._rank, self._world_size = rank, world_size
        world = self.world_size
        endless = steps_per_epoch == math.inf
        whole = _checked(
            batch_size=(batch_size, 1, _MANY),
            window=(1 if window is None else window, 1, _MANY),
            lanes=(lanes, 1, 1 << 10),
            adjacent=(dataset.dataset.adjacent if adjacent is None else adjacent, 1, _MANY),
            seed=(seed, 0, _SEEDS),
            steps_per_epoch=(1 if endless or steps_per_epoch is None else steps_per_epoch, 1, _MANY),
            world_size=(world, 1, _MANY),
            rank=(self.rank, 0, max(1, whole_number(world) or 1)),
        )
        self.batch_size, self.window, self.lanes, self.adjacent, self.seed, steps, *place = whole
        whole_world, whole_rank = place
        self._rank = None if rank is None else whole_rank
        self._world_size = None if world_size is None else whole_world
        self.drop_last, self.shuffle = checked_flags(drop_last=drop_last, shuffle=shuffle)
        self.steps_per_epoch = steps_per_epoch if endless or steps_per_epoch is None else steps
        self._mixing = dataset.mixing(None if window is None else self.window, _WINDOW_BYTES // self.lanes)
        self.window, self.part = self._mixing.window, self._mixing.part
        fresh = " fresh" if dataset.fresh else ""
        self._samples = f"{len(dataset)} {dataset.indices_digest[:16]}{fresh}"
        self._shared: RankOrder | None = None
        # The epoch of this iteration, or of the next one while that has not begun, and its position then.
        self._epoch, self._start, self._begun = 0, 0, False
        self._returned = 0  # batches of this epoch
        self._told: int | None = None  # the last epoch that a trainer has told
        self._just_loaded = False
        _ = self._order

    @property
    def rank(self) -> int:
        """Number of this process among ``world_size``."""
        return distributed.get_rank() if self._rank is None and _is_distributed() else self._rank or 0

    @property
    def world_size(self) -> int:
        """Number of processes that share the samples."""
        if self._world_size is None:
            return distributed.get_world_size() if _is_distributed() else 1
        return self._world_size

    @property
    def _order(self) -> RankOrder:
        """The order of this rank; another one once ``torch.distributed`` is initialised."""
        place = int(self.rank), int(self.world_size)
        if self._shared is None or (self._shared.rank, self._shared.world_size) != place:
            self._shared = RankOrder(
                len(self.dataset),
                self._blocks,
                self.batch_size,
                self.window,
                self.lanes,
                self.seed,
                self.drop_last,
                self.shuffle,
                *place,
                self.adjacent,
            )
        return self._shared

    def _blocks(self) -> Positions:
        """(n,) int64: what each sample is read together with."""
        return self._mixing.blocks(self.dataset.indices)

    @property
    def batches_per_group(self) -> int:
        """Number of batches in a group."""
        return self._order.batches_per_group

    @property
    def lanes_used(self) -> int:
        """Number of lanes that have enough chunks for a group."""
        return self._order.lanes_used

    def __len__(self) -> int:
        """Batches in an epoch of this rank; TypeError where it has no end."""
        if self.steps_per_epoch == math.inf:
            raise TypeError("with steps_per_epoch=math.inf an epoch has no length")
        return self._steps

    @property
    def _steps(self) -> int:
        """Batches from one epoch to the next."""
        steps = self.steps_per_epoch
        return len(self._order) if steps is None or steps == math.inf else int(steps)

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of an epoch; after ``load_state_dict`` the remaining ones of that of the state."""
        # A DataLoader may make iterators that it never uses: only the first step of one begins an epoch.
        if self._begun:
            self.seek(*self.following(self._returned))
        self._begun, self._just_loaded = True, False
        order, length = self._order, len(self._order)
        number = self._epoch * self._steps + self._start
        end = math.inf if self.steps_per_epoch == math.inf else (self._epoch + 1) * self._steps
        returned = self._start
        while number < end:
            place = number % length
            most = int(min(length, place + end - number))
            # Of a pass over all samples: with steps_per_epoch a sample may come more than once in an epoch.
            epoch = number // length
            for lane, group, first, count, after in order.batches(epoch, place, most):
                number, returned = number + 1, returned + 1
                self._returned = returned
                reads_ahead = not first and self.dataset.dataset.reads_ahead
                ahead = Ahead(order.lanes_used, after) if reads_ahead else None
                batch = GroupBatch(lane, group, first, count, epoch, ahead)
                yield batch if self.shuffle else EpochBatch(batch, epoch)

    def changed(self, *, drop_last: bool | None = None) -> BlockShuffleSampler:
        """The same order, at its beginning; with another ``drop_last`` where one is given."""
        drop_last = self.drop_last if drop_last is None else drop_last
        return self._copy(self._rank, self._world_size, self.steps_per_epoch, drop_last)

    def for_all_ranks(self) -> BlockShuffleSampler:
        """The order in which one process has the samples of all ranks, in epochs of as many steps of each."""
        steps, ranks = self.steps_per_epoch, self.world_size
        if steps is None:
            return self._copy(0, 1, None, self.drop_last)
        # Who takes every nth of the batches expects that all but the last are full.
        return self._copy(0, 1, steps * ranks, self.drop_last or ranks > 1)

    def _copy(
        self, rank: int | None, world_size: int | None, steps: float | None, drop_last: bool
    ) -> BlockShuffleSampler:
        return BlockShuffleSampler(
            self.dataset,
            self.batch_size,
            window=self._asked_window,
            lanes=self.lanes,
            adjacent=self.adjacent,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            drop_last=drop_last,
            shuffle=self.shuffle,
            steps_per_epoch=steps,
        )

    # --- epochs ------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """Number of this epoch, or of the next one once all batches of this one were returned."""
        return self.position(self._returned)[0]

    def position(self, returned: int) -> tuple[int, int]:
        """The epoch after so many batches of the current one, and how many of its batches were returned."""
        epochs, batches = divmod(returned, self._steps)
        return self._epoch + epochs, batches

    def following(self, returned: int) -> tuple[int, int]:
        """Where the next iteration begins, if so many batches of the current epoch were returned."""
        return self.position(returned) if self.steps_per_epoch == math.inf else (self._epoch + 1, 0)

    def seek(self, epoch: int, batches: int) -> None:
        """Let the next iteration begin after some batches of an epoch."""
        self._epoch, self._start, self._begun = epoch, batches, False
        self._returned = batches

    @property
    def start(self) -> int:
        """How many batches of its epoch the iteration leaves out that is next, or has begun last."""
        return self._start

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration. A state that was loaded for this very epoch stays in force."""
        (number,) = _checked(epoch=(epoch, 0, _SEEDS))
        if number != self._epoch or self._begun:
            self.seek(number, 0)

    def tell_epoch(self, epoch: int) -> None:
        """The number of a trainer's own epoch, which trainers tell samplers before each iteration.

        Trainers do not count iterations that their users leave early, and some tell the same number again, so
        what a trainer tells matters only where it has not counted on from what it told before.
        """
        (number,) = _checked(epoch=(epoch, 0, _SEEDS))
        before, self._told = self._told, number
        if self._just_loaded:
            # The trainer has ended an epoch that it had limited to fewer batches than there are.
            if before is not None and number > before and self._start:
                self.set_epoch(self._epoch + 1)
        elif before is None or number not in (before, before + 1):
            self.set_epoch(number)

    # --- state -------------------------------------------------------------------------------------

    def state_dict(self, batches: int | None = None) -> dict[str, Any]:
        """The order and the position in it, of builtin types, after so many batches of this epoch that were
        returned; ``None``: all that were requested.
        """
        epoch, returned = self.position(self._returned if batches is None else batches)
        return {
            "seed": self.seed,
            "epoch": epoch,
            "batches": returned,
            "told": self._told,
            **self._state_options(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state: the next iterator returns the remaining batches of its epoch.

        A state between epochs can be loaded with other options than it was made with, such as another
        ``batch_size`` or ``world_size``; one within an epoch only with the same, or with another
        ``batch_size`` where samples of one rank are not shuffled and a batch begins there. With
        ``steps_per_epoch`` options must always be the same.

        Raises:
            SpecError: The state is of other samples, or of an order with other options.
        """
        own = self._state_options()
        batches = int(state["batches"])
        differing = {name for name, value in own.items() if state.get(name) != value}
        if own["steps_per_epoch"] is None and state.get("steps_per_epoch") is None:
            if not batches:
                differing &= {"samples"}
            elif not self.shuffle:
                differing -= {"window", "part", "lanes", "adjacent"}
                returned = batches * state.get("batch_size", 0)
                if differing == {"batch_size"} and self.world_size == 1 and not returned % self.batch_size:
                    batches, differing = returned // self.batch_size, set()
        problems = [
            f"{name}: found {state.get(name)!r}, expected {value!r}"
            for name, value in own.items()
            if name in differing
        ]
        if problems:
            where = f"after {batches} batches of epoch {state['epoch']}"
            raise SpecError(
                f"This state, {where}, is of another order: make that with the same options. Between epochs, "
                "all but samples and steps_per_epoch may change.",
                problems,
                code="state-differs",
            )
        self.seed, self._shared = state["seed"], None
        self._told, self._just_loaded = state["told"], True
        self.seek(state["epoch"], batches)

    def _state_options(self) -> dict[str, Any]:
        return {name: self._samples if name == "samples" else getattr(self, name) for name in _STATE_OPTIONS}


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _checked(**limits: tuple[Any, int, int]) -> list[int]:
    return checked_numbers(limits, "There is no such order of samples:", "order-invalid")
