"""Answers for shell completion: names that can be listed without slow imports."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import typer

from fgbgpack.errors import FgbgError

Completer: TypeAlias = Callable[..., list[str]]


def one_of(*values: str) -> Completer:
    """Completes one of a few values."""
    return lambda incomplete: _matching(values, incomplete)


def models(incomplete: str) -> list[str]:
    """The names of depth models."""
    from fgbgpack.depth.registry import names_of

    return _matching(names_of("depth"), incomplete)


def all_models(incomplete: str) -> list[str]:
    """The names of all networks."""
    from fgbgpack.depth.registry import model_names

    return _matching(model_names(), incomplete)


def cutout_models(incomplete: str) -> list[str]:
    """The names of networks that cut foregrounds out."""
    from fgbgpack.depth.registry import names_of

    return _matching(names_of("cutout"), incomplete)


def models_or(*others: str) -> Completer:
    """Completes the name of a depth model or one of ``others``."""
    return lambda incomplete: _matching(others, incomplete) + models(incomplete)


def schemas(incomplete: str) -> list[str]:
    """The names of the JSON Schemas."""
    from fgbgpack.schema import CURRENT

    return _matching(CURRENT, incomplete)


def splits(ctx: typer.Context, incomplete: str) -> list[str]:
    """The splits of the dataset that the command line names."""
    return _matching(_saved_splits(ctx), incomplete)


def parts(ctx: typer.Context, incomplete: str) -> list[str]:
    """The parts of the split that the command line names."""
    return _matching(_saved_splits(ctx).get(ctx.params.get("split"), {}).get("parts", ()), incomplete)


def _saved_splits(ctx: typer.Context) -> Mapping[Any, Mapping[str, Any]]:
    """The splits in the metadata of a Zarr folder; none for other datasets, which are slower to open."""
    from fgbgpack.document import ATTRIBUTE, Document
    from fgbgpack.inputs import read_json

    # Arguments are not assigned yet where the option to complete is the last word.
    dataset = ctx.params.get("dataset") or next(iter(ctx.args), "")
    try:
        node = read_json(Path(dataset) / "zarr.json")
        with warnings.catch_warnings(action="ignore"):
            return Document.from_dict(node["attributes"][ATTRIBUTE], where="").splits
    except (KeyError, TypeError, ValueError, OSError, FgbgError):
        return {}


def _matching(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
