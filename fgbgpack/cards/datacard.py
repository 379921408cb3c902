"""``DATACARD.md``: a dataset told to people, with the front matter that the Hugging Face Hub reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

from fgbgpack.cards import sentences as words
from fgbgpack.cards.about import About
from fgbgpack.cards.croissant import keywords
from fgbgpack.cards.licences import LicenceGroup, address_of, findings, terms_of
from fgbgpack.cards.summary import Facts
from fgbgpack.version import describe_software

#: The list of pictures ends here; croissant.json has all of them.
_MOST_PICTURES = 500

#: The licences that the Hub knows by name, of those that pictures and datasets have.
_HUB_LICENCES = {
    *("apache-2.0", "mit", "isc", "unlicense", "0bsd", "bsd-2-clause", "bsd-3-clause", "odbl", "pddl"),
    *("cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"),
    *("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"),
    *("cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
}
_SIZES = (
    *((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")),
    *((10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B")),
)


def datacard(facts: Facts, about: About, *, croissant: str, picture: str | None = None) -> str:
    """The text of the card, in Markdown.

    Args:
        facts: What there is to tell of the dataset.
        about: What a person says of it.
        croissant: The name of the Croissant file beside the card.
        picture: The name of a picture of samples beside the card; None if there is none.
    """
    sections = [
        _front_matter(facts, about),
        f"# {_text(about.name or PurePath(facts.name).stem)}",
        _text(about.description or words.description(facts)),
        *([f"![Samples of {_text(facts.name)}]({picture})"] if picture else []),
        _overview(facts, about),
        _how_to_open(facts, croissant),
        _arrays(facts),
        *([_splits(facts)] if facts.parts else []),
        _how_it_was_made(facts),
        *([_depth(facts)] if facts.depth is not None else []),
        _licences(facts, about, croissant),
        "## Limits\n\n" + _bullets([*words.limits(facts), words.privacy()]),
        *([_citation(about.citation)] if about.citation else []),
    ]
    return "\n\n".join(sections) + "\n"


# --- front matter ----------------------------------------------------------------------------------


def _front_matter(facts: Facts, about: About) -> str:
    tasks = ["image-segmentation", *(["depth-estimation"] if facts.depth is not None else [])]
    size = next((name for most, name in _SIZES if facts.samples < most), "n>1T")
    fields: dict[str, Any] = {
        "pretty_name": about.name or PurePath(facts.name).stem,
        **_hub_licence(about.license),
        "task_categories": tasks,
        "size_categories": [size],
        "annotations_creators": ["machine-generated" if facts.spec is not None else "other"],
        "tags": [word.lower().replace(" ", "-") for word in keywords(facts)],
    }
    lines = []
    for name, value in fields.items():
        if isinstance(value, list):
            lines += [f"{name}:", *(f"  - {_yaml(item)}" for item in value)]
        else:
            lines.append(f"{name}: {_yaml(value)}")
    return "\n".join(["---", *lines, "---"])


def _hub_licence(licence: str | None) -> dict[str, str]:
    if licence is None:
        return {"license": "unknown"}
    name = (terms_of(licence).spdx or licence).lower()
    if name in _HUB_LICENCES:
        return {"license": name}
    address = address_of(licence)
    link = {"license_link": address} if address.startswith("http") else {}
    return {"license": "other", "license_name": licence, **link}


def _yaml(text: str) -> str:
    """A text as YAML: bare where that is plain, else as JSON, which YAML holds."""
    return text if re.fullmatch(r"[A-Za-z][A-Za-z0-9<>.-]*", text) else json.dumps(text)


# --- sections --------------------------------------------------------------------------------------


def _overview(facts: Facts, about: About) -> str:
    rows = [("Samples", f"{facts.samples:,}, each {facts.width}x{facts.height} pixels")]
    if facts.spec is not None:
        pairs = f"{facts.backgrounds:,} backgrounds x {facts.foregrounds:,} foregrounds"
        rows.append(("Made of", f"{pairs}, {words.placed(facts)}"))
    rows.append(("Form", _form(facts)))
    made = [*about.creators, *about.organizations]
    rows += [
        (name, _text(value))
        for name, value in (
            ("Made by", ", ".join(made)),
            ("Licence", about.license),
            ("Version", about.version),
            ("Published", about.published),
            ("Page", about.url),
        )
        if value
    ]
    return _table(("", ""), rows)


def _form(facts: Facts) -> str:
    form = "a Zarr v3 store" if facts.form == "zarr" else "an HDF5 file"
    if facts.total is None:
        return form
    files = f" in {facts.files:,} files" if facts.form == "zarr" and facts.files else ""
    each = f"{facts.total / facts.samples:,.0f} bytes a sample"
    virtual = "; images and masks are made when they are read" if facts.virtual else ""
    return f"{form} of {_bytes(facts.total)}{files}, {each}{virtual}"


def _how_to_open(facts: Facts, croissant: str) -> str:
    name = json.dumps(facts.opened_as, ensure_ascii=False)
    fields = "batch.image, batch.mask" + (", batch.depth" if facts.depth is not None else "")
    code = [
        (
            "With fgbgpack, as NumPy arrays:",
            f"import fgbgpack\n\nds = fgbgpack.open_dataset({name})\nprint(ds)\nbatch = ds[0:8]  # {fields}\n"
            "print(batch.image.shape, batch.mask.shape)\n"
            "for batch in ds.batches(64, shuffle=True):\n    break",
        ),
        (
            "In PyTorch:",
            "from fgbgpack.torch import make_loader\n\n"
            f"loader = make_loader({name}, batch_size=64, seed=1)\nbatch = next(iter(loader))\n"
            'image = batch["image"].float() / 255  # (batch, 3, height, width)',
        ),
    ]
    if facts.form == "hdf5":
        code.append(
            (
                "With h5py; hdf5plugin brings the filters (a file made with `--portable` needs it not):",
                f"import h5py\nimport hdf5plugin\n\nwith h5py.File({name}) as file:\n"
                '    images = file["image"][0:8]\n'
                '    masks = file["mask"][0:8]',
            )
        )
    elif facts.virtual:
        code.append(
            (
                "With zarr-python; images and masks are made when they are read:",
                f'import fgbgpack\nimport zarr\n\ngroup = zarr.open_group(fgbgpack.store({name}), mode="r")\n'
                'images = group["image"][0:8]\nmasks = group["mask"][0:8]',
            )
        )
    else:
        code.append(
            (
                "With zarr-python or xarray, or any other reader of Zarr v3:",
                f'import xarray\nimport zarr\n\ngroup = zarr.open_group({name}, mode="r")\n'
                'images = group["image"][0:8]\nmasks = group["mask"][0:8]\n'
                f"frame = xarray.open_zarr({name})",
            )
        )
    blocks = [f"{said}\n\n```python\n{lines}\n```" for said, lines in code]
    return "\n\n".join(
        [
            "## How to open it",
            *blocks,
            f"`{croissant}` describes the dataset to tools that know [Croissant](https://mlcommons.org/croissant).",
        ]
    )


def _arrays(facts: Facts) -> str:
    rows = [
        (
            f"`{array.path}`",
            array.dtype,
            "("
            + ", ".join(f"{length:,}" for length in array.shape)
            + ("," if len(array.shape) == 1 else "")
            + ")",
            "made when read" if array.virtual else "" if array.stored is None else _bytes(array.stored),
            array.meaning,
        )
        for array in facts.arrays
    ]
    return "## Arrays\n\n" + _table(("array", "type", "shape", "on disk", "what"), rows)


def _splits(facts: Facts) -> str:
    rows = [
        (f"`{_code(p.split)}`", f"`{_code(p.part)}`", f"{p.samples:,}", f"{p.fraction:g}", p.by, str(p.seed))
        for p in facts.parts
    ]
    first = facts.parts[0]
    return "\n\n".join(
        [
            "## Splits",
            "These are saved in the dataset, as what they are computed from. A split by background, "
            "foreground or both keeps each of these in one part.",
            _table(("split", "part", "samples", "fraction", "by", "seed"), rows),
            f"```python\nimport fgbgpack\n\nparts = fgbgpack.open_dataset({json.dumps(facts.opened_as)})"
            f".split({json.dumps(first.split, ensure_ascii=False)})\n"
            f"samples = parts[{json.dumps(first.part, ensure_ascii=False)}]\n```",
        ]
    )


def _how_it_was_made(facts: Facts) -> str:
    parts = ["## How it was made", _bullets(words.how_pixels_were_made(facts))]
    versions = describe_software(facts.document["software"])
    command = words.command(facts)
    if command is not None:
        recipe = facts.document["recipe"]["sha256"]
        parts.append(
            "With the pictures and the versions listed below, this makes the same images and masks again, to "
            f"the last bit (write where your pictures are):\n\n```sh\n{command}\n```"
        )
        parts.append(f"The digest of its recipe is `{recipe}`: datasets of this digest have the same pixels.")
    else:
        parts.append("How the samples were made before they were imported is not recorded in the dataset.")
    return "\n\n".join([*parts, f"Written by {versions}."])


def _depth(facts: Facts) -> str:
    parts = ["## Depth"]
    meaning = next(array.meaning for array in facts.arrays if array.path == "depth")
    parts.append(f"Stored is {meaning}.")
    parts.append(_bullets(words.how_depth_was_made(facts)))
    if facts.networks:
        rows = [
            (
                _text(card.get("title") or card["name"]),
                _text(card.get("licence") or "not stated"),
                _text(card.get("made_by") or "not stated"),
                _text(card.get("source") or ""),
            )
            for card in facts.networks
        ]
        parts.append(_table(("network", "licence of its weights", "made by", "from"), rows))
        bound = [
            card["name"] for card in facts.networks if not terms_of(card.get("licence") or "").commercial
        ]
        if bound:
            parts.append(f"Not for commercial use: the weights of {', '.join(bound)}.")
    return "\n\n".join(parts)


def _licences(facts: Facts, about: About, croissant: str) -> str:
    parts = ["## Licences"]
    if about.license:
        parts.append(f"The dataset as a whole is under: {_text(about.license)}.")
    else:
        parts.append("No licence is stated for the dataset as a whole.")
    if facts.sources is None:
        parts.append(
            "Nothing is known of the pictures that it was imported from: neither licences nor authors."
        )
        return "\n\n".join(parts)
    parts.append("It holds the resized pictures themselves and composites of them. What is stated of these:")
    parts.append(_bullets(_text(line) for line in findings(facts.licences)))
    rows = [(_name(g), f"{g.backgrounds:,}", f"{g.foregrounds:,}") for g in facts.licences]
    parts.append(_table(("licence", "backgrounds", "foregrounds"), rows))
    parts.append(_pictures(facts, croissant))
    return "\n\n".join(parts)


def _name(group: LicenceGroup) -> str:
    return "**none stated**" if group.terms is None else _text(group.terms.name)


def _pictures(facts: Facts, croissant: str) -> str:
    sources = facts.sources or {}
    rows = [
        (
            f"{kind.removesuffix('s')} {index}",
            f"`{_code(source['name'])}`",
            _text(source.get("license", "")),
            _text(source.get("author", "")),
            _text(source.get("url", "")),
        )
        for kind in ("backgrounds", "foregrounds")
        for index, source in enumerate(sources[kind])
    ]
    shown = rows[:_MOST_PICTURES]
    more = len(rows) - len(shown)
    rest = f"\n\n... and {more:,} more, all of which are in `{croissant}`." if more else ""
    table = _table(("picture", "file", "licence", "author", "from"), shown)
    return f"<details>\n<summary>All {len(rows):,} pictures</summary>\n\n{table}{rest}\n\n</details>"


def _citation(citation: str) -> str:
    longest = max((len(ticks) for ticks in re.findall("`+", citation)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"## Citation\n\n{fence}\n{citation.strip()}\n{fence}"


# --- Markdown --------------------------------------------------------------------------------------


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _text(text: str) -> str:
    """A text that says in Markdown what it says, in one line; an address stays a link."""
    line = " ".join(text.split())
    if re.fullmatch(r"https?://[^\s<>|]+", line):
        return f"<{line}>"
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", line)


def _code(text: str) -> str:
    """A text that can stand between backticks in a table."""
    return re.sub(r"[\x00-\x1f\x7f]", "?", text).replace("`", "'").replace("|", "\\|")


def _bytes(count: int) -> str:
    """A number of bytes as people say it; powers of ten."""
    size = float(count)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"
