"""What is true of every dataset of a kind, in sentences that both cards use."""

from __future__ import annotations

import shlex
from pathlib import PurePath

from fgbgpack.cards.summary import Facts


def description(facts: Facts) -> str:
    """What the dataset is, in two sentences."""
    parts = "images and masks" if facts.depth is None else "images, masks and depth maps"
    size = f"{facts.width}x{facts.height} pixels"
    if facts.spec is None:
        return (
            f"{facts.samples:,} samples of {size}: {parts}, imported from files. "
            f"Put together by {facts.made_by}."
        )
    pasted = f"{facts.foregrounds:,} foregrounds pasted on {facts.backgrounds:,} backgrounds"
    return (
        f"{facts.samples:,} synthetic samples of {size}: {parts}. They are {pasted} at random places, "
        f"{placed(facts)}. Made by {facts.made_by}."
    )


def placed(facts: Facts) -> str:
    """How often each foreground is pasted on each background."""
    if facts.spec is None:
        return ""
    count = facts.spec["placements"]
    times = "once" if count == 1 else f"{count:,} times"
    again = "once mirrored" if count == 1 else f"{count:,} times mirrored"
    return f"each pair {times}" + (f" and {again}" if facts.spec["flip"] else "")


def limits(facts: Facts) -> list[str]:
    """What the dataset cannot be relied on for."""
    found = [*_limits_of_composites(facts), *_limits_of_depth(facts)]
    if facts.spec is None:
        found.append("It was imported: how its samples were made, and of what, is not recorded in it.")
    return found


def _limits_of_composites(facts: Facts) -> list[str]:
    if facts.spec is None:
        return []
    height = facts.spec["foreground_height"]
    return [
        "Samples are composites: a foreground casts no shadow and no reflection, touches nothing, and its "
        "light and colours are not fitted to the background.",
        "Places are random: a foreground may float, or be of a size that the scene does not allow.",
        f"Every foreground is {height:,} pixels high, whole, in front of everything, and one a sample; it is "
        "neither rotated nor hidden in part.",
        "The mask is that of the pasted foreground. Objects of the same kind that were in the background "
        "before are not in it.",
        f"There are {facts.samples:,} samples but {facts.backgrounds:,} backgrounds and "
        f"{facts.foregrounds:,} foregrounds: samples that share one are much alike. Split by background, "
        "by foreground, or by both.",
    ]


def _limits_of_depth(facts: Facts) -> list[str]:
    if facts.depth is None or facts.depth_attributes is None:
        return ["There is no depth."]
    if facts.depth["mode"] == "imported":
        found = ["Depth was imported: what made it is not recorded."]
    else:
        found = [
            "Depth is what a neural network says. It was not measured, and is wrong where the network is."
        ]
    if facts.depth["mode"] == "guided":
        found.append(
            "Depth is guided: that of the background was inferred once, and a second network places the "
            "foreground in it. How near the foreground is, is a guess from where it stands."
        )
    if facts.depth_attributes.get("quantity") is None:
        found.append("Whether depth grows or falls with distance, and its unit, are not known.")
    elif not facts.depth_attributes.get("unit"):
        found.append(
            "Depth is relative: its scale and shift differ from picture to picture, so compare it within a "
            "picture, or fit both before you compare."
        )
    return found


def privacy() -> str:
    """What is known of people in the pictures."""
    return (
        "fgbgpack does not look at what pictures show: they may show people who can be recognised. Whether "
        "these agreed is not recorded."
    )


def how_pixels_were_made(facts: Facts) -> list[str]:
    """How images and masks came to be, a step a sentence."""
    spec = facts.spec
    if spec is None:
        imported = facts.document["imported"]
        patterns = imported["patterns"]
        return [
            f"Composites were read from {patterns['images']} and masks from {patterns['masks']}: "
            f"{imported['files']:,} files in all.",
            *(
                [f"Pictures of another size were fitted to {facts.width}x{facts.height} ({imported['fit']})."]
                if imported["fit"]
                else []
            ),
        ]
    cut = "cut to the aspect of the samples around their centre, and " if spec["fit"] == "crop" else ""
    return [
        f"Backgrounds were {cut}resized to {facts.width}x{facts.height} pixels with a Lanczos filter.",
        f"Foregrounds were resized to a height of {spec['foreground_height']:,} pixels with a Lanczos filter "
        "in premultiplied alpha; their aspect was kept.",
        f"Every foreground was pasted on every background, {placed(facts)}, uniformly over all places where "
        "it is whole. The place depends on the seed and the two pictures alone (Philox4x32-10).",
        "A pixel is (v + (v >> 8)) >> 8 with v = a * foreground + (255 - a) * background + 128, where a is "
        "the foreground's alpha. The mask is that alpha.",
    ]


def how_depth_was_made(facts: Facts) -> list[str]:
    """How depth came to be, in sentences; none where there is no depth."""
    depth, attributes = facts.depth, facts.depth_attributes
    if depth is None or attributes is None:
        return []
    if depth["mode"] == "imported":
        factor = f", multiplied by {depth['factor']:g}" if depth["factor"] != 1 else ""
        offset = f", {depth['offset']:+g}" if depth["offset"] else ""
        return [f"Depth was read from files{factor}{offset}."]
    model = depth["model"]["name"]
    scale = depth["scale"]
    size = "at the size of the samples" if scale == 1 else f"at {scale} times the size of the samples"
    if facts.spec is None:
        said = [f"The network {model} saw every sample as it is stored."]
    elif depth["guide"] is None:
        said = [f"The network {model} saw every sample, drawn {size}."]
    else:
        said = [
            f"The network {model} saw every background once, drawn {size}. The network "
            f"{depth['guide']['model']['name']} then saw every sample with its mask and the depth of its "
            "background."
        ]
    ran = "It" if depth["guide"] is None else "They"
    said.append(
        f"{ran} ran on ONNX Runtime {depth['onnxruntime']} ({depth['provider']}) in {depth['precision']}."
    )
    rounding = attributes.get("rounding")
    if rounding:
        error = rounding.get("largest_error")
        at_most = f", at most {error:.2%} of its range off" if error is not None else ""
        said.append(f"Depth is rounded to multiples of {rounding['step']:g}{at_most}.")
    return said


def command(facts: Facts) -> str | None:
    """The command that makes the same samples of the same pictures again; None for an imported dataset."""
    spec = facts.spec
    if spec is None:
        return None
    words = ["fgbgpack", "create", facts.name]
    for option in ("backgrounds", "foregrounds", "masks"):
        if spec[option] is not None:
            words += [f"--{option}", PurePath(spec[option]).name or option]
    words += ["--size", f"{spec['width']}x{spec['height']}", "--fit", spec["fit"]]
    words += ["--foreground-height", str(spec["foreground_height"])]
    words += ["--placements", str(spec["placements"]), "--flip" if spec["flip"] else "--no-flip"]
    words += ["--placement", spec["placement"], "--seed", str(spec["seed"])]
    if spec["chunk"] is not None:
        words += ["--chunk", str(spec["chunk"])]
    words += _depth_options(facts)
    if facts.virtual:
        words.append("--virtual")
    return shlex.join(words)


def _depth_options(facts: Facts) -> list[str]:
    asked = facts.spec["depth"] if facts.spec and facts.depth is not None else None
    if asked is None:
        return ["--depth-model", "none"]
    given = {
        "--depth-model": PurePath(asked["model"]).name,
        "--depth-mode": asked["mode"],
        "--depth-guide": None if asked["guide"] is None else PurePath(asked["guide"]).name,
        "--depth-scale": asked["scale"],
        "--depth-bits": asked["bits"],
        "--precision": asked["precision"],
    }
    return [text for option, value in given.items() if value is not None for text in (option, str(value))]
