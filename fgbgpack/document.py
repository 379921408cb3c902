"""What a dataset says of itself: the attribute ``fgbgpack`` of its root group, as frozen dataclasses.

The JSON Schema ``dataset`` describes the document. Nothing else in the package knows its keys.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, TypeAlias, cast

from fgbgpack import schema
from fgbgpack.errors import DatasetError, SpecError
from fgbgpack.import_info import CREDITS, ImportInfo
from fgbgpack.manifest_info import ManifestInfo
from fgbgpack.source_info import SourceInfo, SourcesInfo
from fgbgpack.spec import FILES_MODEL, DatasetSpec, DepthMode

#: The attributes of the root group: the document, its SHA-256, and what ``verify --record`` found right.
ATTRIBUTE, DIGEST, VERIFIED = "fgbgpack", "fgbgpack_sha256", "fgbgpack_verified"

IMAGE, MASK, DEPTH, DEPTH_MIN, DEPTH_MAX = "image", "mask", "depth", "depth_min", "depth_max"
INSTANCE = "instance"
#: The pictures of a sample.
FIELDS = (IMAGE, MASK, DEPTH)
#: The names of the axes of what samples are composed to.
PLANE_DIMENSIONS: Mapping[str, tuple[str, ...]] = {
    IMAGE: ("sample", "height", "width", "channel"),
    MASK: ("sample", "height", "width"),
    INSTANCE: ("sample", "height", "width"),
}
#: The pictures of a sample, of scenes too.
PICTURES = (IMAGE, MASK, INSTANCE, DEPTH)
#: What can be read of the empty background of a sample: its picture, and its depth.
BACKGROUND_PICTURE, OF_BACKGROUND = "background_image", ("background_image", "background_depth")
#: Depth, and the least and the greatest depth of each sample.
EXTREMES = (DEPTH_MIN, DEPTH_MAX)
DEPTHS = (DEPTH, *EXTREMES)
#: One number a sample.
PLACEMENTS = ("background", "foreground", "flip", "replica", "y", "x")
#: The same of a sample that is a scene, and the group of what its objects are.
SCENE_PLACEMENTS = ("background", "replica")
OBJECTS = "objects"
#: What each object is: its foreground, where its sprite lies, how large and how far turned it is, its blend,
#: light and shadow, and what can be seen of it.
_OF_OBJECTS = "foreground category flip y x height width rotation blend gain shadow visible box"
OBJECT_ARRAYS = tuple(f"{OBJECTS}/{name}" for name in _OF_OBJECTS.split())
OBJECT_FOREGROUND, CATEGORIES = OBJECT_ARRAYS[:2]
#: What may be known of objects that were imported: the share that is seen is of some only.
VISIBLE, BOXES = OBJECT_ARRAYS[-2:]
SOURCES = "sources"
#: What samples are made of: pictures, height and width of each foreground, and at which sides it is cut.
_OF_PICTURES = ("background", "foreground", "foreground_size", "foreground_cut")
SOURCE_ARRAYS = tuple(f"{SOURCES}/{name}" for name in _OF_PICTURES)
FOREGROUND_SIZE = SOURCE_ARRAYS[2]
BACKGROUND_DEPTH = f"{SOURCES}/background_depth"
#: How high somebody is whose feet are at each pixel of backgrounds.
PERSON_PIXELS = f"{SOURCES}/person_pixels"
#: The lowest row of feet of somebody whom each pixel of backgrounds hides.
FRONT_ROW = f"{SOURCES}/front_row"
FIGURE_DEPTH = f"{SOURCES}/figure_depth"
#: What depth may be made of, and is by its mode; where it is layered, of how far persons are by their height.
DEPTH_PARTS = (BACKGROUND_DEPTH, FIGURE_DEPTH)
DEPTH_SOURCES: Mapping[str, tuple[str, ...]] = {"layered": DEPTH_PARTS, "guided": DEPTH_PARTS[:1]}
#: The names of imported samples, (n, bytes) of UTF-8 padded with zeros: every reader of Zarr has such arrays.
NAME = "name"
#: The group of the manifest: the array in it holds the checksums of all chunks.
MANIFEST = "manifest"

OWN = (IMAGE, MASK, INSTANCE, OBJECTS, *DEPTHS, *PLACEMENTS, SOURCES, NAME, MANIFEST)


def is_own(path: str) -> bool:
    """Whether an array or a group is of those that fgbgpack writes, and not one that a user has added."""
    return path.partition("/")[0] in OWN


Quantity: TypeAlias = Literal["depth", "inverse_depth"]


@dataclass(frozen=True)
class RecipeInfo:
    """What image and mask are a pure function of: resized sources, and all that placements depend on."""

    sha256: str
    samples: int


@dataclass(frozen=True)
class PixelsInfo:
    """Whether every shard of image and mask is written (of a virtual dataset, sources and placements).

    A virtual dataset does not store them: image and mask are composed when they are read. They are ``edited``
    where something else has changed what is stored, which was accepted: it is not what the recipe gives.
    """

    complete: bool
    stored: bool = True
    edited: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return {"complete": self.complete, "stored": self.stored} | ({"edited": True} if self.edited else {})


@dataclass(frozen=True)
class DeviceInfo:
    """What ran a network, and on which samples (or backgrounds): ONNX Runtime's execution ``provider``, the
    name of the processor, empty if unknown, and the version of ``onnxruntime``. ``ranges`` are pairs of the
    first number and the one after the last; ``None`` for all that no other device of the network has.
    """

    provider: str
    hardware: str
    onnxruntime: str
    ranges: tuple[tuple[int, int], ...] | None = None

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> DeviceInfo:
        """The same from JSON."""
        ranges = fields["ranges"]
        return cls(**{**fields, "ranges": ranges and tuple((start, stop) for start, stop in ranges)})

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        ranges = None if self.ranges is None else [list(pair) for pair in self.ranges]
        return dataclasses.asdict(self) | {"ranges": ranges}


@dataclass(frozen=True)
class GuideInfo:
    """The guided network: its card, digest, and what ran it on the samples, the last device at last."""

    model: Mapping[str, Any]
    sha256: str
    devices: tuple[DeviceInfo, ...]

    @property
    def provider(self) -> str:
        """The execution provider that ran it last."""
        return self.devices[-1].provider


@dataclass(frozen=True)
class NetworkDepthInfo:
    """Depth that networks filled: ``model`` is a card of schema ``depth-model``, ``sha256`` its file's; both
    are ``None``, without ``devices``, where files say how far backgrounds are, in metres.

    ``scale`` is how many times as large as a sample the picture is that the model saw; depth is stored as
    multiples of ``step``, chosen for ``bits`` of precision and ``None`` until it is measured; ``devices`` ran
    the model, on the samples or, where there is a guide, on the backgrounds, the last device at last.
    """

    complete: bool
    mode: DepthMode
    model: Mapping[str, Any] | None
    sha256: str | None
    guide: GuideInfo | None
    scale: int
    bits: int
    step: float | None
    precision: Literal["fp32", "fp16"]
    devices: tuple[DeviceInfo, ...]

    @property
    def provider(self) -> str | None:
        """The execution provider that ran the model last, if there is one."""
        return self.devices[-1].provider if self.devices else None

    @property
    def quantity(self) -> Quantity:
        """What the values mean: ``"depth"`` (larger is farther) or ``"inverse_depth"``."""
        return "depth" if self.model is None else cast(Quantity, self.model["output"]["quantity"])

    @property
    def unit(self) -> Literal["m"] | None:
        """The unit of depth; ``None`` where it is relative."""
        return "m" if self.model is None else cast('Literal["m"] | None', self.model["output"]["unit"])

    @property
    def model_name(self) -> str:
        """The name of the model that saw the samples or the backgrounds; ``"files"`` where there is none."""
        return FILES_MODEL if self.model is None else str(self.model["name"])

    @property
    def guide_name(self) -> str | None:
        """The name of the guided network."""
        return None if self.guide is None else str(self.guide.model["name"])

    @property
    def sample_provider(self) -> str | None:
        """The execution provider that ran a network last: that on the samples, or else the model."""
        return self.provider if self.guide is None else self.guide.provider


@dataclass(frozen=True)
class ImportedDepthInfo:
    """Depth that was imported from files: their values times ``factor`` plus ``offset``. Quantity and unit
    are ``None`` where they are not known; ``invalid`` is the value in files that stands for unknown depth.
    """

    complete: bool
    quantity: Quantity | None
    unit: str | None
    factor: float
    offset: float
    invalid: float | None

    mode: ClassVar[Literal["imported"]] = "imported"


DepthInfo: TypeAlias = NetworkDepthInfo | ImportedDepthInfo


@dataclass(frozen=True, eq=False)
class Document:
    """What a dataset holds, how it was made, and whether all that was asked for is there.

    A dataset that was imported has ``imported`` and neither ``spec``, ``recipe`` nor ``sources``; ``depth``
    is ``None`` where it is not filled. Saved splits have ``by``, ``seed`` and ``parts``. One that is made
    ``in_parts`` has all that its shards are made of, and waits for these. One that was ``merged`` names the
    datasets that it was made of, each by its ``recipe`` (a digest), ``samples`` and ``generation``.

    What commits a document sets its ``manifest``, and its ``generation``, 32 hexadecimal digits: of what the
    arrays hold once it is complete, at random before.
    """

    complete: bool
    pixels: PixelsInfo
    depth: DepthInfo | None
    software: Mapping[str, str]
    spec: DatasetSpec | None = None
    recipe: RecipeInfo | None = None
    sources: SourcesInfo | None = None
    imported: ImportInfo | None = None
    splits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    generation: str = ""
    manifest: ManifestInfo | None = None
    in_parts: bool = False
    merged: tuple[Mapping[str, Any], ...] = ()

    def __eq__(self, other: object) -> bool:
        # Pictures with other credits are the same pictures, but not the same document.
        return isinstance(other, Document) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.complete, self.recipe, self.pixels))

    @classmethod
    def from_dict(cls, document: object, *, where: str) -> Document:
        """Reads a JSON document, checked (DatasetError) and brought to the newest version of its schemas."""
        fields = schema.read("dataset", document, where=where)
        fields.pop("schema")
        fields["pixels"] = PixelsInfo(**fields["pixels"])
        fields["merged"] = tuple(fields.get("merged", ()))
        if "imported" in fields:
            fields["imported"] = ImportInfo.of(fields["imported"])
        else:
            spec = schema.read("spec", fields["spec"], where=f"the spec in {where}")
            try:
                fields["spec"] = DatasetSpec.from_dict(spec)
            except SpecError as exc:
                raise DatasetError(f"{where} has a bad spec:", exc.problems, code="document-damaged") from exc
            fields["recipe"] = RecipeInfo(**fields["recipe"])
            pictures = (fields["sources"][kind] for kind in ("backgrounds", "foregrounds"))
            fields["sources"] = SourcesInfo(*(tuple(SourceInfo(**s) for s in kind) for kind in pictures))
        if fields["depth"] is not None:
            fields["depth"] = _depth_from(fields["depth"], where)
        if fields["manifest"] is not None:
            fields["manifest"] = ManifestInfo.of(fields["manifest"])
        read = cls(**fields)
        if found := list(read._contradictions()):
            raise DatasetError(
                f"The document of {where} contradicts itself: restore it from a copy, or make it again.",
                found,
                code="document-damaged",
            )
        return read

    def _contradictions(self) -> Iterator[str]:
        """What no schema can say: a line for each relation between values that does not hold."""
        if self.spec is not None and self.recipe is not None and self.sources is not None:
            spec, sources = self.spec, self.sources
            sides = len(sources.backgrounds), len(sources.foregrounds)
            expected = spec.sample_count(*sides)
            if self.recipe.samples != expected:
                made_of = "{} backgrounds x {} foregrounds x {} placements".format(*sides, spec.placements)
                made_of += ", and as many flipped" if spec.flip else ""
                asked = "as asked for" if spec.samples is not None else made_of
                yield f"recipe.samples: found {self.recipe.samples}, expected {expected}: {asked}"
        depth = self.depth
        if isinstance(depth, NetworkDepthInfo) and (depth.mode == "guided") != (depth.guide is not None):
            found = "none" if depth.guide is None else "one"
            yield f"depth.guide: found {found}, which mode {depth.mode!r} does not have"

    def to_dict(self) -> dict[str, Any]:
        """The JSON document, of schema ``dataset``."""
        tag = f"dataset/{schema.CURRENT['dataset']}"
        document: dict[str, Any] = {"schema": tag, "generation": self.generation, "complete": self.complete}
        document |= {"in_parts": True} if self.in_parts else {}
        if self.imported is not None:
            document["imported"] = self.imported.to_dict()
        if self.spec is not None and self.recipe is not None and self.sources is not None:
            document["spec"] = self.spec.to_dict()
            document["recipe"] = dataclasses.asdict(self.recipe)
            document["sources"] = {
                kind: [_without_none(source) for source in getattr(self.sources, kind)]
                for kind in ("backgrounds", "foregrounds")
            }
        document["pixels"] = self.pixels.to_dict()
        document["depth"] = None
        if self.depth is not None:
            section = dataclasses.asdict(self.depth)
            if isinstance(self.depth, NetworkDepthInfo):
                section["devices"] = [device.to_dict() for device in self.depth.devices]
                if self.depth.guide is not None:
                    section["guide"]["devices"] = [device.to_dict() for device in self.depth.guide.devices]
            document["depth"] = {"complete": section.pop("complete"), "mode": self.depth.mode, **section}
        document |= {"merged": list(map(dict, self.merged))} if self.merged else {}
        if self.splits:
            document["splits"] = {name: dict(split) for name, split in self.splits.items()}
        document["software"] = dict(self.software)
        document["manifest"] = None if self.manifest is None else self.manifest.to_dict()
        return document

    @property
    def is_virtual(self) -> bool:
        """Whether image and mask are not stored, but composed when they are read."""
        return not self.pixels.stored

    @property
    def is_layered(self) -> bool:
        """Whether depth is in layers, a function of the recipe and the depth of the backgrounds."""
        return self.depth is not None and self.depth.mode == "layered"

    @property
    def composed(self) -> tuple[str, ...]:
        """The arrays that are not stored: those of a virtual dataset that are a function of its recipe."""
        return () if self.pixels.stored else (*self.planes, *((DEPTH,) if self.is_layered else ()))

    @property
    def has_recipe(self) -> bool:
        """Whether the dataset was made of sources and placements; else its pictures were imported."""
        return self.imported is None

    @property
    def is_scene(self) -> bool:
        """Whether samples were made as scenes of objects."""
        return self.spec is not None and self.spec.is_scene

    @property
    def object_arrays(self) -> tuple[str, ...]:
        """The paths of what is known of the objects of samples: none where there are no instances."""
        if self.spec is not None:
            return OBJECT_ARRAYS if self.spec.is_scene else ()
        objects = self._extent.objects
        return () if objects is None else (CATEGORIES, *((VISIBLE,) if objects.visible else ()), BOXES)

    @property
    def has_objects(self) -> bool:
        """Whether samples have objects that are told apart, with instances: scenes, some imported ones."""
        return bool(self.object_arrays)

    @property
    def most_objects(self) -> int:
        """The most objects that a sample can have, where they are told apart."""
        if self.spec is not None:
            return self.spec.scene.object_range[1]
        objects = self._extent.objects
        return 0 if objects is None else objects.most

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories of objects, by their numbers; one without a name where nothing says what they are,
        none where they are not told apart.
        """
        if self.sources is not None:
            return self.sources.categories
        objects = self._extent.objects
        return () if objects is None else objects.categories

    @property
    def planes(self) -> tuple[str, ...]:
        """What samples are composed to, or what stands for that in imported ones."""
        return (IMAGE, MASK, INSTANCE) if self.has_objects else (IMAGE, MASK)

    @property
    def placements(self) -> tuple[str, ...]:
        """The arrays of one number a sample that say what it is made of."""
        made = SCENE_PLACEMENTS if self.is_scene else PLACEMENTS
        return made if self.has_recipe else ()

    @property
    def of_imported(self) -> tuple[str, ...]:
        """The paths of what imported samples have beside their pictures and depth."""
        return () if self.imported is None else (NAME, *self.imported.credits, *self.object_arrays)

    @property
    def recipe_arrays(self) -> tuple[str, ...]:
        """The paths of all that the pixels and the layers of samples are made of."""
        if not self.has_recipe:
            return ()
        more = self.object_arrays
        floors = (PERSON_PIXELS,) if self.spec and self.spec.scene.has_floor else ()
        fronts = (FRONT_ROW,) if self.spec and self.spec.occlude else ()
        return (*self.placements, *SOURCE_ARRAYS, *more, *floors, *fronts)

    @property
    def depth_sources(self) -> tuple[str, ...]:
        """The arrays that depth is made of."""
        return () if self.depth is None else DEPTH_SOURCES.get(self.depth.mode, ())

    @property
    def samples(self) -> int:
        """Number of samples."""
        return self._extent.samples if self.recipe is None else self.recipe.samples

    @property
    def height(self) -> int:
        """Height of every sample in pixels."""
        return self._extent.height if self.spec is None else self.spec.height

    @property
    def width(self) -> int:
        """Width of every sample in pixels."""
        return self._extent.width if self.spec is None else self.spec.width

    @property
    def chunk(self) -> int | None:
        """Samples in a chunk of image and mask, as asked for; ``None`` where it follows from the sizes."""
        return self._extent.chunk if self.spec is None else self.spec.chunk

    @property
    def _extent(self) -> ImportInfo:
        if self.imported is None:
            raise ValueError("a document has a spec and a recipe, or what was imported")
        return self.imported

    @property
    def nodes(self) -> tuple[str, ...]:
        """The paths of the arrays and groups that the dataset has once it is complete."""
        has_sources = self.has_recipe or not set(CREDITS).isdisjoint(self.of_imported)
        groups = (*((SOURCES,) if has_sources else ()), *((OBJECTS,) if self.has_objects else ()))
        rest = (*groups, *self.recipe_arrays, *self.of_imported)
        manifest = () if self.manifest is None else (MANIFEST, self.manifest.path)
        paths = (*self.planes, *DEPTHS, *rest, *self.depth_sources, *manifest)
        return tuple(path for path in paths if path not in self.composed)

    @property
    def whole_arrays(self) -> tuple[str, ...]:
        """The paths of the arrays that are there as a whole by now."""
        found: list[str] = []
        if self.pixels.complete:
            found += self.planes
        if self.pixels.complete or self.in_parts:
            found += (*self.recipe_arrays, *self.of_imported)
        has_depth = self.depth is not None and self.depth.complete
        found += DEPTHS if has_depth else ()
        found += self.depth_sources if has_depth or self.in_parts else ()
        return tuple(path for path in found if path not in self.composed)

    def with_depth(self, depth: DepthInfo | None) -> Document:
        """The document with another depth section; it is complete if that and the pixels are."""
        complete = self.pixels.complete and (depth is None or depth.complete)
        return replace(self, depth=depth, complete=complete, in_parts=self.in_parts and not complete)

    def with_pixels_complete(self) -> Document:
        """The document once all pixels are there; it is complete unless depth is yet to be filled."""
        complete = self.depth is None or self.depth.complete
        pixels, in_parts = replace(self.pixels, complete=True), self.in_parts and not complete
        return replace(self, pixels=pixels, complete=complete, in_parts=in_parts)

    def begun(self) -> Document:
        """The document while all that the dataset holds is still being written."""
        depth = None if self.depth is None else replace(self.depth, complete=False)
        begun = replace(self, complete=False, pixels=replace(self.pixels, complete=False), depth=depth)
        return replace(begun, in_parts=False, generation="", manifest=None)


def _depth_from(section: Mapping[str, Any], where: str) -> DepthInfo:
    fields = dict(section)
    if fields["mode"] == ImportedDepthInfo.mode:
        fields.pop("mode")
        return ImportedDepthInfo(**fields)
    if (card := fields["model"]) is not None:
        fields["model"] = schema.read("depth-model", card, where=f"the depth model's card in {where}")
    if fields["guide"] is not None:
        guide, where = fields["guide"], f"the guided network's card in {where}"
        model = schema.read("depth-model", guide["model"], where=where)
        fields["guide"] = GuideInfo(model, guide["sha256"], tuple(map(DeviceInfo.of, guide["devices"])))
    fields["devices"] = tuple(map(DeviceInfo.of, fields["devices"]))
    return NetworkDepthInfo(**fields)


def _without_none(source: SourceInfo) -> dict[str, str | float]:
    # A source that was found knows its path too, which is not for the document.
    fields = ((field.name, getattr(source, field.name)) for field in dataclasses.fields(SourceInfo))
    return {name: value for name, value in fields if value is not None}
