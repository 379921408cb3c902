"""What to build, as frozen dataclasses that survive a round trip through JSON and TOML."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fgbgpack import schema
from fgbgpack.errors import SpecError

DepthMode = Literal["guided", "per-sample"]

#: The depth networks that come with fgbgpack: one that sees an empty background, one that sees a composite
#: and is told where its foreground is and how deep the background.
SCENE_MODEL, GUIDED_MODEL = "fgbgpack-scene", "fgbgpack-guided"

#: What a depth model is called where there is none.
NO_MODEL = "none"


#: By mode: how many pixels a network needs on the short side. On a composite it then sees the person, more or
#: less. On a background it runs but once, so that may be as large as it likes.
_SHORT_SIDE: dict[DepthMode, int] = {"per-sample": 256, "guided": 384}

#: By mode: the largest scale.
LARGEST_SCALE: dict[DepthMode, int] = {"per-sample": 4, "guided": 16}


@dataclass(frozen=True)
class DepthSpec:
    """How depth is filled.

    Attributes:
        model: The name of a depth model, or the path of an ONNX file with its card beside it.
        mode: ``"guided"``: the model runs once on each background, and a guided network says on each sample
            where the foreground stands in it. ``"per-sample"``: the model runs on each sample. ``None`` is
            guided where the model is ``"fgbgpack-scene"`` or a guide is given, else per sample.
        guide: The guided network, by name or path; ``None`` takes ``"fgbgpack-guided"``. For the guided mode
            alone.
        scale: The model sees each picture this many times as large as a sample, rendered from the originals.
            Guided: 1 to 16, ``None`` takes the smallest that makes the short side at least 384 pixels; per
            sample: 1 to 4, and 256 pixels.
        bits: Precision of stored depth (4 to 10): the largest rounding error is
            ``1.1 / 2**(bits + 1)`` of the range of depth, which is measured on samples from all over the
            dataset before it is filled. 9 bits keep it within 0.11 %.
        precision: What the networks' products are taken in: ``"fp32"``, or ``"fp16"``, which is faster on a
            GPU and less exact.
    """

    model: str = SCENE_MODEL
    mode: DepthMode | None = None
    guide: str | None = None
    scale: int | None = None
    bits: int = 9
    precision: Literal["fp32", "fp16"] = "fp32"

    @property
    def resolved_mode(self) -> DepthMode:
        """The mode that it is filled in."""
        if self.mode is not None:
            return self.mode
        return "guided" if self.model == SCENE_MODEL or self.guide is not None else "per-sample"

    @property
    def resolved_guide(self) -> str | None:
        """The guided network; ``None`` in the mode per sample."""
        return (self.guide or GUIDED_MODEL) if self.resolved_mode == "guided" else None

    def resolved_scale(self, height: int, width: int) -> int:
        """The scale for samples of ``height`` x ``width`` pixels: 1 to 16 where guided, else 1 to 4."""
        if self.scale is not None:
            return self.scale
        mode = self.resolved_mode
        return min(LARGEST_SCALE[mode], -(-_SHORT_SIDE[mode] // min(height, width)))


@dataclass(frozen=True)
class DatasetSpec:
    """What to build. All sizes are in pixels.

    Attributes:
        backgrounds: The folder of background pictures.
        foregrounds: The folder of foreground pictures.
        masks: A folder of grayscale masks matched to the foregrounds by file stem; ``None`` takes the
            foregrounds' own alpha.
        width: Width of every sample, 8 to 8192.
        height: Height of every sample, 8 to 8192.
        fit: ``"crop"`` cuts a background's centre to the aspect, then resizes; ``"stretch"`` only resizes.
        foreground_height: Height of every pasted foreground; the aspect is kept.
        placements: How many times each foreground is pasted on each background.
        flip: Adds as many placements with the foreground mirrored.
        seed: The key of all random numbers, 0 to 2**64 - 1.
        placement: ``"inside"``: uniform over all positions that keep the patch inside the picture.
        chunk: Samples in a chunk of image and mask; ``None`` chooses it from the sizes.
        depth: How depth is filled; ``None`` for no depth. By default the two networks that come with fgbgpack
            fill it.

    Raises:
        SpecError: Any field is out of range; all problems are named together.

    Example:
        >>> DatasetSpec(backgrounds="bg", foregrounds="fg", placements=2).to_dict()["placements"]
        2
    """

    backgrounds: str
    foregrounds: str
    masks: str | None = None
    width: int = 128
    height: int = 128
    fit: Literal["crop", "stretch"] = "crop"
    foreground_height: int = 50
    placements: int = 20
    flip: bool = True
    seed: int = 0
    placement: Literal["inside"] = "inside"
    chunk: int | None = None
    depth: DepthSpec | None = DepthSpec()

    def __post_init__(self) -> None:
        problems = schema.problems("spec", self.to_dict())
        problems += [
            f"{key}: the name {folder!r} is not valid Unicode (expected: a name that JSON can hold)"
            for key in ("backgrounds", "foregrounds", "masks")
            if isinstance(folder := getattr(self, key), str) and not is_unicode(folder)
        ]
        if not problems and self.foreground_height > self.height:
            problems.append(
                f"foreground_height: {self.foreground_height} is more than the sample's height of"
                f" {self.height} (expected: at most that)"
            )
        if problems:
            raise SpecError("These options cannot be used:", problems)

    def to_dict(self) -> dict[str, Any]:
        """The spec as a JSON document of schema ``spec/1.0``."""
        return {"schema": "spec/1.0", **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> DatasetSpec:
        """The spec that a document describes; ``schema`` may be left out, and so may fields with a default.

        A depth model called ``"none"`` means no depth, as ``null`` does: TOML has no null.

        Raises:
            SpecError: The document does not follow its schema; all problems are named together.
        """
        fields = schema.read("spec", {"schema": "spec/1.0", **document}, where="the spec", error=SpecError)
        del fields["schema"]
        if fields.get("depth") is not None:
            depth = DepthSpec(**fields["depth"])
            fields["depth"] = None if depth.model == NO_MODEL else depth
        return cls(**fields)

    @property
    def recipe(self) -> dict[str, Any]:
        """The fields that image and mask depend on beside the pictures: where those lie does not matter."""
        document = self.to_dict()
        for key in ("schema", "backgrounds", "foregrounds", "masks", "chunk", "depth"):
            del document[key]
        return document


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold a text: a file's name may have bytes that no character stands for."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_config(path: str | Path) -> dict[str, Any]:
    """Read a TOML or JSON file of spec fields; folders in it become relative to the working folder.

    Returns:
        The fields as written: they are checked when a spec is made of them.

    Raises:
        SpecError: The file cannot be read, or is neither TOML nor JSON.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise SpecError(f"The config file {path} cannot be read: {exc}.") from exc
    try:
        fields = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as exc:
        kind = "JSON" if path.suffix.lower() == ".json" else "TOML"
        raise SpecError(f"The config file {path} is not valid {kind}: {exc}.") from exc
    if not isinstance(fields, dict):
        raise SpecError(f"The config file {path} holds a {type(fields).__name__}, expected named fields.")
    for key in ("backgrounds", "foregrounds", "masks"):
        if isinstance(fields.get(key), str):
            fields[key] = str(path.parent / fields[key])
    depth = fields.get("depth")
    if isinstance(depth, dict):
        for key in ("model", "guide"):
            if isinstance(depth.get(key), str) and depth[key].endswith(".onnx"):
                depth[key] = str(path.parent / depth[key])
    return fields
