"""What the commands of ``fgbgpack models`` share."""

from __future__ import annotations

import shlex

from fgbgpack.cli import completion
from fgbgpack.cli.console import say
from fgbgpack.cli.options import argument, flag, option

NAME = argument("NAME", "A name from 'fgbgpack models list'.", completion.all_models)
FORCE = flag("--force", "Replace existing files.")
DRAWING = option("--output -o FILE.png", "Also draw pictures and depth side by side.")


def meaning(quantity: str, unit: str | None) -> str:
    """What depth values are, for people."""
    if quantity == "alpha":
        return "alpha"
    return "metres" if unit == "m" else "inverse depth" if quantity == "inverse_depth" else "relative depth"


def say_what_to_do(model: str, *, is_guided: bool = False, is_cutout: bool = False) -> None:
    """Print how to use and check a model, given by its name or path."""
    reference = shlex.quote(model)
    if is_cutout:
        say(f"\nUse it with: fgbgpack cutout PHOTOS OUT --model {reference}")
        return
    use = f"--depth-mode guided --depth-guide {reference}" if is_guided else f"--depth-model {reference}"
    say(f"\nUse it with: {use}")
    say(f"Check it with: fgbgpack models check {reference}")
