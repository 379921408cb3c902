"""Batches that mix several datasets by proportion."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fgbgpack.document import DEPTH
from fgbgpack.errors import SpecError
from fgbgpack.options import truth

if TYPE_CHECKING:
    from fgbgpack.torch.dataset import FgBgDataset
    from fgbgpack.torch.loader import FgBgLoader


class FgBgMixture:
    """Batches of several datasets: each has samples of all of them, in fixed numbers; get one with
    :func:`make_loader`.

    Samples of a batch come in the order of the datasets. Besides the tensors of a ``FgBgLoader`` it has
    ``dataset``: (n,) int64, the number of the dataset that each sample is of. Each batch has as many of each
    dataset: where samples are left over when a dataset was gone through, these, others each time, are left
    out. Else all samples of a dataset come once before one comes again, and those of datasets that are small
    for their weight come more often; several times in a batch where it has more of them than there are.

    Samples have the fields, and of placements and objects what all datasets have. Categories of one name have
    one number.

    Epochs, ranks and states are those of a ``FgBgLoader`` with ``steps_per_epoch``.

    Attributes:
        loaders: The loader of each dataset.
        counts: How many samples of a batch are of each dataset.
        fields: The fields that samples have.
        categories: What numbers of categories count: those of all datasets, by their names.
    """

    def __init__(self, loaders: Sequence[FgBgLoader]) -> None:
        self.loaders = list(loaders)
        self.counts = tuple(loader.order.batch_size for loader in loaders)
        first: FgBgDataset = loaders[0].order.dataset
        self.fields, self.categories = first.fields, first.categories
        kinds = {
            (loader.dataset.fields, *loader.dataset.size)  # type: ignore[attr-defined]
            for loader in loaders
            if loader.dataset.transform is None  # type: ignore[attr-defined]
        }
        if len(kinds) > 1:
            found = " and ".join(f"{', '.join(f)} of {w}x{h}" for f, h, w in sorted(kinds))
            raise SpecError(
                f"Samples of a batch must be alike, but these datasets have {found}: give pictures one size, "
                "by Augment(size=...) or a transform.",
                code="samples-differ",
            )

    def __repr__(self) -> str:
        pairs = zip(self.counts, self.loaders, strict=True)
        parts = [f"{count} of {loader.order.dataset.dataset.path}" for count, loader in pairs]
        return f"<fgbgpack.torch.FgBgMixture: batches of {' and '.join(parts)}: {', '.join(self.fields)}>"

    def __len__(self) -> int:
        """Batches in an epoch of this rank; TypeError where it has no end."""
        return len(self.loaders[0])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The batches of an epoch; after ``load_state_dict`` the remaining ones of that of the state."""
        for parts in zip(*self.loaders, strict=True):
            yield _joined(parts)

    @property
    def epoch(self) -> int:
        """The number of this epoch, or of the next one once all batches of this one were returned."""
        return self.loaders[0].epoch

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        for loader in self.loaders:
            loader.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """The order and the position in it, of builtin types; batches read ahead do not count."""
        return {"parts": [loader.state_dict() for loader in self.loaders]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state. Raises SpecError where it is of other datasets, or of other options."""
        if len(state["parts"]) != len(self.loaders):
            raise SpecError(
                f"This state is of {len(state['parts'])} datasets, expected {len(self.loaders)}.",
                code="state-differs",
            )
        for loader, part in zip(self.loaders, state["parts"], strict=True):
            loader.load_state_dict(part)


def shares(batch_size: int, weights: Sequence[Any]) -> list[int]:
    """How many samples of a batch are of each dataset: in proportion to the weights, and at least one.

    Raises SpecError where weights are not above 0, or there are more datasets than samples in a batch.
    """
    wrong = [
        f"weights: found {weight!r}, expected a number above 0"
        for weight in weights
        if truth(weight) is not None or not isinstance(weight, Real) or not 0 < float(weight) < math.inf
    ]
    if not wrong and batch_size < len(weights):
        wrong = [f"batch_size: found {batch_size}, expected at least one sample of each dataset"]
    if wrong:
        raise SpecError("These datasets cannot be mixed:", wrong, code="option-invalid")
    exact = [batch_size * float(weight) / sum(map(float, weights)) for weight in weights]
    counts = [max(1, math.floor(number)) for number in exact]
    while sum(counts) != batch_size:
        step = 1 if sum(counts) < batch_size else -1
        usable = [i for i, count in enumerate(counts) if count + step >= 1]
        counts[max(usable, key=lambda i: step * (exact[i] - counts[i]))] += step
    return counts


def alike(parts: Sequence[FgBgDataset]) -> list[FgBgDataset]:
    """The same samples with what all of them have: the fields, those that were named if some were; placements
    and objects; and numbers of categories that count the categories of all.

    Raises SpecError (``samples-differ``) where named fields differ, one of the datasets lacks them, depth of
    two of them means other things, or placements are asked for of some alone.
    """
    named = {part.fields for part in parts if part.are_named}
    if len(named) > 1:
        found = " and ".join(", ".join(fields) for fields in sorted(named))
        raise _differ(f"these datasets are to be read as {found}: name the same fields")
    meanings = {_meaning(part) for part in parts if DEPTH in part.fields}
    fields = next(iter(named), parts[0].fields)
    for part in parts:
        known = (*part.dataset.fields, *part.dataset.background_fields)
        if named and (lacking := [name for name in fields if name not in known]):
            raise _differ(f"{part.dataset.path} has no {', '.join(lacking)}: name other fields")
    if not named:
        fields = tuple(name for name in fields if all(name in part.fields for part in parts))
        fields = tuple(name for name in fields if name != DEPTH or len(meanings) == 1)
    elif DEPTH in fields and len(meanings) > 1:
        raise _differ(f"depth is {' and '.join(sorted(meanings))}: name other fields, or fill it alike")
    if len({bool(part.placements) for part in parts}) > 1:
        raise _differ("some have placements, and others none: ask for those of all, or of none")
    placements = [name for name in parts[0].placements if all(name in part.placements for part in parts)]
    if parts[0].placements and not placements:
        raise _differ("they have no placements and nothing of objects in common: leave placements out")
    categories = tuple(dict.fromkeys(name for part in parts for name in part.dataset.categories))
    most = max(part.dataset.document.most_objects for part in parts)
    return [part.among(fields, placements, categories, most) for part in parts]


def enough(part: FgBgDataset, count: int) -> FgBgDataset:
    """The same samples or, where they are fewer than the batches of all ranks have of them, each of them so
    often that these are filled without a remainder.
    """
    if len(part) >= count:
        return part
    return part.subset(np.tile(np.arange(len(part)), count // math.gcd(count, len(part))))


def _meaning(part: FgBgDataset) -> str:
    """What the depth of a dataset means."""
    attributes = part.dataset.depth.attrs
    quantity, unit = (attributes.get(name) for name in ("quantity", "unit"))
    return f"{str(quantity or 'of an unknown kind').replace('_', ' ')}{f' in {unit}' if unit else ''}"


def _differ(what: str) -> SpecError:
    return SpecError(f"Samples of a batch must be alike, but {what}.", code="samples-differ")


def _joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = parts[0].keys()
    if any(part.keys() != names for part in parts):
        found = " and ".join(", ".join(part) for part in parts)
        raise SpecError(f"Samples of a batch must be alike, but have {found}.", code="samples-differ")
    batch: dict[str, Any] = {}
    for name in names:
        values = [part[name] for part in parts]
        if isinstance(values[0], Tensor):
            if len({(value.dtype, value.shape[1:]) for value in values}) > 1:
                shapes = " and ".join(f"{value.dtype} {tuple(value.shape[1:])}" for value in values)
                raise SpecError(
                    f"Samples of a batch must be alike, but {name} is {shapes}.", code="samples-differ"
                )
            batch[name] = torch.cat(values)
        else:
            batch[name] = [one for value in values for one in value]
    sizes = torch.tensor([len(next(iter(part.values()))) for part in parts])
    return batch | {"dataset": torch.repeat_interleave(torch.arange(len(parts)), sizes)}
