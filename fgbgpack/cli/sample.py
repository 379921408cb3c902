"""``fgbgpack sample``: pictures to try fgbgpack with."""

from __future__ import annotations

import shlex
from pathlib import Path, PurePath

import typer

from fgbgpack.cli.console import say_next, say_title
from fgbgpack.cli.options import argument, command, option
from fgbgpack.cli.output import NOTHING, Output
from fgbgpack.cli.parse import Parser
from fgbgpack.sources.names import counted

app = typer.Typer()


@command(app, "fgbgpack sample pictures", "fgbgpack sample pictures --backgrounds 40 --seed 3")
def sample(
    folder: str = argument("DIR", "Folder for the pictures; it is created if need be."),
    backgrounds: str | None = option("--backgrounds N", "Number of backgrounds (default 12)."),
    foregrounds: str | None = option("--foregrounds N", "Number of foregrounds (default 12)."),
    seed: str | None = option("--seed N", "Seed of the pictures (default 0)."),
) -> None:
    """Render pictures to try fgbgpack with: indoor scenes with their true depth, and cut-out people."""
    parser = Parser()
    scenes = parser.at_least("--backgrounds", backgrounds, 1, default=12)
    people = parser.at_least("--foregrounds", foregrounds, 1, default=12)
    key = parser.at_least("--seed", seed, 0, default=0)
    parser.check()

    from fgbgpack.pipeline import OnEvent, Progress
    from fgbgpack.rendering import write_samples

    def work(on_event: OnEvent) -> None:
        on_event(Progress("sources", 0, scenes + people))
        write_samples(
            Path(folder),
            backgrounds=scenes,
            foregrounds=people,
            seed=key,
            on_picture=lambda done, total: on_event(Progress("sources", done, total)),
        )

    Output().run(work, if_stopped=NOTHING)
    say_title(f"Made {counted(scenes, 'background')} with true depth and {counted(people, 'foreground')}")
    kinds = {"backgrounds": "backgrounds", "foregrounds": "foregrounds", "background-depth": "depth"}
    folders = " ".join(
        f"--{option} {shlex.quote(str(PurePath(folder) / name))}" for option, name in kinds.items()
    )
    say_next([f"fgbgpack create samples.zarr {folders} --placement auto --foreground-height 20%-86%"])
