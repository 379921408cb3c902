"""``fgbgpack models import densedepth``: DenseDepth from Keras to ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import typer

from fgbgpack.cli import completion
from fgbgpack.cli.console import say_title
from fgbgpack.cli.help import HelpfulGroup
from fgbgpack.cli.models.common import FORCE, say_what_to_do
from fgbgpack.cli.options import argument, command, option, show_examples
from fgbgpack.errors import SpecError
from fgbgpack.files import require_local

app = typer.Typer(
    name="import",
    no_args_is_help=True,
    cls=HelpfulGroup,
    help="Convert a network of another format to ONNX, with its card.",
    epilog=show_examples("fgbgpack models import densedepth nyu.h5"),
)

_WEIGHTS: tuple[Literal["nyu", "kitti"], ...] = ("nyu", "kitti")
_BILINEAR = ("half_pixel", "align_corners")


@command(
    app,
    "fgbgpack models import densedepth nyu.h5",
    "fgbgpack models import densedepth weights.h5 --weights kitti -o kitti.onnx",
)
def densedepth(
    file: Path = argument("FILE.h5", "DenseDepth's Keras file."),
    output: Path | None = option(
        "--output -o FILE.onnx",
        "The ONNX file to write (default: densedepth-nyu.onnx or densedepth-kitti.onnx in the models folder, "
        "which makes it a model of that name).",
    ),
    weights: str | None = option(
        "--weights nyu|kitti",
        "What it was trained on, which sets its scale (default: from the name of the file).",
        complete=completion.one_of(*_WEIGHTS),
    ),
    bilinear: str | None = option(
        "--bilinear CONVENTION",
        "How it enlarges: half_pixel (TensorFlow 2) or align_corners (TensorFlow 1) (default half_pixel).",
        complete=completion.one_of(*_BILINEAR),
    ),
    force: bool = FORCE,
) -> None:
    """Convert DenseDepth from Keras to ONNX; TensorFlow is not needed. Its depth is in metres."""
    named = weights if weights is not None else file.stem.lower()
    kind = next((known for known in _WEIGHTS if (named == known if weights else known in named)), None)
    if kind is None:
        found = "not given" if weights is None else f"{weights!r} is not one of {', '.join(_WEIGHTS)}"
        raise SpecError(f"--weights: {found}; nyu and kitti have different scales.", code="options-invalid")

    from fgbgpack.depth.keras import write_densedepth
    from fgbgpack.depth.registry import models_folder

    name = f"densedepth-{kind}"
    if output is not None:
        require_local(output, "Networks are")
    out = output or models_folder() / f"{name}.onnx"
    card = out.with_suffix(".json")
    existing = [str(path) for path in (out, card) if path.exists()]
    if existing and not force:
        raise SpecError(f"{' and '.join(existing)} exist; --force replaces them.", code="file-exists")
    if output is None:
        out.parent.mkdir(parents=True, exist_ok=True)
    convention: dict[str, Any] = {} if bilinear is None else {"bilinear": bilinear}
    write_densedepth(file, out, kind, **convention)
    say_title(f"Wrote {out} and its card {card}")
    say_what_to_do(name if output is None else str(out))
