"""The arguments and options of the commands: how they are called and what their help says.

Numbers are declared as text: they are parsed together, so that all that is wrong is said at once. No
default is declared either, as what was not given must not override a config file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fgbgpack.cli.parse import DEVICES

_PICTURES, _COMPOSITION, _DEPTH, _RUN, _OUTPUT = "Pictures", "Composition", "Depth", "How to run", "Output"

Out = Annotated[str, typer.Argument(metavar="OUT", help="The dataset to make, such as lobby.zarr.")]
Dataset = Annotated[str, typer.Argument(metavar="DATASET", help="A dataset that fgbgpack made.")]
VirtualSource = Annotated[str, typer.Argument(metavar="SRC", help="A virtual dataset.")]
StoredSource = Annotated[str, typer.Argument(metavar="SRC", help="A dataset that stores its pixels.")]
Target = Annotated[str, typer.Argument(metavar="DST", help="The dataset to make.")]
OptionalTarget = Annotated[
    str | None, typer.Argument(metavar="[DST]", help="The dataset to make (default: SRC itself).")
]

Backgrounds = Annotated[
    str | None,
    typer.Option(
        "--backgrounds", metavar="DIR", rich_help_panel=_PICTURES, help="Folder of background pictures."
    ),
]
Foregrounds = Annotated[
    str | None,
    typer.Option(
        "--foregrounds",
        metavar="DIR",
        rich_help_panel=_PICTURES,
        help="Folder of cut-out foregrounds, with alpha unless --masks is given.",
    ),
]
Masks = Annotated[
    str | None,
    typer.Option(
        "--masks",
        metavar="DIR",
        rich_help_panel=_PICTURES,
        help="Folder with a grayscale mask for each foreground, called the same up to the ending "
        "(default: the foregrounds' own alpha).",
    ),
]

Size = Annotated[
    str | None,
    typer.Option(
        "--size",
        metavar="WIDTHxHEIGHT",
        rich_help_panel=_COMPOSITION,
        help="Size of every sample in pixels, or one number for both (default 128x128).",
    ),
]
Fit = Annotated[
    str | None,
    typer.Option(
        "--fit",
        metavar="crop|stretch",
        rich_help_panel=_COMPOSITION,
        help="How a background gets that size: cut to the aspect first, or only resized (default crop).",
    ),
]
ForegroundHeight = Annotated[
    str | None,
    typer.Option(
        "--foreground-height",
        metavar="PIXELS",
        rich_help_panel=_COMPOSITION,
        help="Height of every pasted foreground; its aspect is kept (default 50).",
    ),
]
Placements = Annotated[
    str | None,
    typer.Option(
        "--placements",
        metavar="N",
        rich_help_panel=_COMPOSITION,
        help="How many times each foreground is pasted on each background (default 20).",
    ),
]
Flip = Annotated[
    bool | None,
    typer.Option(
        "--flip/--no-flip",
        rich_help_panel=_COMPOSITION,
        help="Add as many placements with the foreground mirrored (default --flip).",
    ),
]
Seed = Annotated[
    str | None,
    typer.Option(
        "--seed",
        metavar="N",
        rich_help_panel=_COMPOSITION,
        help="Key of the random positions, 0 to 2^64 - 1; the same seed and pictures give the same samples "
        "(default 0).",
    ),
]
Placement = Annotated[
    str | None,
    typer.Option(
        "--placement",
        metavar="inside",
        rich_help_panel=_COMPOSITION,
        help="Where foregrounds go; inside: anywhere they fit whole (default inside).",
    ),
]

DepthModel = Annotated[
    str | None,
    typer.Option(
        "--depth-model",
        metavar="NAME|FILE.onnx|none",
        rich_help_panel=_DEPTH,
        help="The network that fills depth: a name, or an ONNX file with its card FILE.json beside it "
        "(default fgbgpack-scene).",
    ),
]
DepthMode = Annotated[
    str | None,
    typer.Option(
        "--depth-mode",
        metavar="guided|per-sample",
        rich_help_panel=_DEPTH,
        help="guided: the network runs once on each background, and the guide says on each sample where the "
        "foreground stands in it; per-sample: the network runs on each sample (default: guided with "
        "fgbgpack-scene or a guide, else per-sample).",
    ),
]
DepthGuide = Annotated[
    str | None,
    typer.Option(
        "--depth-guide",
        metavar="NAME|FILE.onnx",
        rich_help_panel=_DEPTH,
        help="The guided network (default fgbgpack-guided).",
    ),
]
DepthScale = Annotated[
    str | None,
    typer.Option(
        "--depth-scale",
        metavar="1..16",
        rich_help_panel=_DEPTH,
        help="Show the network pictures this many times as large as a sample, drawn from the originals: up "
        "to 16 where guided, else up to 4 (default: the smallest that makes the short side 384 or 256 "
        "pixels).",
    ),
]
DepthBits = Annotated[
    str | None,
    typer.Option(
        "--depth-bits",
        metavar="4..10",
        rich_help_panel=_DEPTH,
        help="Precision of stored depth; 9 bits keep rounding within 0.11 % of its range, each bit more "
        "halves that (default 9).",
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="fp32|fp16",
        rich_help_panel=_DEPTH,
        help="What the networks compute in; fp16 is faster on a GPU and less exact (default fp32).",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="|".join(DEVICES),
        rich_help_panel=_DEPTH,
        help="What runs the networks; auto takes the best that works here, the others fail where they "
        "cannot be had (default auto).",
    ),
]

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        rich_help_panel=_RUN,
        help="TOML or JSON file of these options, as 'fgbgpack schema spec' describes them; "
        "those given here override it.",
    ),
]
Chunk = Annotated[
    str | None,
    typer.Option(
        "--chunk",
        metavar="N",
        rich_help_panel=_RUN,
        help="Samples that are compressed together (default: about 40, of one background).",
    ),
]
Workers = Annotated[
    str | None,
    typer.Option(
        "--workers",
        metavar="N",
        rich_help_panel=_RUN,
        help="Threads (default: one for each core); the result is the same with any number.",
    ),
]
Virtual = Annotated[
    bool,
    typer.Option(
        "--virtual",
        rich_help_panel=_RUN,
        help="Store no images and masks: they are made of sources and placements when they are read, with "
        "the same bytes.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        rich_help_panel=_RUN,
        help="Write nothing; say how many samples and bytes it would be, and how long it would take.",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        rich_help_panel=_RUN,
        help="Replace a dataset made with other options.",
    ),
]
OverwriteTarget = Annotated[
    bool, typer.Option("--overwrite", rich_help_panel=_RUN, help="Replace another dataset at DST.")
]
OverwriteDepth = Annotated[
    bool,
    typer.Option(
        "--overwrite", rich_help_panel=_RUN, help="Replace depth of another model or other options."
    ),
]

Json = Annotated[
    bool,
    typer.Option("--json", rich_help_panel=_OUTPUT, help="Print the result as one JSON object, not as text."),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", rich_help_panel=_OUTPUT, help="Say nothing but errors (and --json).")
]

Picture = Annotated[Path, typer.Option("--output", "-o", metavar="FILE.png", help="The picture to write.")]
Samples = Annotated[
    str | None,
    typer.Option(
        "--samples", metavar="I,J,...", help="Which samples, counted from 0 (default: some at random)."
    ),
]
Rows = Annotated[
    str | None, typer.Option("--rows", metavar="N", help="How many samples at random (default 6).")
]
DrawSeed = Annotated[
    str | None,
    typer.Option("--seed", metavar="N", help="Which samples at random: another seed, others (default 0)."),
]

Folder = Annotated[
    str, typer.Argument(metavar="DIR", help="Where to put the pictures; made if it is not there.")
]
BackgroundCount = Annotated[
    str | None, typer.Option("--backgrounds", metavar="N", help="How many backgrounds (default 12).")
]
ForegroundCount = Annotated[
    str | None, typer.Option("--foregrounds", metavar="N", help="How many foregrounds (default 12).")
]
SceneSeed = Annotated[
    str | None, typer.Option("--seed", metavar="N", help="Another seed gives other pictures (default 0).")
]

SchemaName = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]", help="dataset, spec or depth-model; with a version as in spec/1.0 if need be."
    ),
]
