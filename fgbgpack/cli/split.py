"""``fgbgpack split``: parts of a dataset, saved in it under a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from fgbgpack.cli import card, completion, options
from fgbgpack.cli.console import say_rows, say_title
from fgbgpack.cli.options import argument, command, option
from fgbgpack.cli.output import Output
from fgbgpack.cli.parse import LISTS, Parser
from fgbgpack.sources.names import counted

if TYPE_CHECKING:
    from fgbgpack.dataset.splits import By

app = typer.Typer()

#: What --by takes: fgbgpack.dataset.splits.By, known without importing it.
BY = ("background", "foreground", "both", "sample")


@command(
    app,
    "fgbgpack split lobby.zarr fair train=0.8 val=0.1 test=0.1",
    "fgbgpack split imported.zarr fair train=0.9 test=0.1 --by-field bg",
    "fgbgpack split lobby.zarr people train=0.9 test=0.1 --by foreground --seed 1",
    "fgbgpack split lobby.zarr chosen good=samples.npy",
)
def split(
    dataset: str = options.DATASET,
    name: str = argument("NAME", "Name of the split.", completion.splits),
    parts: list[str] = argument(
        "PART=FRACTION",
        "Each part with its fraction, such as train=0.8, together at most 1; or each with a file of numbers "
        "of samples, .npy or .txt, as fgbgpack view saves them.",
    ),
    by: str | None = option(
        "--by KIND",
        "What is kept in one part: background, foreground, both or sample. With both, samples whose two "
        "sources are in different parts are in no part (default background; sample for imported datasets).",
        complete=completion.one_of(*BY),
    ),
    by_field: str | None = option(
        "--by-field FIELD",
        "What is kept in one part, of imported samples: what this field of the pattern in --images says, "
        "such as bg in 'fgbg/{bg}/{n}.jpg'.",
    ),
    seed: str | None = option("--seed N", "Seed of the random assignment, 0 to 2^64 - 1 (default 0)."),
    storage_option: list[str] | None = options.STORAGE_OPTIONS,
    as_json: bool = options.JSON,
    quiet: bool = options.QUIET,
) -> None:
    """Divide the samples into parts, such as those to train, validate and test with, and save how.

    No background is in two parts (with --by foreground, no foreground): a network is tested on sources that
    it has never seen. The fractions and the seed are saved in the dataset, for Python (ds.split,
    fgbgpack.torch) and for fgbgpack export --split. A split of the same name is replaced.
    """
    parser = Parser()
    lists = [text for text in parts if text.endswith(LISTS)]
    given: Any = parser.sample_lists(parts) if lists else parser.fractions(parts)
    key = parser.at_least("--seed", seed, 0, default=0)
    storage_options = parser.storage_options(storage_option)
    kind: By | None = None if by is None else parser.choice("--by", by, BY)
    if by_field is not None:
        if by is not None:
            parser.problems.append("--by-field: give it or --by, not both")
        kind = f"field:{by_field}"
    if lists and (kind is not None or seed is not None):
        parser.problems.append("--by, --by-field, --seed: lists of samples have none")
    parser.check()
    from fgbgpack.dataset.dataset import open_dataset

    opened = open_dataset(dataset, storage_options=storage_options)
    assigned = opened.save_split(name, given, by=kind, seed=key)
    saved = opened.splits[name]
    counts = {part: len(samples) for part, samples in assigned.items()}

    def summary() -> None:
        say_title(f"Saved the split {name!r} by {saved['by']} in {opened.path}")
        rest = len(opened) - sum(counts.values())
        rows = [*counts.items(), *([("in no part", rest)] if rest else [])]
        say_rows([(part, f"{counted(count, 'sample')}, {count / len(opened):.1%}") for part, count in rows])

    result = {"path": str(opened.path), "name": name, **saved, "samples": counts}
    output = Output(as_json, quiet)
    output.show(result, summary)
    card.warn_if_stale(dataset, output)
