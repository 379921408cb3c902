"""What to build, as frozen dataclasses with a round trip through JSON and TOML."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, SupportsFloat

from fgbgpack import schema
from fgbgpack.errors import SpecError
from fgbgpack.files import why
from fgbgpack.inputs import parse_json, read_file
from fgbgpack.options import whole_number
from fgbgpack.scene_spec import Placement, SceneOptions

DepthMode = Literal["layered", "guided", "per-sample"]

#: The most samples that a dataset can hold.
MOST_SAMPLES = 1 << 40

#: The depth networks that come with fgbgpack: the first sees empty backgrounds, the second composites with
#: the mask of their foreground and the depth of their background.
SCENE_MODEL, GUIDED_MODEL = "fgbgpack-scene", "fgbgpack-guided"

#: The name of a depth model that means no depth, and the one that means depth of the backgrounds from files.
NO_MODEL, FILES_MODEL = "none", "files"

#: By mode: pixels on the short side of a network's input. 256 are enough to make a person out in a composite;
#: a background is seen only once, so it can be larger.
_SHORT_SIDE: dict[DepthMode, int] = {"per-sample": 256, "guided": 384, "layered": 384}

#: By mode: the largest scale.
LARGEST_SCALE: dict[DepthMode, int] = {"per-sample": 4, "guided": 16, "layered": 16}

_LARGEST_CONFIG = 1 << 20  # bytes
_FOLDERS = ("backgrounds", "foregrounds", "masks", "background_depth")

#: What EXIF orientation does to a picture: it is turned upright, or stays as it is stored.
Exif = Literal["apply", "ignore"]

#: The largest numbers that masks hold, and that alpha is made of.
LARGEST_MASK_VALUE, LARGEST_ALPHA = 65535, 255


@dataclass(frozen=True)
class Reading:
    """How pictures and masks are read, where they are not what they usually are.

    Attributes:
        mask_value: The number in masks, a class or an entry of the palette, that is the object; ``None``
            where masks are alpha.
        mask_threshold: The least alpha, 1 to 255, that becomes 255, while the rest becomes 0; ``None`` where
            edges stay soft.
        invert_masks: Whether masks are dark where the object is.
        frame: Which frame of animations and which page of documents is the picture, from 0; ``None`` where
            these are refused.
        premultiplied: Whether the colours of pictures with alpha were multiplied by it.
        exif: Whether pictures and masks are turned as their EXIF orientation says.
        strict: Whether damage that decoders pass over is an error.
    """

    mask_value: int | None = None
    mask_threshold: int | None = None
    invert_masks: bool = False
    frame: int | None = None
    premultiplied: bool = False
    exif: Exif = "apply"
    strict: bool = True

    @property
    def problems(self) -> list[str]:
        """What no schema can say: options that exclude each other."""
        if self.mask_value is None or self.mask_threshold is None:
            return []
        return ["mask_threshold: of no use with mask_value, which makes masks of 0 and 255"]


#: Pictures and masks as they usually are.
AS_USUAL = Reading()


@dataclass(frozen=True)
class DepthSpec:
    """How depth is filled.

    Attributes:
        model: The name of a depth model, or the path of an ONNX file with its card beside it. ``"files"``
            takes the depth of the backgrounds from files, the dataset's ``background_depth``, which takes the
            place of ``"fgbgpack-scene"`` wherever there is one.
        mode: ``"layered"``: the model runs once on each background, and the foreground of each sample is a
            plane before it, as far away as a person of its height. ``"guided"``: the model runs once on each
            background, then a guided network places the foreground of each sample in that depth.
            ``"per-sample"``: the model runs on each sample. ``None`` means guided if a guide is given,
            layered if the model is ``"fgbgpack-scene"`` or ``"files"``, else per sample.
        guide: The guided network, by name or path; ``None`` takes ``"fgbgpack-guided"``. Only for the guided
            mode.
        scale: Size of the model's input relative to a sample; it is rendered from the originals. 1 to 16
            where the model sees backgrounds, per sample 1 to 4. ``None`` takes the smallest scale whose short
            side has at least 384 pixels, or 256 per sample.
        bits: Precision of stored depth, 4 to 10: the largest rounding error is ``1.1 / 2**(bits + 1)`` of the
            range of depth, which is measured beforehand on samples spread over the dataset. With 9 bits it is
            below 0.11 %.
        precision: Arithmetic precision of the networks: ``"fp32"``, or ``"fp16"``, which is faster on a GPU
            and less exact.
    """

    model: str = SCENE_MODEL
    mode: DepthMode | None = None
    guide: str | None = None
    scale: int | None = None
    bits: int = 9
    precision: Literal["fp32", "fp16"] = "fp32"

    @property
    def resolved_mode(self) -> DepthMode:
        """The mode, with ``None`` resolved."""
        if self.mode is not None:
            return self.mode
        if self.guide is not None:
            return "guided"
        return "layered" if self.model in (SCENE_MODEL, FILES_MODEL) else "per-sample"

    @property
    def resolved_guide(self) -> str | None:
        """The guided network; ``None`` in other modes."""
        return (self.guide or GUIDED_MODEL) if self.resolved_mode == "guided" else None

    def resolved_scale(self, height: int, width: int, *, scenes: bool = False) -> int:
        """The scale for samples of ``height`` x ``width`` pixels: 1 to 16, per sample 1 to 4, and 1 for
        scenes, which are not rendered larger, and for depth from files.
        """
        if self.model == FILES_MODEL:
            return 1
        if self.scale is not None:
            return self.scale
        mode = self.resolved_mode
        if scenes and mode == "per-sample":
            return 1
        return min(LARGEST_SCALE[mode], -(-_SHORT_SIDE[mode] // min(height, width)))


@dataclass(frozen=True)
class DatasetSpec:
    """What to build. All sizes are in pixels.

    Attributes:
        backgrounds: The folder of background pictures.
        foregrounds: The folder of foreground pictures.
        masks: A folder of grayscale masks matched to the foregrounds by file stem; ``None`` takes the
            foregrounds' own alpha.
        background_depth: A folder with the distance of each background as a file of its stem: gray PNG or
            TIFF, or ``.npy``, 0 or NaN where it is unknown. Floors are found in it, and depth of samples is
            made of it; ``None`` has networks estimate depth.
        depth_factor: What the numbers in these files are multiplied by to be metres; ``None`` takes whole
            numbers as millimetres and others as metres.
        depth_invalid: A number in these files that stands for unknown depth, beside 0.
        mask_pattern: What a mask is called, with ``{name}`` for the stem of its foreground; ``None`` for the
            same stem. Without ``masks`` they lie beside the foregrounds.
        mask_value: The number in masks, or alpha, that is the object; ``None`` where they are alpha.
        mask_threshold: The least alpha, 1 to 255, that becomes 255, while the rest becomes 0.
        invert_masks: Whether masks, or alpha, are 0 where the object is.
        frame: Which frame of animations and which page of documents is the picture, from 0; ``None`` refuses
            them.
        premultiplied: Whether the foregrounds' colours were multiplied by their alpha, which is then undone.
        exif: ``"apply"`` turns pictures and masks as their EXIF orientation says, ``"ignore"`` does not.
        strict: Whether pictures are refused whose data is damaged, where decoders pass over that.
        width: Width of every sample, 8 to 8192.
        height: Height of every sample, 8 to 8192.
        fit: ``"crop"`` crops backgrounds to the aspect around their centre, then resizes; ``"stretch"`` only
            resizes.
        foreground_height: Height of every pasted foreground; the aspect is kept. ``"26-110"``, or
            ``"20%-86%"`` of the sample's height, is a range of heights.
        placements: Number of times each foreground is pasted on each background.
        flip: Adds as many placements with the foreground mirrored; of random pairs, half of all objects are.
        seed: Key of all random numbers, 0 to 2**64 - 1.
        vary_copies: Whether pictures that are copies of each other get placements of their own.
        placement: ``"inside"``: uniform over all positions that keep the foreground inside the picture;
            ``"anchored"``: cut edges at the picture's border or beyond, whole foregrounds at the lower
            border; ``"auto"``: cut foregrounds the same, whole ones with their feet on the floor, as high as
            a person there, and inside where a background has no floor; ``"floor"``: the same, but an error
            if nothing can stand anywhere.
        samples: The number of samples of random pairs; ``None`` pastes every foreground on every background.
        objects: Objects of a sample, 1 to 16: a number, or a range such as ``"1-3"``.
        empty: The share of samples without any object, 0 to 1.
        truncate: The largest share of an object's height and width that may be outside the picture.
        overlap: The least share of each object that is to be visible: those with less are drawn again.
        rotation: Turns each object by up to that many degrees to either side, 0 to 45, in tenths.
        blend: What becomes of edges: ``"soft"``, ``"hard"`` or ``"feather"``, or several of them, separated
            by commas.
        light_match: Whether the light of an object is brought near that of its surroundings.
        shadow: Whether whole objects darken the ground below them.
        occlude: Whether things in backgrounds hide those who stand behind them. It needs depth of the
            backgrounds in metres.
        classes: Whether the subfolders of ``foregrounds`` are categories.
        chunk: Samples in a chunk of image and mask; ``None`` derives it from the sizes.
        depth: How depth is filled; ``None`` for no depth. By default the network for scenes that comes with
            fgbgpack fills it, in layers.

    Raises:
        SpecError: ``spec-invalid``, with all problems: fields out of range.

    Example:
        >>> DatasetSpec(backgrounds="bg", foregrounds="fg", placements=2).to_dict()["placements"]
        2
    """

    backgrounds: str
    foregrounds: str
    masks: str | None = None
    background_depth: str | None = None
    depth_factor: float | None = None
    depth_invalid: float | None = None
    mask_pattern: str | None = None
    mask_value: int | None = None
    mask_threshold: int | None = None
    invert_masks: bool = False
    frame: int | None = None
    premultiplied: bool = False
    exif: Exif = "apply"
    strict: bool = True
    width: int = 128
    height: int = 128
    fit: Literal["crop", "stretch"] = "crop"
    foreground_height: int | str = 50
    placements: int = 20
    flip: bool = True
    seed: int = 0
    vary_copies: bool = False
    placement: Placement = "inside"
    samples: int | None = None
    objects: int | str = 1
    empty: float = 0.0
    truncate: float = 0.0
    overlap: float = 0.0
    rotation: float = 0.0
    blend: str = "soft"
    light_match: bool = False
    shadow: bool = False
    occlude: bool = False
    classes: bool = False
    chunk: int | None = None
    depth: DepthSpec | None = DepthSpec()

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if (number := whole_number(getattr(self, field.name))) is not None:
                # Of NumPy or torch perhaps, which JSON does not have.
                object.__setattr__(self, field.name, number)
        for name in ("empty", "truncate", "overlap", "rotation"):
            if type(number := getattr(self, name)) is not bool and isinstance(number, SupportsFloat):
                object.__setattr__(self, name, float(number))
        depth = self.depth
        if (
            self.background_depth is not None
            and depth is not None
            and depth.model == SCENE_MODEL
            and depth.mode != "per-sample"
        ):
            object.__setattr__(self, "depth", dataclasses.replace(depth, model=FILES_MODEL))
        violations = schema.problems("spec", self.to_dict())
        problems = violations + [
            f"{key}: the name {folder!r} is not valid Unicode (expected: a name that JSON can hold)"
            for key in _FOLDERS
            if isinstance(folder := getattr(self, key), str) and not is_unicode(folder)
        ]
        if violations:
            problems += _others(self.to_dict(), violations)
        else:
            problems += [*self.scene.problems, *self.reading.problems, *self._depth_problems()]
        if problems:
            raise SpecError("These options cannot be used:", problems)

    def _depth_problems(self) -> Iterator[str]:
        """What no schema can say of depth from files."""
        if self.background_depth is None:
            for name in ("depth_factor", "depth_invalid"):
                if getattr(self, name) is not None:
                    yield f"{name}: of no use without background_depth"
        if self.depth is None or self.depth.model != FILES_MODEL:
            return
        if self.background_depth is None:
            yield f"depth.model: {FILES_MODEL!r} needs background_depth, the folder of the files"
        if self.depth.mode == "per-sample":
            yield f"depth.mode: 'per-sample' needs a network, found the model {FILES_MODEL!r}"
        if self.depth.scale is not None:
            yield "depth.scale: of no use where depth of the backgrounds is that of files"

    @property
    def reading(self) -> Reading:
        """How pictures and masks are read."""
        return Reading(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Reading)})

    def __getstate__(self) -> dict[str, Any]:
        # What was computed is not sent along.
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @cached_property
    def scene(self) -> SceneOptions:
        """What samples hold beyond one foreground of one height, pasted whole."""
        return SceneOptions(
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(SceneOptions)}
        )

    @cached_property
    def is_scene(self) -> bool:
        """Whether samples are scenes of objects, and not one whole foreground of one height."""
        return self.scene.is_scene

    def sample_count(self, backgrounds: int, foregrounds: int) -> int:
        """The samples of so many pictures."""
        every = backgrounds * foregrounds * self.placements * (2 if self.flip else 1)
        return every if self.samples is None else self.samples

    def to_dict(self) -> dict[str, Any]:
        """The spec as a JSON document of schema ``spec/1.0``."""
        return {"schema": "spec/1.0", **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> DatasetSpec:
        """The spec of a document; ``schema`` and fields with a default may be left out.

        A depth model called ``"none"`` means no depth, as ``null`` does: TOML has no null. Raises SpecError
        (``schema-violated``) with all problems.
        """
        whole = {"schema": "spec/1.0", **document}
        try:
            fields = schema.read("spec", whole, where="the spec", error=SpecError)
        except SpecError as exc:
            problems = [*exc.problems, *_others(document, exc.problems)]
            raise SpecError(exc.message, problems, code=exc.code) from exc
        del fields["schema"]
        if fields.get("depth") is not None:
            depth = DepthSpec(**fields["depth"])
            fields["depth"] = None if depth.model == NO_MODEL else depth
        return cls(**fields)

    @property
    def recipe(self) -> dict[str, Any]:
        """The fields that image and mask depend on, apart from the pictures themselves."""
        others = {"schema", "chunk", "depth", "mask_pattern", *_FOLDERS}
        return {key: value for key, value in self.to_dict().items() if key not in others}


def _others(document: Mapping[str, Any], violations: Sequence[str]) -> list[str]:
    """What else is wrong with a spec of which some fields violate the schema, where these do not matter."""
    wrong = {re.split("[.:]", violation)[0] for violation in violations}
    sound = {field.name for field in dataclasses.fields(DatasetSpec)} - wrong
    rest = {name: value for name, value in document.items() if name in sound}
    try:
        DatasetSpec.from_dict({"backgrounds": ".", "foregrounds": ".", **rest})
    except SpecError as exc:
        return [problem for problem in exc.problems if wrong.isdisjoint(re.findall(r"\w+", problem))]
    return []


def is_unicode(text: str) -> bool:
    """Whether a text can be encoded: names of files may hold bytes that are no characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_config(path: str | Path) -> dict[str, Any]:
    """Read a TOML or JSON file of spec fields, not yet checked; paths in it become relative to the working
    folder.

    Raises SpecError (``config-unreadable``).
    """
    path = Path(path)
    kind, loads = ("JSON", parse_json) if path.suffix.lower() == ".json" else ("TOML", tomllib.loads)
    code = "config-unreadable"
    try:
        fields = loads(read_file(path, _LARGEST_CONFIG).decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as exc:
        reason = why(exc, str(path)) if isinstance(exc, OSError) else exc
        raise SpecError(f"The config file {path} cannot be read: {reason}.", code=code) from exc
    except (ValueError, RecursionError) as exc:  # TOML may be nested without end
        raise SpecError(f"The config file {path} is not valid {kind}: {exc}.", code=code) from exc
    if not isinstance(fields, dict):
        found = type(fields).__name__
        raise SpecError(f"The config file {path} holds a {found}, expected named fields.", code=code)
    for key in _FOLDERS:
        if isinstance(fields.get(key), str):
            fields[key] = str(path.parent / fields[key])
    depth = fields.get("depth")
    if isinstance(depth, dict):
        for key in ("model", "guide"):
            if isinstance(depth.get(key), str) and depth[key].endswith(".onnx"):
                depth[key] = str(path.parent / depth[key])
    return fields
