"""``croissant.json``: a dataset in the terms of MLCommons Croissant 1.1 and of its RAI vocabulary.

The specifications are at https://docs.mlcommons.org/croissant/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

from fgbgpack.cards import sentences
from fgbgpack.cards.about import About
from fgbgpack.cards.licences import address_of, findings
from fgbgpack.cards.summary import ArraySummary, DatasetSummary
from fgbgpack.document import MANIFEST
from fgbgpack.sources.names import counted

_CONFORMS_TO = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
_ZARR = "https://zarr.dev/"
_HDF5 = "application/x-hdf5"
#: The specification's name for the number of records of a record set.
_COUNT = "http://www.wikidata.org/entity/Q4049983"

#: The context that the specification recommends: its own terms, and those that need more than a prefix.
_TERMS = (
    *("arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field"),
    *("fileObject", "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath"),
    *("key", "md5", "parentField", "path", "recordSet", "references", "regex", "repeated", "replace"),
    *("samplingRate", "separator", "source", "subField", "transform"),
)
_CONTEXT: Mapping[str, Any] = {
    **{term: f"cr:{term}" for term in _TERMS},
    "@language": "en",
    "@vocab": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
}

_TYPES = {
    "uint8": "cr:UInt8",
    "int32": "cr:Int32",
    "float16": "cr:Float16",
    "float32": "cr:Float32",
    "bool": "sc:Boolean",
}
#: The semantic types of arrays.
_SEMANTIC_TYPES = {"image": "sc:ImageObject", "mask": "cr:SegmentationMask"}
_SAMPLE_FILES, _SOURCE_FILES = "sample-arrays", "source-arrays"
_SPLIT_KINDS = {
    **dict.fromkeys(("train", "training"), "cr:TrainingSplit"),
    **dict.fromkeys(("val", "valid", "validation"), "cr:ValidationSplit"),
    **dict.fromkeys(("test", "testing"), "cr:TestSplit"),
}


def croissant(summary: DatasetSummary, about: About) -> dict[str, Any]:
    """The document: JSON-LD, with its keys in the order in which people read them."""
    described = {
        "name": about.name or PurePath(summary.name).stem,
        "description": about.description or sentences.description(summary),
        "license": address_of(about.license) if about.license else None,
        "url": about.url,
        "creator": [
            *({"@type": "sc:Person", "name": name} for name in about.creators),
            *({"@type": "sc:Organization", "name": name} for name in about.organizations),
        ],
        "datePublished": about.published,
        "version": about.version,
        "citeAs": about.citation,
        "keywords": keywords(summary),
    }
    return {
        "@context": dict(sorted(_CONTEXT.items())),
        "@type": "sc:Dataset",
        "conformsTo": _CONFORMS_TO,
        **{key: value for key, value in described.items() if value},
        **_responsible_ai(summary),
        "distribution": _distribution(summary),
        "recordSet": [_samples(summary), *_sources(summary), *_splits(summary)],
    }


def keywords(summary: DatasetSummary, has_arrays: bool = True) -> list[str]:
    """Search terms for the dataset, or for what has its samples in another form than its arrays."""
    form = "Zarr" if summary.form == "zarr" else "HDF5"
    return [
        *("image segmentation", "foreground masks"),
        *(("synthetic", "composites") if summary.document.has_recipe else ()),
        *(("monocular depth",) if summary.document.depth is not None else ()),
        *((form,) if has_arrays else ()),
        "fgbgpack",
    ]


def _responsible_ai(summary: DatasetSummary) -> dict[str, Any]:
    has_recipe = summary.document.has_recipe
    masks = "The mask is the alpha of the pasted foreground." if has_recipe else "Masks were imported."
    networks = [
        f"{card['name']} ({card.get('licence', 'licence not stated')})" for card in summary.network_cards
    ]
    described: dict[str, Any] = {
        "rai:dataCollection": sentences.description(summary),
        "rai:dataPreprocessingProtocol": sentences.how_pixels_were_made(summary),
        "rai:dataAnnotationProtocol": " ".join([masks, *sentences.how_depth_was_made(summary)]),
        "rai:machineAnnotationTools": [summary.made_by, *networks],
        "rai:dataLimitations": sentences.limits(summary),
        "rai:personalSensitiveInformation": [sentences.privacy()],
    }
    if summary.credits is not None:
        described["rai:dataCollectionRawData"] = (
            f"{counted(len(summary.credits), 'picture')}: the arrays of 'sources' hold the licence, author "
            f"and address of each, where they are stated. {' '.join(findings(summary.licences))}"
        )
    if has_recipe:
        described["rai:dataCollectionRawData"] = (
            f"{summary.backgrounds:,} background pictures and {summary.foregrounds:,} foreground pictures: "
            "the record set 'sources' names each with its SHA-256 and, where they are stated, its licence, "
            f"author and address. {' '.join(findings(summary.licences))}"
        )
        described["rai:dataBiases"] = [
            f"It shows what {counted(summary.backgrounds, 'background')} and "
            f"{counted(summary.foregrounds, 'foreground')} show, each of them equally often.",
            "Places are uniform over the picture, unlike those in photographs.",
        ]
    return described


def _node(kind: str, identifier: str, name: str | None = None) -> dict[str, Any]:
    return {"@type": f"cr:{kind}", "@id": identifier, "name": name or identifier}


def _distribution(summary: DatasetSummary) -> list[dict[str, Any]]:
    name = summary.checked.address.rpartition("/")[2]
    checked = {
        **_node("FileObject", name),
        "contentUrl": summary.checked.address,
        "contentSize": f"{summary.checked.bytes} B",
        "sha256": summary.checked.sha256,
    }
    if summary.form == "hdf5":
        whole = "The whole dataset. /fgbgpack/document in it records how it was made."
        return [checked | {"description": whole, "encodingFormat": _HDF5}]
    recipe = summary.document.recipe
    pinned = f" Images and masks are those of the recipe {recipe.sha256}." if recipe else ""
    root = (
        "The root of the Zarr v3 store. Its attribute 'fgbgpack' records how the dataset was made and "
        f"whether it is complete.{pinned}"
    )
    file_sets = [
        _file_set(identifier, kind, arrays)
        for identifier, kind in ((_SAMPLE_FILES, "samples"), (_SOURCE_FILES, "sources"))
        if (arrays := [a for a in summary.arrays if a.per_sample == (kind == "samples") and not a.virtual])
    ]
    manifest = {
        **_node("FileSet", "manifest-files"),
        "description": "The checksums of all chunks, which 'fgbgpack verify' holds them to.",
        "encodingFormat": _ZARR,
        "includes": [f"{MANIFEST}/**"],
    }
    return [checked | {"description": root, "encodingFormat": "application/json"}, *file_sets, manifest]


def _file_set(identifier: str, kind: str, arrays: Sequence[ArraySummary]) -> dict[str, Any]:
    listed = ", ".join(
        array.path if array.stored is None else f"{array.path} ({array.stored:,} bytes)" for array in arrays
    )
    return {
        **_node("FileSet", identifier),
        "description": f"Arrays of the {kind}, in Zarr v3: {listed}. Every chunk has a checksum, which "
        "readers of Zarr verify.",
        "encodingFormat": _ZARR,
        "includes": sorted({f"{array.path.partition('/')[0]}/**" for array in arrays}),
    }


def _samples(summary: DatasetSummary) -> dict[str, Any]:
    return {
        **_node("RecordSet", "samples"),
        "description": "One record per sample; sample i is element i of each array along its first axis. "
        f"Read them with fgbgpack, or with any reader of {'Zarr v3' if summary.form == 'zarr' else 'HDF5'}.",
        "cr:annotation": {
            **_node("Field", "samples/count", "count"),
            "description": "Number of samples.",
            "dataType": ["sc:Integer", _COUNT],
            "value": summary.samples,
        },
        "field": [_field_of_array(summary, array) for array in summary.arrays if array.per_sample],
    }


def _field_of_array(summary: DatasetSummary, array: ArraySummary) -> dict[str, Any]:
    types = [_TYPES[array.dtype], *filter(None, [_SEMANTIC_TYPES.get(array.path)])]
    field: dict[str, Any] = {
        **_node("Field", f"samples/{array.path}", array.path),
        "description": f"{array.meaning[0].upper()}{array.meaning[1:]}. Stored as {array.dtype}.",
        "dataType": types if len(types) > 1 else types[0],
    }
    if len(array.shape) > 1:
        field |= {"isArray": True, "arrayShape": ",".join(map(str, array.shape[1:]))}
    if array.virtual:
        field["description"] += " It is composed of sources and placements when it is read."
    else:
        is_zarr = summary.form == "zarr"
        kind, identifier = ("fileSet", _SAMPLE_FILES) if is_zarr else ("fileObject", summary.checked.address)
        field["source"] = {kind: {"@id": identifier}, "extract": {"column": array.path}}
    return field


def _sources(summary: DatasetSummary) -> list[dict[str, Any]]:
    """The pictures, with all that is stated of them."""
    sources = summary.document.sources
    if sources is None:
        return []
    fields = {
        "kind": ("sc:Text", "Background or foreground."),
        "index": ("sc:Integer", "Its number in the arrays background and foreground of the samples."),
        "file": ("sc:Text", "The name of its file."),
        "sha256": ("sc:Text", "The SHA-256 of its file."),
        "category": ("sc:Text", "What a foreground shows."),
        "mask_file": ("sc:Text", "The name of the file of its mask."),
        "mask_sha256": ("sc:Text", "The SHA-256 of that file."),
        "license": ("sc:Text", "Its licence, as stated."),
        "author": ("sc:Text", "Its author, as stated."),
        "url": ("sc:URL", "Its address, as stated."),
    }
    rows = [
        {
            "kind": kind,
            "index": index,
            "file": source.name,
            "category": (source.category or None) if kind == "foreground" else None,
            "mask_file": source.mask_name,
            **{name: getattr(source, name) for name in ("sha256", "mask_sha256", "license", "author", "url")},
        }
        for kind, pictures in (("background", sources.backgrounds), ("foreground", sources.foregrounds))
        for index, source in enumerate(pictures)
    ]
    return [_record_set("sources", "The pictures of the samples.", ["kind", "index"], fields, rows)]


def _splits(summary: DatasetSummary) -> list[dict[str, Any]]:
    if not summary.parts:
        return []
    fields = {
        "name": ("sc:Text", "The split and its part."),
        "url": (["sc:URL", "cr:Split"], "The purpose of the part, where its name states one."),
        "split": ("sc:Text", "The name of the split."),
        "part": ("sc:Text", "The name of its part."),
        "by": (
            "sc:Text",
            "What no two parts share: background, foreground, both, sample or a field.",
        ),
        "seed": ("sc:Integer", "The seed of the split."),
        "fraction": ("sc:Float", "The requested fraction of the part."),
        "samples": ("sc:Integer", "Number of samples in the part."),
    }
    rows = [
        {"name": f"{part.split}/{part.part}", "url": _SPLIT_KINDS.get(part.part.lower()), **asdict(part)}
        for part in summary.parts
    ]
    description = (
        "The parts of the splits that are saved in the dataset. Their samples are computed from these "
        "records: fgbgpack.open_dataset(...).split(name) returns them."
    )
    return [{"dataType": "cr:Split", **_record_set("splits", description, ["name"], fields, rows)}]


def _record_set(
    name: str,
    description: str,
    key: Sequence[str],
    fields: Mapping[str, tuple[Any, str]],
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """A record set whose records are in the document; fields that no record has are left out."""
    used = [field for field in fields if any(row[field] is not None for row in rows)]
    return {
        **_node("RecordSet", name),
        "description": description,
        "key": [{"@id": f"{name}/{field}"} for field in key],
        "field": [
            {
                **_node("Field", f"{name}/{field}", field),
                "description": fields[field][1],
                "dataType": fields[field][0],
            }
            for field in used
        ],
        "data": [{f"{name}/{field}": row[field] for field in used} for row in rows],
    }
