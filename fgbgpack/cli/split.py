"""``fgbgpack split``: parts of a dataset, saved in it under a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast, get_args

from fgbgpack.cli import options
from fgbgpack.cli.console import print_json, say
from fgbgpack.cli.parse import Parser

if TYPE_CHECKING:
    from fgbgpack.dataset.splits import By

EXAMPLES = """Examples:

  fgbgpack split lobby.zarr fair train=0.8 val=0.1 test=0.1
  fgbgpack split lobby.zarr people train=0.9 test=0.1 --by foreground --seed 1"""


def split(
    dataset: options.Dataset,
    name: options.SplitName,
    parts: options.SplitParts,
    by: options.SplitBy = None,
    seed: options.SplitSeed = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Deal the samples out to parts, such as those to train, validate and test with, and save how.

    No background is in two parts, nor, with --by foreground, any foreground: a network is tested on what
    it never saw. What is saved is the fractions and the seed, in the dataset itself, for Python (ds.split,
    fgbgpack.torch) and for fgbgpack export --split. A split of the same name is replaced.
    """
    parser = Parser()
    fractions = parser.fractions(parts)
    key = parser.at_least("--seed", seed, 0, default=0)
    parser.check()
    from fgbgpack.cli.summary import print_facts
    from fgbgpack.dataset.dataset import open_dataset
    from fgbgpack.dataset.splits import By

    if by is not None and by not in get_args(By):
        parser.problems.append(f"--by: {by!r} is not one of {', '.join(get_args(By))}")
        parser.check()
    held = open_dataset(dataset)
    dealt = held.save_split(name, fractions, by=cast("By | None", by), seed=key)
    counts = {part: len(samples) for part, samples in dealt.items()}
    if as_json:
        print_json({"path": dataset, "name": name, **held.splits[name], "samples": counts})
    elif not quiet:
        say(f"Saved the split {name!r} by {held.splits[name]['by']} in {dataset}", style="bold")
        total = len(held)
        facts = [(part, f"{count:,} samples, {count / total:.1%}") for part, count in counts.items()]
        left = total - sum(counts.values())
        print_facts([*facts, *([("in no part", f"{left:,} samples, {left / total:.1%}")] if left else [])])
