"""How options and arguments are declared, and those that several commands share.

Numbers are declared as text and parsed together, so that all problems are reported at once. Options with a
value have no declared default, because an option that was not given must not override a config file.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

import typer

from fgbgpack.cli import completion
from fgbgpack.cli.completion import Completer
from fgbgpack.cli.help import HelpfulCommand
from fgbgpack.cli.parse import DEPTH_MODES, DEVICES, EXIFS, PRECISIONS

#: Where a command notes in its context that its result is printed as JSON.
AS_JSON = "fgbgpack.as_json"
#: Where a command that fails notes what it found out before: what its JSON object holds beside ``error``.
PARTIAL = "fgbgpack.partial"


F = TypeVar("F", bound=Callable[..., Any])


class Panel(StrEnum):
    """The panels of the help."""

    PICTURES = "Pictures"
    COMPOSITION = "Composition"
    SCENES = "Scenes"
    FILES = "Files"
    CONTENT = "Content and format"
    DEPTH = "Depth"
    ABOUT = "About the dataset"
    EXECUTION = "Execution"
    PARTS = "Job arrays"
    OUTPUT = "Output"

    def option(self, names: str, text: str, complete: Completer | None = None, **more: Any) -> Any:
        """Declare an option that the help lists in this panel."""
        return option(names, text, complete, rich_help_panel=self, **more)

    def taking(self, declared: Any) -> Any:
        """An option of another panel, in this one."""
        moved = copy.copy(declared)
        moved.rich_help_panel = self
        return moved

    def flag(self, names: str, text: str, **more: Any) -> Any:
        """Declare an option in this panel that is true if it is given."""
        return self.option(names, text, default=False, **more)


def argument(metavar: str, text: str, complete: Completer | None = None, *, default: object = ...) -> Any:
    """Declare a positional argument, which is required unless it has a default."""
    return typer.Argument(default, metavar=metavar, help=text, autocompletion=complete)


def option(
    names: str,
    text: str,
    complete: Completer | None = None,
    *,
    default: object = None,
    **more: Any,
) -> Any:
    """Declare an option by its names and what its value is called, such as ``"--output -o FILE.png"``.

    ``complete`` completes its value in a shell; ``more`` is what else Typer takes.
    """
    words = names.split()
    flags = [word for word in words if word.startswith("-")]
    return typer.Option(
        default,
        *flags,
        metavar=" ".join(words[len(flags) :]),
        help=text,
        autocompletion=complete,
        **more,
    )


def flag(names: str, text: str) -> Any:
    """Declare an option that is true if it is given."""
    return option(names, text, default=False)


def command(app: typer.Typer, *examples: str, name: str | None = None) -> Callable[[F], F]:
    """Register a function as a command, with its docstring and examples as help."""

    def register(function: F) -> F:
        paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
        text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
        return app.command(name, cls=HelpfulCommand, help=text, epilog=show_examples(*examples))(function)

    return register


def show_examples(*commands: str) -> str:
    """The end of a help text."""
    return "\n".join([f"{'Examples' if len(commands) > 1 else 'Example'}:\n", *(f"  {c}" for c in commands)])


def _note_json(ctx: typer.Context, value: bool) -> bool:
    ctx.meta[AS_JSON] = value
    return value


OUT = argument("OUT", "The dataset to create, such as lobby.zarr or lobby.h5.")
DATASET = argument("DATASET", "A dataset that fgbgpack made.")

BACKGROUNDS = Panel.PICTURES.option("--backgrounds DIR", "Folder of background pictures.")
FOREGROUNDS = Panel.PICTURES.option(
    "--foregrounds DIR", "Folder of cut-out foregrounds, with alpha unless --masks is given."
)
MASKS = Panel.PICTURES.option(
    "--masks DIR",
    "Folder with a grayscale mask for each foreground, with the same file name up to the extension, or as "
    "--mask-pattern says (default: the foregrounds' own alpha).",
)

BACKGROUND_DEPTH = Panel.DEPTH.option(
    "--background-depth DIR",
    "Folder with the distance of each background as a file of its name: gray PNG or TIFF in millimetres, or "
    ".npy in metres, 0 or NaN where it is unknown. Floors and depth are then of it, and no network sees "
    "backgrounds (default: a network estimates their depth).",
)

MASK_VALUE = Panel.PICTURES.option(
    "--mask-value N",
    "The number in masks that is the object: a class, or an entry of the palette (default: masks are gray "
    "from 0 to 255).",
)
MASK_THRESHOLD = Panel.PICTURES.option(
    "--mask-threshold N",
    "Masks become 255 from this value on, and 0 below it: 1 for masks of 0 and 1 (default: soft edges stay).",
)
INVERT_MASKS = Panel.PICTURES.option(
    "--invert-masks/--no-invert-masks", "Masks are black where the object is (default: white)."
)
EXIF = Panel.PICTURES.option(
    "--exif apply|ignore",
    "Turn pictures and masks as their EXIF orientation says, or take them as stored (default apply).",
    completion.one_of(*EXIFS),
)
STRICT = Panel.PICTURES.option(
    "--strict/--no-strict",
    "Refuse pictures whose data is damaged, or use what is left of them where the decoder passes over that "
    "(default --strict).",
)
FRAME = Panel.PICTURES.option(
    "--frame N",
    "Which frame of animations, and which page of documents, is the picture, from 0 (default: these are "
    "refused).",
)

DEPTH_MODEL = Panel.DEPTH.option(
    "--depth-model MODEL|none",
    "The network that fills depth: a name from 'fgbgpack models list', or an ONNX file with its card "
    "FILE.json beside it (default fgbgpack-scene).",
    completion.models_or("none"),
)
DEPTH_MODE = Panel.DEPTH.option(
    "--depth-mode MODE",
    "layered: the network runs once on each background, and foregrounds are planes before it, by height; "
    "guided: the same, and the guide places each sample's foreground in that depth; per-sample: the network "
    "runs on each sample (default: guided if a guide is given, layered for fgbgpack-scene, else per-sample; "
    "always per-sample for imported datasets).",
    completion.one_of(*DEPTH_MODES),
)
DEPTH_GUIDE = Panel.DEPTH.option(
    "--depth-guide MODEL",
    "The guided network: a name or an ONNX file (default fgbgpack-guided).",
    completion.models,
)
DEPTH_SCALE = Panel.DEPTH.option(
    "--depth-scale 1..16",
    "Size of the network's input relative to a sample, rendered from the originals: up to 16, per sample "
    "up to 4 (default: the smallest with a short side of at least 384 or 256 pixels).",
)
DEPTH_BITS = Panel.DEPTH.option(
    "--depth-bits 4..10",
    "Precision of stored depth: 9 bits round by at most 0.11 % of its range, each further bit halves that "
    "(default 9).",
)
PRECISION = Panel.DEPTH.option(
    "--precision fp32|fp16",
    "Arithmetic precision of the networks; fp16 is faster on a GPU and less exact (default fp32).",
    completion.one_of(*PRECISIONS),
)
DEVICE = Panel.DEPTH.option(
    "--device DEVICE",
    "Where the networks run: cpu, cuda or tensorrt, which fail if they are not available, or auto, the best "
    "available (default auto).",
    completion.one_of(*DEVICES),
)

WORKERS = Panel.EXECUTION.option(
    "--workers N", "Threads (default: one per core); the result does not depend on their number."
)
DASK = Panel.EXECUTION.option(
    "--dask WHERE",
    "Do the work on a Dask cluster: the address of its scheduler, such as tcp://10.0.0.5:8786, or local:N "
    "for N processes of this machine (default: on threads).",
)
STORAGE_OPTIONS = Panel.EXECUTION.option(
    "--storage-option KEY=VALUE",
    "What a URL is opened with, such as region=eu-west-1, endpoint=URL, timeout=30s or max_retries=3; can be "
    "repeated. Credentials are best left to the environment.",
)
CACHE = Panel.EXECUTION.option(
    "--cache DIR", "Keep what is read of a remote dataset in this folder, for the next time (at most 20 GiB)."
)
OVERWRITE = Panel.EXECUTION.flag("--overwrite", "Replace a dataset made with other options.")

JSON = Panel.OUTPUT.flag(
    "--json",
    "Print the result as one JSON object; on failure, an object 'error' with code, message and problems.",
    is_eager=True,
    callback=_note_json,
)
QUIET = Panel.OUTPUT.flag("--quiet -q", "Print only errors, and the result if --json is given.")

DRAW_SEED = option("--seed N", "Seed of the random choice of samples (default 0).")
