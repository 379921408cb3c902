"""The terms of the pictures' licences, recognised by name.

Composites are adaptations of two pictures, so what matters is whether adaptations may be redistributed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_CREATIVE_COMMONS = re.compile(r"CC-BY((?:-(?:NC|ND|SA))*)(?:-([1-4]\.[05]))?(?:-[A-Z]+)?")
_CC_ADDRESS = re.compile(r"https?://creativecommons\.org/(licenses|publicdomain)/([a-z-]+)(?:/([0-9.]+))?.*")
#: What follows the name of a licence whose address is stated, too.
_WITH_ADDRESS = re.compile(r"\s+\(https?://[^\s()]+\)$")
_SPDX_ADDRESS = re.compile(r"https?://spdx\.org/licenses/([A-Za-z0-9.+-]+?)(?:\.html|\.json)?/?")

#: Licences without conditions, by their normalised names, with their SPDX identifiers.
_FREE = {
    **{spdx.upper(): spdx for spdx in ("CC0-1.0", "PDM-1.0", "PDDL-1.0", "Unlicense", "0BSD")},
    "CC0": "CC0-1.0",
    "PUBLIC-DOMAIN": None,
}
#: Licences that require to name the authors.
_ATTRIBUTION = {spdx.upper(): spdx for spdx in ("MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC")}
_CLOSED = {"ALL-RIGHTS-RESERVED", "PROPRIETARY", "COPYRIGHT", "COPYRIGHTED"}


@dataclass(frozen=True)
class Terms:
    """The terms of a licence.

    Attributes:
        name: Its SPDX identifier where that is known, else its stated name.
        adaptations: Whether adaptations may be redistributed; ``None`` where that is not known.
        attribution: Whether the authors must be named.
        share_alike: Whether adaptations must be under the same licence.
    """

    name: str
    spdx: str | None = None
    adaptations: bool | None = None
    attribution: bool = False
    commercial: bool = True
    share_alike: bool = False


def terms_of(licence: str) -> Terms:
    """The terms of a licence, by its name or its address.

    Example:
        >>> terms_of("CC BY-NC 4.0").commercial, terms_of("https://spdx.org/licenses/MIT").name
        (False, 'MIT')
    """
    name = _normalised(licence)
    if match := _CREATIVE_COMMONS.fullmatch(name):
        marks = match[1].split("-")
        return Terms(
            name=name,
            spdx=name if match[2] else None,
            adaptations="ND" not in marks,
            attribution=True,
            commercial="NC" not in marks,
            share_alike="SA" in marks,
        )
    if name in _FREE:
        return Terms(_FREE[name] or licence, _FREE[name], adaptations=True)
    if name in _ATTRIBUTION:
        return Terms(_ATTRIBUTION[name], _ATTRIBUTION[name], adaptations=True, attribution=True)
    if name in _CLOSED:
        return Terms(licence, adaptations=False)
    return Terms(licence)


def address_of(licence: str) -> str:
    """The address of a licence where one is known; else the licence as stated."""
    if licence.startswith(("http://", "https://")):
        return licence
    spdx = terms_of(licence).spdx
    return f"https://spdx.org/licenses/{spdx}" if spdx else licence


def _normalised(licence: str) -> str:
    if match := _CC_ADDRESS.fullmatch(licence):
        kind = {"zero": "CC0", "mark": "PDM"}.get(match[2], f"CC-{match[2].upper()}")
        return f"{kind}-{match[3].rstrip('.')}" if match[3] else kind
    if match := _SPDX_ADDRESS.fullmatch(licence):
        licence = match[1]
    licence = _WITH_ADDRESS.sub("", licence)
    name = re.sub(r"[\s_/-]+", "-", licence.strip().upper().rstrip("."))
    name = re.sub(r"-(LICENCE|LICENSE)$", "", name)
    return re.sub(r"^CCBY|^CC-?-BY", "CC-BY", name)


@dataclass(frozen=True)
class LicenceGroup:
    """The number of pictures under one licence, of each kind; its terms are ``None`` where none is stated."""

    terms: Terms | None
    backgrounds: int = 0
    foregrounds: int = 0
    imported: int = 0

    @property
    def pictures(self) -> int:
        """Number of pictures."""
        return self.backgrounds + self.foregrounds + self.imported


def group_by_licence(
    backgrounds: Iterable[str | None] = (),
    foregrounds: Iterable[str | None] = (),
    imported: Iterable[str | None] = (),
) -> list[LicenceGroup]:
    """The licences of pictures of each kind, the most frequent first, pictures without one last."""
    counts = [Counter(kind) for kind in (backgrounds, foregrounds, imported)]
    terms = {text: None if text is None else terms_of(text) for count in counts for text in count}
    numbers: dict[Terms | None, list[int]] = {}
    for kind, count in enumerate(counts):
        for text, number in count.items():
            numbers.setdefault(terms[text], [0, 0, 0])[kind] += number
    groups = [LicenceGroup(one, *number) for one, number in numbers.items()]
    return sorted(groups, key=lambda g: (g.terms is None, -g.pictures, g.terms.name if g.terms else ""))


def findings(groups: Sequence[LicenceGroup]) -> list[str]:
    """What the licences of the pictures mean for redistributing the dataset, in plain sentences.

    The first says whether it may be redistributed at all, as far as that is stated.
    """
    stated = [(group.terms, group.pictures) for group in groups if group.terms is not None]
    total = sum(group.pictures for group in groups)
    unstated = total - sum(count for _, count in stated)
    closed = [(terms, count) for terms, count in stated if terms.adaptations is False]
    unknown = [(terms, count) for terms, count in stated if terms.adaptations is None]
    found = []
    # Pictures that were imported are redistributed themselves.
    is_made = any(group.backgrounds or group.foregrounds for group in groups)
    if unstated:
        some = f"any of the {total:,}" if unstated == total else f"{unstated:,} of the {total:,}"
        found.append(
            f"No licence is stated for {some} pictures: nothing here permits redistributing them"
            f"{', or composites made of them' if is_made else ''}."
        )
    if closed:
        adaptations = "adaptations, and composites are adaptations" if is_made else "adaptations"
        found.append(
            f"{_pictures(closed)} under licences that do not permit redistributing {adaptations}: "
            f"{_names(closed)}."
        )
    if unknown:
        found.append(
            f"{_pictures(unknown)} under licences whose terms are not known to fgbgpack; read them before "
            f"you redistribute the dataset: {_names(unknown)}."
        )
    if not found:
        found.append("All pictures are under licences that permit redistributing adaptations.")
    restricted = [(terms, count) for terms, count in stated if not terms.commercial]
    if restricted:
        found.append(f"{_pictures(restricted)} not for commercial use: {_names(restricted)}.")
    alike = [(terms, count) for terms, count in stated if terms.share_alike and terms.adaptations]
    if alike:
        found.append(
            f"{_pictures(alike)} under licences that require the same licence for adaptations: "
            f"{_names(alike)}."
        )
    if len(alike) > 1:
        effect = (
            "a composite of two of them may meet neither" if is_made else "keep each picture under its own"
        )
        found.append(f"These require different licences: {effect}.")
    if any(terms.attribution for terms, _ in stated):
        found.append("Name the authors where you redistribute it: the list of pictures names them.")
    return found


def _pictures(licences: Sequence[tuple[Terms, int]]) -> str:
    count = sum(number for _, number in licences)
    return "1 picture is" if count == 1 else f"{count:,} pictures are"


def _names(licences: Sequence[tuple[Terms, int]]) -> str:
    return ", ".join(terms.name for terms, _ in licences)
