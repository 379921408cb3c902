"""The JSON of COCO's files, decoded to what is used of it: outlines stay bytes until they are asked for.

The file of COCO's 118,000 photographs has 450 MB. As plain lists of numbers it would take ten times as much.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

_MARK = b"\xef\xbb\xbf"  # of UTF-8, which some editors write
_PLACE = re.compile(r"\(byte (\d+)\)")
_SHOWN = 20  # bytes

# No field is required, and any value taken: what is wrong with them is told together, by what they are of.


class Licence(msgspec.Struct, gc=False):
    """A licence that pictures have."""

    id: Any = None
    name: Any = None
    url: Any = None


class Category(msgspec.Struct, gc=False):
    """A category of objects."""

    id: Any = None
    name: Any = None


class Image(msgspec.Struct, gc=False):
    """A picture."""

    id: Any = None
    file_name: Any = None
    width: Any = None
    height: Any = None
    license: Any = None
    flickr_url: Any = None
    coco_url: Any = None


class Annotation(msgspec.Struct, gc=False):
    """An object, or a group of some; ``segmentation`` is JSON."""

    id: Any = None
    image_id: Any = None
    category_id: Any = None
    iscrowd: Any = None
    segmentation: msgspec.Raw = msgspec.Raw(b"null")


class Instances(msgspec.Struct):
    """What a file of instances holds."""

    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]
    licenses: list[Licence] | None = None


class RunLengths(msgspec.Struct, gc=False):
    """A mask by the lengths of its runs, compressed to a text or not."""

    size: Any = None
    counts: Any = None


_INSTANCES = msgspec.json.Decoder(Instances)
_POLYGONS = msgspec.json.Decoder(list[list[float]])
_RUN_LENGTHS = msgspec.json.Decoder(RunLengths)


class NotInstances(ValueError):
    """JSON, but not of instances."""


def parse_instances(content: bytes) -> Instances:
    """What is used of a file. Raises NotInstances where it holds something else, ValueError where it is not
    JSON; both say where.
    """
    whole = memoryview(content)[len(_MARK) if content.startswith(_MARK) else 0 :]
    try:
        return _INSTANCES.decode(whole)
    except RecursionError as error:
        raise ValueError("arrays and objects are nested too deep") from error
    except msgspec.ValidationError as error:
        raise NotInstances(_lowered(str(error))) from error
    except msgspec.DecodeError as error:
        found = _PLACE.search(str(error))
        near = b"" if found is None else bytes(whole[int(found[1]) :][:_SHOWN])
        shown = f", at {near.decode(errors='replace')!r}" if near else ""
        raise ValueError(f"{_lowered(str(error))}{shown}") from error


def outline_of(segmentation: msgspec.Raw) -> list[list[float]] | RunLengths | None:
    """The polygons of an outline, each x and y of its corners in turn, or its run lengths; ``None`` where it
    is neither. Raises ValueError for polygons that are not of numbers.
    """
    content = memoryview(segmentation)
    first = bytes(content[:1])
    if first == b"{":
        return _RUN_LENGTHS.decode(content)
    if first != b"[":
        return None
    return _POLYGONS.decode(content)


def _lowered(message: str) -> str:
    return message if message.startswith("JSON") else f"{message[:1].lower()}{message[1:]}"
