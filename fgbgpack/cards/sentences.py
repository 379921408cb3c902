"""Sentences about a dataset that both of its cards use."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import PurePath

from fgbgpack.cards.summary import DatasetSummary
from fgbgpack.document import ImportedDepthInfo, NetworkDepthInfo
from fgbgpack.import_info import ImportInfo
from fgbgpack.sources.names import counted, listed
from fgbgpack.spec import DatasetSpec

_SHOWN = 20  # categories that are named


def description(summary: DatasetSummary) -> str:
    """What the dataset is, in two or three sentences."""
    fields = "images and masks" if summary.document.depth is None else "images, masks and depth maps"
    if summary.document.of_imported and summary.document.has_objects:
        fields = f"{fields}, and instances with boxes and categories"
    size = f"{summary.size} pixels"
    if summary.document.spec is None:
        return (
            f"{counted(summary.samples, 'sample')} of {size}: {fields}, imported from files. "
            f"Put together by {summary.made_by}."
        )
    pasted = (
        f"{counted(summary.foregrounds, 'foreground')} pasted on {counted(summary.backgrounds, 'background')}"
    )
    return (
        f"{summary.samples:,} synthetic samples of {size}: {fields}. They are {pasted} at random places, "
        f"{placements_per_pair(summary)}. Made by {summary.made_by}."
    )


def _objects_in_words(spec: DatasetSpec) -> str:
    low, high = spec.scene.object_range
    return counted(low, "object") if low == high else f"{low} to {high} objects"


def _heights_in_words(spec: DatasetSpec) -> str:
    low, high = spec.scene.height_range
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def placements_per_pair(summary: DatasetSummary) -> str:
    """How often each foreground is pasted on each background."""
    spec = summary.document.spec
    if spec is None:
        return ""
    if spec.samples is not None:
        mirrored = ", half of them mirrored" if spec.flip else ""
        return f"{_objects_in_words(spec)} a sample, drawn at random{mirrored}"
    times = "once" if spec.placements == 1 else f"{spec.placements:,} times"
    return f"each pair {times}" + (f" and {times} mirrored" if spec.flip else "")


def limits(summary: DatasetSummary) -> list[str]:
    """What the dataset cannot be relied on for."""
    spec = summary.document.spec
    if spec is None:
        imported = "It was imported: how its samples were made, and of what, is not recorded in it."
        return [*_limits_of_depth(summary), imported]
    light = "its light and colours are not fitted to the background"
    if spec.light_match:
        light = "its light is brought near that of its surroundings by their mean alone"
    shadow = "casts no shadow but below its feet" if spec.shadow else "casts no shadow"
    places = "Places are random: a foreground may float, or be of a size that the scene does not allow."
    if spec.scene.has_floor:
        places = (
            "Whole foregrounds stand on what depth shows as floor, as high as persons there. Where "
            "a background has no floor their places are random: they may float, or be of a wrong size."
        )
    pasted = (
        f"Every foreground is {_heights_in_words(spec)} pixels high, whole, in front of everything, and one "
        "a sample; it is neither rotated nor hidden in part."
    )
    if spec.is_scene:
        turned = f"turned by up to {spec.rotation:g} degrees" if spec.rotation else "not rotated"
        exception, hiding = "", "Other objects"
        if spec.occlude:
            exception = ", except for what its depth shows before those who stand"
            hiding = "That, other objects"
        pasted = (
            f"Objects are {_heights_in_words(spec)} pixels high and {turned}, and in front of all of the "
            f"background{exception}. {hiding} or the border may hide a part of them."
        )
    return [
        f"Samples are composites: a foreground {shadow} and no reflection, touches nothing, and {light}.",
        places,
        pasted,
        "The mask is that of the pasted foreground. Objects of the same kind that the background already "
        "showed are not in it.",
        f"Of {counted(summary.samples, 'sample')} many share one of "
        f"{counted(summary.backgrounds, 'background')} and {counted(summary.foregrounds, 'foreground')}, and "
        "are much alike. Split by background, by foreground, or by both.",
        *_limits_of_depth(summary),
    ]


def _limits_of_depth(summary: DatasetSummary) -> list[str]:
    depth, attributes = summary.document.depth, summary.depth_attributes
    if depth is None or attributes is None:
        return ["There is no depth."]
    found = ["Depth was estimated by a neural network. It was not measured, and has the network's errors."]
    if isinstance(depth, ImportedDepthInfo):
        found = ["Depth was imported: what made it is not recorded."]
    if isinstance(depth, NetworkDepthInfo) and depth.model is None:
        found = ["Depth of the backgrounds was read from files: how exact it is, is not recorded."]
    if depth.mode == "layered":
        found.append(
            "Depth is in layers: that of the background is known once, and every foreground is a flat "
            "plane before it, as far away as a person of its height would be."
        )
    if depth.mode == "guided":
        found.append(
            "Depth is guided: that of the background is known once, and a second network places the "
            "foreground in it. It estimates the distance of the foreground from its position."
        )
    if attributes.get("quantity") is None:
        found.append("Whether depth grows or falls with distance, and its unit, are not known.")
    elif not attributes.get("unit"):
        found.append(
            "Depth is relative: its scale and shift differ from picture to picture, so compare it within a "
            "picture, or fit both before you compare."
        )
    return found


def privacy() -> str:
    """What is known of people in the pictures."""
    return (
        "fgbgpack does not analyse what pictures show: they may show recognisable people, and whether these "
        "agreed is not recorded."
    )


def how_pixels_were_made(summary: DatasetSummary) -> list[str]:
    """How images and masks were made, one sentence for each step."""
    spec, imported = summary.document.spec, summary.document.imported
    if imported is not None:
        return _steps_of_import(summary, imported)
    if spec is None:
        return []
    cut = "cut to the aspect of the samples around their centre, and " if spec.fit == "crop" else ""
    if spec.is_scene:
        return [
            f"Backgrounds were {cut}resized to {summary.size} pixels with a Lanczos filter.",
            "Foregrounds were resized with a Lanczos filter in premultiplied alpha, to the largest height of "
            f"{_heights_in_words(spec)} pixels that fits, and from there to eight heights an octave with a "
            "cubic filter in whole numbers.",
            f"Samples have {_objects_in_words(spec)}, drawn far to near, placed {spec.placement}, with edges "
            f"that are {' or '.join(spec.scene.blends)}. All of it depends on the seed, the sample and the "
            "pictures alone (Philox4x32-10).",
            "A pixel is (v + (v >> 8)) >> 8 with v = a * object + (255 - a) * below + 128, where a is the "
            "object's alpha, one object after the other. The mask is the same of white on black, and an "
            "instance is the number of the object on top whose alpha is above 127.",
        ]
    return [
        f"Backgrounds were {cut}resized to {summary.size} pixels with a Lanczos filter.",
        f"Foregrounds were resized to a height of {_heights_in_words(spec)} pixels with a Lanczos filter "
        "in premultiplied alpha; their aspect was kept.",
        f"Every foreground was pasted on every background, {placements_per_pair(summary)}, uniformly over "
        "all places where it is whole. The place depends on the seed and the two pictures alone "
        "(Philox4x32-10).",
        "A pixel is (v + (v >> 8)) >> 8 with v = a * foreground + (255 - a) * background + 128, where a is "
        "the foreground's alpha. The mask is that alpha.",
    ]


def how_depth_was_made(summary: DatasetSummary) -> list[str]:
    """How depth was made, in sentences; none where there is no depth."""
    depth, attributes = summary.document.depth, summary.depth_attributes
    if depth is None or attributes is None:
        return []
    if isinstance(depth, ImportedDepthInfo):
        factor = f", multiplied by {depth.factor:g}" if depth.factor != 1 else ""
        offset = f", {depth.offset:+g}" if depth.offset else ""
        return [f"Depth was read from files{factor}{offset}."]
    size = "at the size of the samples"
    if depth.scale != 1:
        size = f"at {depth.scale} times the size of the samples"
    if summary.document.spec is None:
        steps = [f"The network {depth.model_name} saw every sample as it is stored."]
    elif depth.mode == "layered":
        steps = [
            f"{_of_backgrounds(depth, size)} Every foreground is a plane before that depth, blended with its "
            "alpha. It is as far away as the floor is where a person of 1.7 m looks as high (0.7 m of one if "
            "it is cut off below), or nearer, to be before what it hides."
        ]
    elif depth.guide is None:
        steps = [f"The network {depth.model_name} saw every sample, rendered {size}."]
    else:
        steps = [
            f"{_of_backgrounds(depth, size)} The network {depth.guide_name} then saw every sample with its "
            "mask and the depth of its background."
        ]
    ran = [card for card in (depth.model, depth.guide) if card is not None]
    if ran:
        subject = "It" if len(ran) == 1 else "They"
        steps.append(f"{subject} ran in {depth.precision} on {_devices(depth)}.")
    rounding = attributes.get("rounding")
    if rounding:
        error = rounding.get("largest_error")
        at_most = f", at most {error:.2%} of its range off" if error is not None else ""
        steps.append(f"Depth is rounded to multiples of {rounding['step']:g}{at_most}.")
    return steps


def _of_backgrounds(depth: NetworkDepthInfo, size: str) -> str:
    """Where depth of the backgrounds comes from, in a sentence."""
    if depth.model is None:
        return "Depth of the backgrounds was read from files, in metres."
    return f"The network {depth.model_name} saw every background once, rendered {size}."


def _devices(depth: NetworkDepthInfo) -> str:
    """What ran the networks, in one phrase."""
    used = (*depth.devices, *(() if depth.guide is None else depth.guide.devices))
    names = (
        f"{device.hardware or 'a processor of unknown name'} ({device.provider} of ONNX Runtime "
        f"{device.onnxruntime})"
        for device in used
    )
    return " and ".join(dict.fromkeys(names))


#: Fields of a spec that a command names in any case, or by other options.
_ALWAYS_NAMED = {
    *("backgrounds", "foregrounds", "masks", "width", "height", "fit", "foreground_height", "placements"),
    *("flip", "placement", "seed", "chunk", "depth", "background_depth"),
}


def _changed_options(spec: DatasetSpec) -> dict[str, object]:
    """The other options that are not as they are by default."""
    found: dict[str, object] = {}
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if field.name in _ALWAYS_NAMED or value == field.default:
            continue
        name = field.name.replace("_", "-")
        if isinstance(value, bool):
            found[f"--{name}" if value else f"--no-{name}"] = ""
        else:
            found[f"--{name}"] = value
    return found


def command(summary: DatasetSummary) -> str | None:
    """The command that makes the same samples of the same pictures; ``None`` for an imported dataset."""
    spec = summary.document.spec
    if spec is None:
        return None
    options: dict[str, object] = {
        f"--{kind.replace('_', '-')}": PurePath(folder).name or kind
        for kind in ("backgrounds", "foregrounds", "masks", "background_depth")
        if (folder := getattr(spec, kind)) is not None
    }
    options |= {
        "--size": summary.size,
        "--fit": spec.fit,
        "--foreground-height": spec.foreground_height,
        "--placements": spec.placements,
        "--flip" if spec.flip else "--no-flip": "",
        "--placement": spec.placement,
        **_changed_options(spec),
        "--seed": spec.seed,
        "--chunk": spec.chunk,
    }
    if spec.depth is None or summary.document.depth is None:
        options["--depth-model"] = "none"
    else:
        options |= {
            "--depth-model": PurePath(spec.depth.model).name,
            "--depth-mode": spec.depth.mode,
            "--depth-guide": None if spec.depth.guide is None else PurePath(spec.depth.guide).name,
            "--depth-scale": spec.depth.scale,
            "--depth-bits": spec.depth.bits,
            "--precision": spec.depth.precision,
        }
    if summary.document.is_virtual:
        options["--virtual"] = ""
    given = {option: str(value) for option, value in options.items() if value is not None}
    arguments = [text for pair in given.items() for text in pair if text]
    return shlex.join(["fgbgpack", "create", summary.name, *arguments])


def _steps_of_import(summary: DatasetSummary, imported: ImportInfo) -> list[str]:
    patterns, told = imported.patterns, imported.patterns.get("instances")
    place = patterns["images"] or "a folder"
    masks = f" and masks from {patterns['masks']}" if patterns["masks"] else ", without masks"
    if told:
        masks = f"{masks if patterns['masks'] else ''}, and their objects from {told}"
    kind = "Composites" if imported.layout == "files" else "Pictures"
    steps = [f"{kind} were read from {place}{masks}: {imported.files:,} files in all."]
    if imported.fit:
        instances = ", instances to the nearest pixel" if told else ""
        steps.append(f"Pictures of another size were fitted to {summary.size} ({imported.fit}){instances}.")
    if names := [name for name in summary.document.categories if name]:
        many = counted(len(names), "category", "categories")
        steps.append(f"Objects are of {many}: {listed(names, _SHOWN)}.")
    return steps
