"""``croissant.json``: a dataset in the terms of MLCommons Croissant 1.1 and of its RAI vocabulary.

The specifications are at https://docs.mlcommons.org/croissant/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from fgbgpack.cards import sentences as words
from fgbgpack.cards.about import About
from fgbgpack.cards.licences import address_of, findings
from fgbgpack.cards.summary import Array, Facts

_CONFORMS_TO = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
_ZARR = "https://zarr.dev/"
_HDF5 = "application/x-hdf5"
#: What counts the records of a record set, as the specification names it.
_COUNT = "http://www.wikidata.org/entity/Q4049983"

#: The terms that the document uses: those that the specification recommends.
_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}

_TYPES = {
    "uint8": "cr:UInt8",
    "int32": "cr:Int32",
    "float16": "cr:Float16",
    "float32": "cr:Float32",
    "bool": "sc:Boolean",
}
#: What an array is beside numbers.
_SEMANTIC_TYPES = {"image": "sc:ImageObject", "mask": "cr:SegmentationMask"}
_SAMPLE_FILES, _SOURCE_FILES = "sample-arrays", "source-arrays"
_SPLIT_KINDS = {
    "train": "cr:TrainingSplit",
    "training": "cr:TrainingSplit",
    "val": "cr:ValidationSplit",
    "valid": "cr:ValidationSplit",
    "validation": "cr:ValidationSplit",
    "test": "cr:TestSplit",
    "testing": "cr:TestSplit",
}


def croissant(facts: Facts, about: About) -> dict[str, Any]:
    """The document: JSON-LD, with its keys in the order in which people read them.

    Args:
        facts: What there is to tell of the dataset.
        about: What a person says of it.
    """
    said = {
        "name": about.name or PurePath(facts.name).stem,
        "description": about.description or words.description(facts),
        "license": address_of(about.license) if about.license else None,
        "url": about.url,
        "creator": [
            *({"@type": "sc:Person", "name": name} for name in about.creators),
            *({"@type": "sc:Organization", "name": name} for name in about.organizations),
        ],
        "datePublished": about.published,
        "version": about.version,
        "citeAs": about.citation,
        "keywords": keywords(facts),
    }
    return {
        "@context": dict(_CONTEXT),
        "@type": "sc:Dataset",
        "conformsTo": _CONFORMS_TO,
        **{key: value for key, value in said.items() if value},
        **_responsible_ai(facts),
        "distribution": _distribution(facts),
        "recordSet": [_samples(facts), *_sources(facts), *_splits(facts)],
    }


def keywords(facts: Facts) -> list[str]:
    """What the dataset may be found by."""
    said = ["image segmentation", "foreground masks"]
    if facts.spec is not None:
        said += ["synthetic", "composites"]
    if facts.depth is not None:
        said.append("monocular depth")
    return [*said, "Zarr" if facts.form == "zarr" else "HDF5", "fgbgpack"]


# --- responsible AI --------------------------------------------------------------------------------


def _responsible_ai(facts: Facts) -> dict[str, Any]:
    masks = (
        "Masks were imported." if facts.spec is None else "The mask is the alpha of the pasted foreground."
    )
    said: dict[str, Any] = {
        "rai:dataCollection": words.description(facts),
        "rai:dataPreprocessingProtocol": words.how_pixels_were_made(facts),
        "rai:dataAnnotationProtocol": " ".join([masks, *words.how_depth_was_made(facts)]),
        "rai:machineAnnotationTools": [
            facts.made_by,
            *(f"{card['name']} ({card.get('licence', 'licence not stated')})" for card in facts.networks),
        ],
        "rai:dataLimitations": words.limits(facts),
        "rai:personalSensitiveInformation": [words.privacy()],
    }
    if facts.sources is not None:
        said["rai:dataCollectionRawData"] = (
            f"{facts.backgrounds:,} background pictures and {facts.foregrounds:,} foreground pictures: the "
            "record set 'sources' names each with its SHA-256 and, where they are stated, its licence, "
            f"author and address. {' '.join(findings(facts.licences))}"
        )
        said["rai:dataBiases"] = [
            f"It shows what its {facts.backgrounds:,} backgrounds and {facts.foregrounds:,} foregrounds "
            "show, each of them equally often.",
            "Places are uniform over the picture, as they are not in photographs.",
        ]
    return said


# --- files -----------------------------------------------------------------------------------------


def _distribution(facts: Facts) -> list[dict[str, Any]]:
    checked = {
        "@type": "cr:FileObject",
        "@id": facts.checked.address.rpartition("/")[2],
        "name": facts.checked.address.rpartition("/")[2],
        "contentUrl": facts.checked.address,
        "contentSize": f"{facts.checked.bytes} B",
        "sha256": facts.checked.sha256,
    }
    if facts.form == "hdf5":
        return [
            checked
            | {
                "description": "All of the dataset. Its root attribute 'fgbgpack' tells how it was made.",
                "encodingFormat": _HDF5,
            }
        ]
    recipe = facts.document.get("recipe")
    pinned = f" Images and masks are those of the recipe {recipe['sha256']}." if recipe else ""
    return [
        checked
        | {
            "description": "The root of the Zarr v3 store. Its attribute 'fgbgpack' tells how the dataset "
            f"was made and whether it is whole.{pinned}",
            "encodingFormat": "application/json",
        },
        *(
            {
                "@type": "cr:FileSet",
                "@id": identifier,
                "name": identifier,
                "description": f"{what}, as Zarr v3 arrays: {_listed(arrays)}. Every chunk carries a "
                "checksum, which readers of Zarr check.",
                "encodingFormat": _ZARR,
                "includes": sorted({f"{array.path.partition('/')[0]}/**" for array in arrays}),
            }
            for identifier, what, arrays in (
                (_SAMPLE_FILES, "What there is of each sample", _stored(facts, per_sample=True)),
                (_SOURCE_FILES, "What samples were made of", _stored(facts, per_sample=False)),
            )
            if arrays
        ),
    ]


def _stored(facts: Facts, *, per_sample: bool) -> list[Array]:
    return [array for array in facts.arrays if array.per_sample == per_sample and not array.virtual]


def _listed(arrays: Sequence[Array]) -> str:
    return ", ".join(
        array.path if array.stored is None else f"{array.path} ({array.stored:,} bytes)" for array in arrays
    )


# --- records ---------------------------------------------------------------------------------------


def _samples(facts: Facts) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "name": "samples",
        "description": "One record a sample; sample i is element i of each array along its first axis. Read "
        f"them with fgbgpack, or with any reader of {'Zarr v3' if facts.form == 'zarr' else 'HDF5'}.",
        "cr:annotation": {
            "@type": "cr:Field",
            "@id": "samples/count",
            "name": "count",
            "description": "How many samples there are.",
            "dataType": ["sc:Integer", _COUNT],
            "value": facts.samples,
        },
        "field": [_field_of_array(facts, array) for array in facts.arrays if array.per_sample],
    }


def _field_of_array(facts: Facts, array: Array) -> dict[str, Any]:
    kinds = [_TYPES[array.dtype], _SEMANTIC_TYPES.get(array.path)]
    types = [kind for kind in kinds if kind is not None]
    field: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"samples/{array.path}",
        "name": array.path,
        "description": f"{array.meaning[0].upper()}{array.meaning[1:]}. Stored as {array.dtype}.",
        "dataType": types if len(types) > 1 else types[0],
    }
    if len(array.shape) > 1:
        field |= {"isArray": True, "arrayShape": ",".join(map(str, array.shape[1:]))}
    if array.virtual:
        field["description"] += " It is made of sources and placements when it is read."
    else:
        holder = (
            {"fileSet": {"@id": _SAMPLE_FILES}}
            if facts.form == "zarr"
            else {"fileObject": {"@id": facts.checked.address}}
        )
        field["source"] = {**holder, "extract": {"column": array.path}}
    return field


def _sources(facts: Facts) -> list[dict[str, Any]]:
    """The pictures, with all that is stated of them."""
    if facts.sources is None:
        return []
    described = {
        "kind": ("sc:Text", "What it is: background or foreground."),
        "index": ("sc:Integer", "Its number in the arrays background and foreground of the samples."),
        "file": ("sc:Text", "The name of its file."),
        "sha256": ("sc:Text", "The SHA-256 of its file."),
        "mask_file": ("sc:Text", "The name of the file of its mask."),
        "mask_sha256": ("sc:Text", "The SHA-256 of that file."),
        "license": ("sc:Text", "Its licence, as it was stated."),
        "author": ("sc:Text", "Who made it, as it was stated."),
        "url": ("sc:URL", "Where it comes from, as it was stated."),
    }
    rows = [
        {
            "kind": kind.removesuffix("s"),
            "index": index,
            "file": source["name"],
            "sha256": source["sha256"],
            "mask_file": source.get("mask_name"),
            **{key: source.get(key) for key in ("mask_sha256", "license", "author", "url")},
        }
        for kind in ("backgrounds", "foregrounds")
        for index, source in enumerate(facts.sources[kind])
    ]
    what = "The pictures that the samples were made of."
    return [_record_set("sources", what, ["kind", "index"], described, rows)]


def _splits(facts: Facts) -> list[dict[str, Any]]:
    """The parts of the saved splits."""
    if not facts.parts:
        return []
    described = {
        "name": ("sc:Text", "The split and its part."),
        "url": (["sc:URL", "cr:Split"], "What the part is for, where its name says so."),
        "split": ("sc:Text", "The name of the split."),
        "part": ("sc:Text", "The name of its part."),
        "by": ("sc:Text", "What is in one part only: background, foreground, both or sample."),
        "seed": ("sc:Integer", "The key of the order in which these were dealt out."),
        "fraction": ("sc:Float", "How much of these the part was to get."),
        "samples": ("sc:Integer", "How many samples the part has."),
    }
    rows = [
        {
            "name": f"{part.split}/{part.part}",
            "url": _SPLIT_KINDS.get(part.part.lower()),
            "split": part.split,
            "part": part.part,
            "by": part.by,
            "seed": part.seed,
            "fraction": part.fraction,
            "samples": part.samples,
        }
        for part in facts.parts
    ]
    what = (
        "The parts of the splits that are saved in the dataset. Which samples they have is computed of this: "
        "fgbgpack.open_dataset(...).split(name) gives them."
    )
    return [{"dataType": "cr:Split", **_record_set("splits", what, ["name"], described, rows)}]


def _record_set(
    name: str,
    description: str,
    key: Sequence[str],
    described: Mapping[str, tuple[Any, str]],
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """A record set whose records are in the document; what none of them has is left out."""
    used = [field for field in described if any(row[field] is not None for row in rows)]
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": description,
        "key": [{"@id": f"{name}/{field}"} for field in key],
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{field}",
                "name": field,
                "description": described[field][1],
                "dataType": described[field][0],
            }
            for field in used
        ],
        "data": [{f"{name}/{field}": row[field] for field in used} for row in rows],
    }
