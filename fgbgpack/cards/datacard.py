"""``DATACARD.md``: a dataset described for people, with the front matter that the Hugging Face Hub reads."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath

from fgbgpack.cards import sentences
from fgbgpack.cards.about import About
from fgbgpack.cards.croissant import keywords
from fgbgpack.cards.licences import address_of, findings, terms_of
from fgbgpack.cards.summary import DatasetSummary
from fgbgpack.source_info import PictureCredit, SourcesInfo
from fgbgpack.sources.names import counted

#: Length of the list of pictures; croissant.json has all of them.
_MAX_PICTURES = 500

#: The licences of pictures and datasets that the Hub knows by name, and those of other names than in SPDX.
_HUB_LICENCES = {
    *("apache-2.0", "mit", "isc", "unlicense", "bsd-2-clause", "bsd-3-clause", "odbl", "odc-by", "pddl"),
    *("cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0", "etalab-2.0", "gpl-3.0", "agpl-3.0"),
    *("cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"),
    *("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"),
    *("cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
}
#: Plain words that are no texts in YAML.
_YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
_HUB_NAMES = {"pddl-1.0": "pddl", "odbl-1.0": "odbl", "odc-by-1.0": "odc-by"}
_SIZES = (
    *((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")),
    *((10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B")),
)


def datacard(summary: DatasetSummary, about: About, *, croissant: str, picture: str | None = None) -> str:
    """The text of the card, in Markdown.

    ``croissant`` and ``picture`` are the names of the Croissant file and of a picture of samples beside it.
    """
    title = about.name or PurePath(summary.name).stem
    sections = [
        _front_matter(summary, about, title, summary.samples),
        f"# {_text(title)}",
        _text(about.description or sentences.description(summary)),
        *([f"![Samples of {_text(summary.name)}]({picture})"] if picture else []),
        _overview(summary, about),
        *_how_to_open(summary, croissant),
        *_arrays(summary),
        *_splits(summary),
        *_statistics(summary),
        *_how_it_was_made(summary),
        *_depth_to_citation(summary, about, croissant),
    ]
    return "\n\n".join(sections) + "\n"


def exported_card(
    summary: DatasetSummary,
    about: About,
    *,
    samples: int,
    data_files: Mapping[str, str],
    columns: Iterable[tuple[str, str, str]],
) -> str:
    """The card of tables that samples were exported to, as the ``README.md`` of a Hugging Face repository.

    ``data_files`` has the pattern of the files of each split, ``columns`` the name, type and meaning of each
    column.
    """
    title = about.name or "Samples of an fgbgpack dataset"
    recipe = summary.document.recipe
    here = f"{samples:,} of {summary.samples:,}"
    sections = [
        _front_matter(summary, about, title, samples, data_files),
        f"# {_text(title)}",
        _text(about.description or sentences.description(summary)),
        _table(("", ""), [("Samples here", here), *_categories(summary), *_stated(about)]),
        "## How to open it",
        _python('from datasets import load_dataset\n\nsplits = load_dataset("PATH-OR-REPOSITORY")'),
        "## Columns",
        _table(("column", "type", "what"), [(f"`{name}`", kind, what) for name, kind, what in columns]),
        "## How it was made",
        _bullets(sentences.how_pixels_were_made(summary)),
        *([f"The digest of its recipe is `{recipe.sha256}`."] if recipe is not None else []),
        *_depth_to_citation(summary, about, None),
    ]
    return "\n\n".join(sections) + "\n"


def _depth_to_citation(summary: DatasetSummary, about: About, croissant: str | None) -> list[str]:
    """The last sections of both cards."""
    return [
        *_depth(summary),
        *_licences(summary, about, croissant),
        "## Limits",
        _bullets([*sentences.limits(summary), sentences.privacy()]),
        *(["## Citation", _fenced(about.citation)] if about.citation else []),
    ]


def _front_matter(
    summary: DatasetSummary,
    about: About,
    name: str,
    samples: int,
    data_files: Mapping[str, str] | None = None,
) -> str:
    has_depth = summary.document.depth is not None
    fields: dict[str, bool | str | list[str]] = {
        "pretty_name": name,
        **_hub_licence(about.license),
        "task_categories": ["image-segmentation", *(["depth-estimation"] if has_depth else [])],
        "size_categories": [next(size for end, size in _SIZES if samples < end)],
        "annotations_creators": ["machine-generated" if summary.document.has_recipe else "other"],
        "tags": [keyword.lower().replace(" ", "-") for keyword in keywords(summary, data_files is None)],
    }
    if data_files is None:
        # The Hub's viewer shows tables and files of pictures, no arrays.
        fields["viewer"] = False
    lines = [
        "\n  - ".join([f"{name}:", *map(_yaml, value)])
        if isinstance(value, list)
        else f"{name}: {_yaml(value)}"
        for name, value in fields.items()
    ]
    if data_files is not None:
        lines += ["configs:", "  - config_name: default", "    data_files:"]
        for split, pattern in data_files.items():
            lines += [f"      - split: {_yaml(split)}", f"        path: {_yaml(pattern)}"]
    return "\n".join(["---", *lines, "---"])


def _hub_licence(licence: str | None) -> dict[str, str]:
    if licence is None:
        return {"license": "unknown"}
    name = (terms_of(licence).spdx or licence).lower()
    name = _HUB_NAMES.get(name, name)
    if name in _HUB_LICENCES:
        return {"license": name}
    address = address_of(licence)
    link = {"license_link": address} if address.startswith("http") else {}
    # The Hub takes names such as my-license-1.0; the text of the card has the licence as it is stated.
    words = re.findall(r"[a-z0-9.]+", licence.removeprefix("https://").removeprefix("http://").lower())
    return {"license": "other", "license_name": "-".join(words) or "custom", **link}


def _yaml(value: bool | str) -> str:
    """A value as YAML: a text is bare where that is plain, else as in JSON, which is valid YAML."""
    if isinstance(value, bool):
        return json.dumps(value)
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9<>.-]*", value) and value.lower() not in _YAML_WORDS:
        return value
    # What YAML takes for no printable characters, or for ends of lines.
    quoted = json.dumps(value, ensure_ascii=False)
    return re.sub(
        "[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", lambda found: f"\\u{ord(found[0]):04x}", quoted
    )


def _overview(summary: DatasetSummary, about: About) -> str:
    rows = [("Samples", f"{summary.samples:,}, each {summary.size} pixels")]
    if summary.document.has_recipe:
        pairs = f"{counted(summary.backgrounds, 'background')} x {counted(summary.foregrounds, 'foreground')}"
        rows.append(("Made of", f"{pairs}, {sentences.placements_per_pair(summary)}"))
    return _table(("", ""), [*rows, *_categories(summary), ("Form", _form(summary)), *_stated(about)])


def _categories(summary: DatasetSummary) -> list[tuple[str, str]]:
    """The categories by their numbers, and how many foregrounds are of each."""
    sources = summary.document.sources
    if sources is None or not any(sources.categories):
        return []
    counts = Counter(source.category for source in sources.foregrounds)
    named = [
        f"{number} {_text(name) or '(without a name)'} ({counted(counts[name], 'foreground')})"
        for number, name in enumerate(sources.categories)
    ]
    return [("Categories", ", ".join(named))]


def _stated(about: About) -> list[tuple[str, str]]:
    stated = {
        "Made by": ", ".join([*about.creators, *about.organizations]),
        "Licence": about.license,
        "Version": about.version,
        "Published": about.published,
        "Page": about.url,
    }
    return [(name, _text(value)) for name, value in stated.items() if value]


def _form(summary: DatasetSummary) -> str:
    form = "a Zarr v3 store" if summary.form == "zarr" else "an HDF5 file"
    if summary.total is None:
        return form
    files = f" in {counted(summary.files, 'file')}" if summary.form == "zarr" and summary.files else ""
    each = f"{summary.total / summary.samples:,.0f} bytes a sample"
    virtual = "; images and masks are made when they are read" if summary.document.is_virtual else ""
    return f"{form} of {_bytes(summary.total)}{files}, {each}{virtual}"


def _how_to_open(summary: DatasetSummary, croissant: str) -> list[str]:
    name = json.dumps(summary.target, ensure_ascii=False)
    fields = "batch.image, batch.mask" + (", batch.depth" if summary.document.depth is not None else "")
    slices = 'images = group["image"][0:8]\nmasks = group["mask"][0:8]'
    if summary.form == "hdf5":
        title = "With h5py; hdf5plugin brings the filters (a file made with `--portable` does not need it):"
        code = (
            f"import h5py\nimport hdf5plugin\n\nwith h5py.File({name}) as file:\n"
            '    images = file["image"][0:8]\n    masks = file["mask"][0:8]'
        )
    elif summary.document.is_virtual:
        title = "With zarr-python; images and masks are made when they are read:"
        code = (
            f'import fgbgpack\nimport zarr\n\ngroup = zarr.open_group(fgbgpack.store({name}), mode="r")\n'
            f"{slices}"
        )
    else:
        title = "With zarr-python or xarray, or any other reader of Zarr v3:"
        code = (
            f'import xarray\nimport zarr\n\ngroup = zarr.open_group({name}, mode="r")\n{slices}\n'
            f"frame = xarray.open_zarr({name})"
        )
    return [
        "## How to open it",
        "With fgbgpack, as NumPy arrays:",
        _python(
            f"import fgbgpack\n\nds = fgbgpack.open_dataset({name})\nprint(ds)\nbatch = ds[0:8]  # {fields}\n"
            "print(batch.image.shape, batch.mask.shape)\n"
            "for batch in ds.batches(64, shuffle=True):\n    break"
        ),
        "In PyTorch:",
        _python(
            "from fgbgpack.torch import make_loader\n\n"
            f"loader = make_loader({name}, batch_size=64, seed=1)\nbatch = next(iter(loader))\n"
            'image = batch["image"].float() / 255  # (batch, 3, height, width)'
        ),
        title,
        _python(code),
        f"`{croissant}` describes the dataset to tools that know [Croissant](https://mlcommons.org/croissant).",
    ]


def _arrays(summary: DatasetSummary) -> list[str]:
    rows = [
        (
            f"`{array.path}`",
            array.dtype,
            f"({', '.join(f'{length:,}' for length in array.shape)}{',' * (len(array.shape) == 1)})",
            "made when read" if array.virtual else "" if array.stored is None else _bytes(array.stored),
            array.meaning,
        )
        for array in summary.arrays
    ]
    return ["## Arrays", _table(("array", "type", "shape", "on disk", "what"), rows)]


def _splits(summary: DatasetSummary) -> list[str]:
    if not summary.parts:
        return []
    rows = [
        (f"`{_code(p.split)}`", f"`{_code(p.part)}`", f"{p.samples:,}", f"{p.fraction:g}", p.by, str(p.seed))
        for p in summary.parts
    ]
    first = summary.parts[0]
    return [
        "## Splits",
        "The dataset records how these are computed. A split by background, foreground or both keeps each of "
        "these in one part.",
        _table(("split", "part", "samples", "fraction", "by", "seed"), rows),
        _python(
            f"import fgbgpack\n\nparts = fgbgpack.open_dataset({json.dumps(summary.target)})"
            f".split({json.dumps(first.split, ensure_ascii=False)})\n"
            f"samples = parts[{json.dumps(first.part, ensure_ascii=False)}]"
        ),
    ]


def _statistics(summary: DatasetSummary) -> list[str]:
    if (stats := summary.stats) is None:
        return []
    rows = [
        (
            "all" if name is None else f"`{_code(name)}`",
            f"{part.samples:,}",
            *(", ".join(f"{one:.4f}" for one in values) for values in (part.image.mean, part.image.std)),
            f"{part.mask.share:.2%}",
            "none" if part.depth is None else f"{part.depth.least:.4g} to {part.depth.greatest:.4g}",
        )
        for name, part in ((None, stats.whole), *stats.parts.items())
    ]
    title = f"part of {stats.split['name']}" if stats.split else ""
    header = (_text(title), "samples", "mean of R, G, B", "standard deviation", "foreground", "depth")
    return [
        "## Statistics",
        "Of all pixels, exactly; in images white is 1, and foreground is where masks are above 127.",
        _table(header, rows),
    ]


def _how_it_was_made(summary: DatasetSummary) -> list[str]:
    parts = ["## How it was made", _bullets(sentences.how_pixels_were_made(summary))]
    command, recipe = sentences.command(summary), summary.document.recipe
    if command is not None and recipe is not None:
        parts += [
            "With the pictures and the versions listed below, this makes the same images and masks again, to "
            f"the last bit (replace the folders by yours):\n\n```sh\n{command}\n```",
            f"The digest of its recipe is `{recipe.sha256}`: datasets of this digest have the same pixels.",
        ]
    else:
        parts.append("How the samples were made before they were imported is not recorded in the dataset.")
    versions = ", ".join(f"{name} {version}" for name, version in summary.document.software.items())
    return [*parts, f"Written by {versions}."]


def _depth(summary: DatasetSummary) -> list[str]:
    if summary.document.depth is None:
        return []
    meaning = next(array.meaning for array in summary.arrays if array.path == "depth")
    parts = [
        "## Depth",
        f"`depth` holds {meaning}.",
        _bullets(sentences.how_depth_was_made(summary)),
    ]
    cards = summary.network_cards
    if cards:
        defaults = {"licence": "not stated", "made_by": "not stated", "source": ""}
        rows = [
            [_text(card.get("title") or card["name"])]
            + [_text(card.get(field) or default) for field, default in defaults.items()]
            for card in cards
        ]
        parts.append(_table(("network", "licence of its weights", "made by", "from"), rows))
        restricted = [card["name"] for card in cards if not terms_of(card.get("licence") or "").commercial]
        if restricted:
            parts.append(f"Not for commercial use: the weights of {', '.join(restricted)}.")
    return parts


def _licences(summary: DatasetSummary, about: About, croissant: str | None) -> list[str]:
    whole = "No licence is stated for the dataset as a whole."
    if about.license:
        whole = f"The dataset as a whole is under: {_text(about.license)}."
    sources = summary.document.sources
    if sources is None and summary.credits is None:
        return ["## Licences", whole, "Licences and authors of the imported pictures are not recorded."]
    kinds = ("pictures",) if sources is None else ("backgrounds", "foregrounds")
    rows = [
        (
            "**none stated**" if group.terms is None else _text(group.terms.name),
            *(f"{getattr(group, kind):,}" for kind in kinds),
        )
        for group in summary.licences
    ]
    holds = "the imported pictures" if sources is None else "the resized pictures and composites of them"
    return [
        "## Licences",
        whole,
        f"The dataset contains {holds}. What is stated of these:",
        _bullets(_text(line) for line in findings(summary.licences)),
        _table(("licence", *kinds), rows),
        _imported_pictures(summary.credits or ()) if sources is None else _pictures(sources, croissant),
    ]


def _imported_pictures(credits: Sequence[tuple[str, PictureCredit]]) -> str:
    rows = [
        (f"`{_code(name)}`", *(_text(text or "") for text in (one.license, one.author, one.url)))
        for name, one in credits[:_MAX_PICTURES]
    ]
    where = "all of which are in the arrays of /sources"
    return _folded(("picture", "licence", "author", "from"), rows, len(credits), where)


def _pictures(sources: SourcesInfo, croissant: str | None) -> str:
    has_categories = any(sources.categories)
    rows = [
        (
            f"{kind} {index}",
            f"`{_code(source.name)}`",
            *([_text(source.category if kind == "foreground" else "")] if has_categories else []),
            *(_text(credit or "") for credit in (source.license, source.author, source.url)),
        )
        for kind, pictures in (("background", sources.backgrounds), ("foreground", sources.foregrounds))
        for index, source in enumerate(pictures)
    ]
    where = f"all of which are in `{croissant}`" if croissant else ""
    header = ("picture", "file", *(["category"] if has_categories else []), "licence", "author", "from")
    return _folded(header, rows[:_MAX_PICTURES], len(rows), where)


def _folded(header: Sequence[str], rows: Sequence[Sequence[str]], total: int, where: str) -> str:
    """A table of the first of so many pictures, which a reader unfolds, and where all of them are."""
    rest = f"\n\n... and {total - len(rows):,} more{where and ', '}{where}." if total > len(rows) else ""
    table = _table(header, rows)
    return f"<details>\n<summary>All {counted(total, 'picture')}</summary>\n\n{table}{rest}\n\n</details>"


def _python(code: str) -> str:
    return f"```python\n{code}\n```"


def _fenced(text: str) -> str:
    """A block of text, whatever backticks it has."""
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text.strip()}\n{fence}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _text(text: str) -> str:
    """A text as one line of Markdown, escaped; an address stays a link."""
    line = " ".join(text.split())
    if re.fullmatch(r"https?://[^\s<>|]+", line):
        return f"<{line}>"
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", line)


def _code(text: str) -> str:
    """A text that can stand between backticks in a table."""
    return re.sub(r"[\x00-\x1f\x7f]", "?", text).replace("`", "'").replace("|", "\\|")


def _bytes(count: int) -> str:
    """A number of bytes for people, in powers of ten."""
    size = float(count)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"
