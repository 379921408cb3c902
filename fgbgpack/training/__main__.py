"""The command line of the training: ``python -m fgbgpack.training``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fgbgpack.errors import FgbgError, MissingPackageError
from fgbgpack.extras import require
from fgbgpack.files import sha256_of, write_atomically

try:
    # onnxscript is what PyTorch writes ONNX with, at the end.
    for _package in ("torch", "onnxscript"):
        require(_package, extra="train", needed_by="Training")
except MissingPackageError as missing:
    raise SystemExit(str(missing)) from missing

import torch

from fgbgpack.depth import load_model
from fgbgpack.depth.registry import our_card
from fgbgpack.training.export import export
from fgbgpack.training.trainer import Schedule, Trainer
from fgbgpack.training.views import Counts, Folders, Views

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command()
def train(
    photographs: Annotated[Path, typer.Option(help="Folder of photographs of anything.")],
    backgrounds: Annotated[Path, typer.Option(help="Folder of scenes, as 'create' takes them.")],
    foregrounds: Annotated[Path, typer.Option(help="Folder of cut-outs, as 'create' takes them.")],
    teacher: Annotated[str, typer.Option(help="The depth model that labels them: a name, or an ONNX file.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the networks, views and checkpoints.")
    ] = Path("trained"),
    hold_out: Annotated[
        list[str] | None, typer.Option(help="Names of files that are not used, e.g. 'hall-*'; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything that is drawn.", min=0)] = 0,
    scene_steps: Annotated[int, typer.Option(help="Steps for the scene network.", min=1)] = 5000,
    guided_steps: Annotated[int, typer.Option(help="Steps for the guided network.", min=1)] = 3500,
    fraction: Annotated[
        float, typer.Option(help="Make only this share of the views, for a trial.", min=0.001, max=1.0)
    ] = 1.0,
    device: Annotated[str, typer.Option(help="What PyTorch runs on: cpu, or cuda.")] = "cpu",
) -> None:
    """Train the scene network and the guided network, and write them as ONNX with their cards.

    Takes about two hours on two cores. The same command resumes an interrupted training: pictures, labels and
    checkpoints are kept in the output folder.
    """
    whole = dataclasses.asdict(Counts())
    counts = Counts(**{name: max(2, round(count * fraction)) for name, count in whole.items()})
    folders = Folders(photographs, backgrounds, foregrounds, tuple(hold_out or ()))
    output.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int, loss: float | None = None) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            text = what if loss is None else f"{what} network, loss {loss:.3f}"
            progress.update(tasks[what], completed=done, description=text)

        model = load_model(teacher)
        views = Views(output, folders, counts, model, seed=seed, on_item=show)
        schedule = Schedule(scene_steps, guided_steps)
        trainer = Trainer(views, output, seed, schedule, torch.device(device))
        networks = {"scene": trainer.train_scene(show), "guided": trainer.train_guided(show)}
    training = {
        "script": "python -m fgbgpack.training",
        "seed": seed,
        "teacher": {"name": model.name, "sha256": model.sha256},
        "views": dataclasses.asdict(counts),
        "hold_out": list(folders.hold_out),
        "steps": {"scene": scene_steps, "guided": guided_steps},
    }
    for kind, network in networks.items():
        path = output / f"fgbgpack-{kind}.onnx"
        difference = export(network, path)
        card = our_card(path.stem).document | {"sha256": sha256_of(path), "x-training": training}
        write_atomically(path.with_suffix(".json"), f"{json.dumps(card, indent=2)}\n".encode())
        size = path.stat().st_size / 1e6
        typer.echo(f"{path}: {size:.1f} MB, within {difference:.1e} standard deviations of PyTorch")


def main() -> None:
    """Runs the command; an error of the input is one message, not a traceback."""
    try:
        app()
    except FgbgError as error:
        typer.secho(str(error), fg="red", err=True)
        raise SystemExit(error.exit_status) from error


if __name__ == "__main__":
    main()
