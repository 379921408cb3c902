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
_ABOUT = "What only you can say"

Out = Annotated[
    str, typer.Argument(metavar="OUT", help="The dataset to make, such as lobby.zarr or lobby.h5.")
]
Dataset = Annotated[str, typer.Argument(metavar="DATASET", help="A dataset that fgbgpack made.")]
VirtualSource = Annotated[str, typer.Argument(metavar="SRC", help="A virtual dataset.")]
StoredSource = Annotated[str, typer.Argument(metavar="SRC", help="A dataset that stores its pixels.")]
Target = Annotated[str, typer.Argument(metavar="DST", help="The dataset to make.")]
SplitName = Annotated[str, typer.Argument(metavar="NAME", help="What the split is called.")]
SplitParts = Annotated[
    list[str],
    typer.Argument(
        metavar="PART=FRACTION...", help="Each part with its fraction, such as train=0.8; together at most 1."
    ),
]
SplitBy = Annotated[
    str | None,
    typer.Option(
        "--by",
        metavar="background|foreground|both|sample",
        help="What lies in one part only (default background; sample for what was imported). With both, "
        "samples whose two sources lie in different parts are in none.",
    ),
]
SplitSeed = Annotated[
    str | None,
    typer.Option("--seed", metavar="N", help="Another way to deal them out, 0 to 2^64 - 1 (default 0)."),
]

ConvertTarget = Annotated[
    str,
    typer.Argument(metavar="DST", help="The dataset to make: HDF5 if it is called .h5 or .hdf5, else Zarr."),
]
Portable = Annotated[
    bool,
    typer.Option(
        "--portable",
        help="Encode HDF5 with gzip, which readers decode without plugins; it gets several times as large.",
    ),
]
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
        "fgbgpack-scene or a guide, else per-sample, as for all datasets that were imported).",
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

CardFolder = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FOLDER",
        help="Where to write the cards (default: in the dataset's folder, or beside its HDF5 file).",
    ),
]
CardName = Annotated[
    str | None,
    typer.Option(
        "--name", metavar="TEXT", rich_help_panel=_ABOUT, help="What it is called (default: as its folder)."
    ),
]
Description = Annotated[
    str | None,
    typer.Option(
        "--description",
        metavar="TEXT",
        rich_help_panel=_ABOUT,
        help="What it is, in a sentence or a few (default: its numbers).",
    ),
]
License = Annotated[
    str | None,
    typer.Option(
        "--license",
        metavar="LICENCE",
        rich_help_panel=_ABOUT,
        help="The licence of the whole dataset: an SPDX identifier such as CC-BY-4.0, or an address.",
    ),
]
Creators = Annotated[
    list[str] | None,
    typer.Option(
        "--creator", metavar="NAME", rich_help_panel=_ABOUT, help="A person who made it; repeatable."
    ),
]
Organizations = Annotated[
    list[str] | None,
    typer.Option(
        "--organization",
        metavar="NAME",
        rich_help_panel=_ABOUT,
        help="An organisation that made it; repeatable.",
    ),
]
Url = Annotated[
    str | None, typer.Option("--url", metavar="URL", rich_help_panel=_ABOUT, help="Its page in the web.")
]
DatasetVersion = Annotated[
    str | None,
    typer.Option("--version", metavar="X.Y.Z", rich_help_panel=_ABOUT, help="Its version, such as 1.0.0."),
]
Published = Annotated[
    str | None,
    typer.Option(
        "--published",
        metavar="DAY",
        rich_help_panel=_ABOUT,
        help="When it was published, such as 2024-05-31.",
    ),
]
Citation = Annotated[
    str | None,
    typer.Option(
        "--citation", metavar="TEXT", rich_help_panel=_ABOUT, help="How to cite it, in BibTeX if need be."
    ),
]
WithPreview = Annotated[
    bool, typer.Option("--preview", help="Draw some samples for the data card, too, as preview.png.")
]
OverwriteCards = Annotated[bool, typer.Option("--overwrite", help="Replace cards that somebody has changed.")]
WithCards = Annotated[
    bool,
    typer.Option(
        "--cards",
        rich_help_panel=_RUN,
        help="Write croissant.json and DATACARD.md, too, as 'fgbgpack card' does.",
    ),
]

SchemaName = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]", help="dataset, spec or depth-model; with a version as in spec/1.0 if need be."
    ),
]

_EXPORT = "What and how"

ExportFolder = Annotated[str, typer.Argument(metavar="OUT", help="The folder to make.")]
ExportTo = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="folder|webdataset|mds|coco|npz",
        rich_help_panel=_EXPORT,
        help="PNG files in folders of their sources; tar files for webdataset; shards for "
        "mosaicml-streaming; PNG files and JSON for pycocotools; arrays for numpy.load.",
    ),
]
ExportSamples = Annotated[
    str | None,
    typer.Option(
        "--samples",
        metavar="A:B,I,...",
        rich_help_panel=_EXPORT,
        help="Which samples, counted from 0: numbers, and ranges up to but not including their end (default: "
        "all).",
    ),
]
ExportSplit = Annotated[
    str | None,
    typer.Option(
        "--split",
        metavar="NAME",
        rich_help_panel=_EXPORT,
        help="Write each part of a split that is saved in the dataset apart.",
    ),
]
ExportParts = Annotated[
    list[str] | None,
    typer.Option(
        "--part",
        metavar="NAME",
        rich_help_panel=_EXPORT,
        help="Only this part of the split; may be given several times.",
    ),
]
ExportFields = Annotated[
    str | None,
    typer.Option(
        "--fields",
        metavar="image,mask,depth",
        rich_help_panel=_EXPORT,
        help="Only these arrays (default: all that there are).",
    ),
]
ExportDepthBits = Annotated[
    str | None,
    typer.Option(
        "--depth-bits",
        metavar="8|16",
        rich_help_panel=_EXPORT,
        help="Bits of each pixel of depth pictures, for folder and coco; one mapping for all, which "
        "fgbgpack.json tells (default 16).",
    ),
]
ShardSize = Annotated[
    str | None,
    typer.Option(
        "--shard-size",
        metavar="MB",
        rich_help_panel=_EXPORT,
        help="Largest size of a file of many samples, for webdataset (default 256) and mds (default 67).",
    ),
]
ShardSamples = Annotated[
    str | None,
    typer.Option(
        "--shard-samples",
        metavar="N",
        rich_help_panel=_EXPORT,
        help="Most samples in such a file, for webdataset and npz (default for npz: 256 MB before "
        "compression).",
    ),
]
Compression = Annotated[
    str | None,
    typer.Option(
        "--compression",
        metavar="none|zstd[:LEVEL]",
        rich_help_panel=_EXPORT,
        help="How shards are compressed, for mds (default zstd).",
    ),
]
Category = Annotated[
    str | None,
    typer.Option(
        "--category",
        metavar="NAME",
        rich_help_panel=_EXPORT,
        help="What the foregrounds are, for coco (default foreground).",
    ),
]
OverwriteExport = Annotated[
    bool, typer.Option("--overwrite", rich_help_panel=_RUN, help="Replace another export at OUT.")
]

_FILES = "Files"

ImportFolder = Annotated[
    str, typer.Argument(metavar="FOLDER", help="The folder of the pictures, masks and depth.")
]
ImportImages = Annotated[
    str | None,
    typer.Option(
        "--images",
        metavar="PATTERN|DIR",
        rich_help_panel=_FILES,
        help="Where in FOLDER the composites are: a folder, or a pattern such as 'fgbg/{bg}/{n}.jpg'. Fields "
        "in braces, and *, stand for anything but a slash; the fields together tell which files belong "
        "together (default: a folder called images, composites, fg_bg or the like).",
    ),
]
ImportMasks = Annotated[
    str | None,
    typer.Option(
        "--masks",
        metavar="PATTERN|DIR",
        rich_help_panel=_FILES,
        help="The same of their masks, gray from 0 to 255, or alpha (default: a folder called masks, "
        "fg_bg_mask or the like).",
    ),
]
ImportDepths = Annotated[
    str | None,
    typer.Option(
        "--depths",
        metavar="PATTERN|DIR|none",
        rich_help_panel=_FILES,
        help="The same of their depth: gray pictures of 8 or 16 bits, or .npy files (default: a folder "
        "called depth, fg_bg_depth or the like, if there is one).",
    ),
]
SkipUnmatched = Annotated[
    bool,
    typer.Option(
        "--skip-unmatched",
        rich_help_panel=_FILES,
        help="Leave out files that nothing pairs with, and say which (default: an error).",
    ),
]
ImportSize = Annotated[
    str | None,
    typer.Option(
        "--size",
        metavar="WIDTHxHEIGHT",
        rich_help_panel=_COMPOSITION,
        help="Resize everything to this size, in pixels, or one number for both (default: all must have one "
        "size, which stays).",
    ),
]
ImportFit = Annotated[
    str | None,
    typer.Option(
        "--fit",
        metavar="crop|stretch",
        rich_help_panel=_COMPOSITION,
        help="How files get that size: cut to the aspect first, or only resized (default crop).",
    ),
]
DepthQuantity = Annotated[
    str | None,
    typer.Option(
        "--depth-quantity",
        metavar="depth|inverse_depth",
        rich_help_panel=_DEPTH,
        help="What the values are: larger is farther, or larger is nearer (default: not known).",
    ),
]
DepthUnit = Annotated[
    str | None,
    typer.Option(
        "--depth-unit",
        metavar="UNIT",
        rich_help_panel=_DEPTH,
        help="Their unit, such as m, with factor and offset (default: none, relative).",
    ),
]
DepthFactor = Annotated[
    str | None,
    typer.Option(
        "--depth-factor",
        metavar="NUMBER",
        rich_help_panel=_DEPTH,
        help="What values in files are multiplied by; 0.001 makes metres of millimetres (default 1).",
    ),
]
DepthOffset = Annotated[
    str | None,
    typer.Option(
        "--depth-offset",
        metavar="NUMBER",
        rich_help_panel=_DEPTH,
        help="What is then added to them: depth is value x factor + offset (default 0). What a folder that "
        "fgbgpack export wrote says of all this is taken from its fgbgpack.json, unless it is given here.",
    ),
]
DepthInvalid = Annotated[
    str | None,
    typer.Option(
        "--depth-invalid",
        metavar="VALUE",
        rich_help_panel=_DEPTH,
        help="The value in files that stands for unknown depth, which is stored as NaN (default: none).",
    ),
]
ImportChunk = Annotated[
    str | None,
    typer.Option(
        "--chunk",
        metavar="N",
        rich_help_panel=_RUN,
        help="Samples that are compressed together (default: 40 where neighbours look alike, else 8).",
    ),
]
ImportDryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        rich_help_panel=_RUN,
        help="Write nothing; say what was found, what pairs with what, and what would be made.",
    ),
]
