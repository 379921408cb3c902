"""``fgbgpack cutout``: foregrounds from photographs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fgbgpack.cli import completion, options
from fgbgpack.cli.console import say, say_next, say_rows, say_title
from fgbgpack.cli.options import Panel, argument, command
from fgbgpack.cli.output import KEPT, Output
from fgbgpack.cli.parse import DEVICES, PRECISIONS, Parser
from fgbgpack.sources.names import counted
from fgbgpack.spec import DatasetSpec

if TYPE_CHECKING:
    from fgbgpack.cutout.run import CutoutReport
    from fgbgpack.pipeline import OnEvent

app = typer.Typer()


@command(
    app,
    "fgbgpack cutout photos cut",
    "fgbgpack cutout photos cut --confirm u2net-human-seg --split --only-good",
    "fgbgpack create lobby.zarr --backgrounds bg --foregrounds cut/foregrounds",
)
def cutout(
    photos: Path = argument("PHOTOS", "Folder of photographs."),
    out: Path = argument("OUT", "Folder of the cut-outs, to be made or continued."),
    model: str | None = Panel.CONTENT.option(
        "--model MODEL",
        "The network: a name from 'fgbgpack models list', or an ONNX file with its card FILE.json beside it "
        "(default isnet-general-use).",
        completion.cutout_models,
    ),
    confirm: str | None = Panel.CONTENT.option(
        "--confirm MODEL",
        "A second network, such as one that finds people: what it does not find is left out, and cut-outs on "
        "which both differ are flagged.",
        completion.cutout_models,
    ),
    split: bool = Panel.CONTENT.flag(
        "--split", "Make a cut-out of each part that touches no other, such as people who stand apart."
    ),
    only_good: bool = Panel.CONTENT.flag(
        "--only-good", "Leave out flagged cut-outs, except where cutouts.csv says yes in its column keep."
    ),
    precision: str | None = Panel.EXECUTION.taking(options.PRECISION),
    device: str | None = Panel.EXECUTION.taking(options.DEVICE),
    exif: str | None = options.EXIF,
    frame: str | None = options.FRAME,
    strict: bool | None = options.STRICT,
    as_json: bool = options.JSON,
    quiet: bool = options.QUIET,
) -> None:
    """Cut the foregrounds out of photographs, with soft edges and without the colours of the old background.

    OUT/foregrounds has a PNG with alpha for each, OUT/masks its alpha, OUT/review.png shows all, and
    OUT/cutouts.csv tells how good they look, with flags where one is suspicious. Write yes or no into its
    column keep and run the same command again: what is not to be used moves to OUT/left-out.

    The same command resumes what was stopped, and adds new photographs.
    """
    parser = Parser()
    where = parser.choice("--device", device, DEVICES)
    arithmetic = parser.choice("--precision", precision, PRECISIONS)
    given = parser.reading_fields(mask_value=None, mask_threshold=None, frame=frame, exif=exif, strict=strict)
    spec: DatasetSpec = parser.dataset(
        {"backgrounds": ".", "foregrounds": ".", **given}, size=None, depth_model=None, depth={}, config=None
    )

    def work(on_event: OnEvent) -> CutoutReport:
        from fgbgpack.cutout.run import DEFAULT_MODEL, cut_out
        from fgbgpack.depth.providers import Execution

        return cut_out(
            photos,
            out,
            model=DEFAULT_MODEL if model is None else model,
            confirm=confirm,
            split=split,
            only_good=only_good,
            execution=Execution(arithmetic, where),
            reading=spec.reading,
            on_event=on_event,
        )

    Output(as_json, quiet).run_and_show(work, _show, if_stopped=KEPT)


def _show(report: CutoutReport) -> None:
    found = counted(report.cutouts, "cut-out")
    say_title(f"{report.path}: {found} of {counted(report.photos, 'photograph')}")
    flags = ", ".join(f"{flag} {count:,}" for flag, count in report.flags.items())
    say_rows(
        [
            ("model", report.model + ("" if report.provider is None else f" ({report.provider})")),
            *([] if report.confirm is None else [("confirmed by", report.confirm)]),
            ("in this run", counted(report.done, "photograph")),
            ("used", f"{report.used:,}, in {report.foregrounds}"),
            ("flagged", f"{report.flagged:,}" + (f": {flags}" if flags else "")),
            ("numbers", report.table),
            ("picture", report.review),
        ]
    )
    if report.flagged:
        say("\nLook at the flagged ones, and write yes or no into the column keep.")
    say_next([f"fgbgpack create lobby.zarr --backgrounds bg --foregrounds {shlex.quote(report.foregrounds)}"])
