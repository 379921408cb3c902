"""What licences of pictures allow, as far as that is known by their names.

What counts is whether changed copies may be passed on, as composites are: they hold parts of two pictures.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_CREATIVE_COMMONS = re.compile(r"CC-BY((?:-(?:NC|ND|SA))*)(?:-([1-4]\.[05]))?(?:-[A-Z]+)?")
_CC_ADDRESS = re.compile(r"https?://creativecommons\.org/(licenses|publicdomain)/([a-z-]+)(?:/([0-9.]+))?.*")
_SPDX_ADDRESS = re.compile(r"https?://spdx\.org/licenses/([A-Za-z0-9.+-]+?)(?:\.html|\.json)?/?")

#: Licences that let everybody pass on changed copies, by what they are called once they are normalised.
_FREE = {
    "CC0-1.0": "CC0-1.0",
    "CC0": "CC0-1.0",
    "PDM-1.0": "PDM-1.0",
    "PUBLIC-DOMAIN": None,
    "PDDL-1.0": "PDDL-1.0",
    "UNLICENSE": "Unlicense",
    "0BSD": "0BSD",
}
#: The same, if their authors are named.
_NAMING = {
    "MIT": "MIT",
    "APACHE-2.0": "Apache-2.0",
    "BSD-2-CLAUSE": "BSD-2-Clause",
    "BSD-3-CLAUSE": "BSD-3-Clause",
    "ISC": "ISC",
}
_CLOSED = {"ALL-RIGHTS-RESERVED", "PROPRIETARY", "COPYRIGHT", "COPYRIGHTED"}


@dataclass(frozen=True)
class Terms:
    """What a licence says.

    Attributes:
        name: What it is called: its SPDX identifier where that is known, else what is stated.
        spdx: That identifier, or None.
        changed_copies: Whether changed copies may be passed on; None where that is not known.
        names_authors: Whether the authors must be named.
        commercial: Whether it may be used commercially.
        same_licence: Whether changed copies must be under the same licence.
    """

    name: str
    spdx: str | None = None
    changed_copies: bool | None = None
    names_authors: bool = False
    commercial: bool = True
    same_licence: bool = False


def terms_of(licence: str) -> Terms:
    """What a licence says, by its name or its address.

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
            changed_copies="ND" not in marks,
            names_authors=True,
            commercial="NC" not in marks,
            same_licence="SA" in marks,
        )
    if name in _FREE:
        return Terms(_FREE[name] or licence, _FREE[name], changed_copies=True)
    if name in _NAMING:
        return Terms(_NAMING[name], _NAMING[name], changed_copies=True, names_authors=True)
    if name in _CLOSED:
        return Terms(licence, changed_copies=False)
    return Terms(licence)


def address_of(licence: str) -> str:
    """The address of a licence where one is known; else what is stated."""
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
    name = re.sub(r"[\s_/-]+", "-", licence.strip().upper().rstrip("."))
    name = re.sub(r"-(LICENCE|LICENSE)$", "", name)
    return re.sub(r"^CCBY|^CC-?-BY", "CC-BY", name)


@dataclass(frozen=True)
class LicenceGroup:
    """The pictures of one licence: what it says, and how many backgrounds and foregrounds there are."""

    terms: Terms | None
    backgrounds: int
    foregrounds: int

    @property
    def pictures(self) -> int:
        """How many pictures there are."""
        return self.backgrounds + self.foregrounds


def group_by_licence(sources: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[LicenceGroup]:
    """The licences of a document's sources, the commonest first, those without one last."""
    counts = {
        kind: Counter(
            terms_of(source["license"]) if "license" in source else None for source in sources[kind]
        )
        for kind in ("backgrounds", "foregrounds")
    }
    groups = [
        LicenceGroup(terms, counts["backgrounds"][terms], counts["foregrounds"][terms])
        for terms in counts["backgrounds"].keys() | counts["foregrounds"].keys()
    ]
    return sorted(groups, key=lambda g: (g.terms is None, -g.pictures, g.terms.name if g.terms else ""))


def findings(groups: Sequence[LicenceGroup]) -> list[str]:
    """What the licences of the pictures mean for passing on the dataset, in plain sentences.

    The first says whether it may be passed on at all as far as that is stated.
    """
    stated = [(group.terms, group.pictures) for group in groups if group.terms is not None]
    unstated = sum(group.pictures for group in groups if group.terms is None)
    total = sum(group.pictures for group in groups)
    closed = [(terms, count) for terms, count in stated if terms.changed_copies is False]
    unknown = [(terms, count) for terms, count in stated if terms.changed_copies is None]
    found = []
    if unstated:
        found.append(
            f"No licence is stated for {_of(unstated, total)} pictures: nothing here says that they, or "
            "composites made of them, may be passed on."
        )
    if closed:
        found.append(
            f"{_pictures(closed)} under licences that do not let changed copies be passed on, and composites "
            f"are changed copies: {_names(closed)}."
        )
    if unknown:
        found.append(
            f"{_pictures(unknown)} under licences whose terms are not known to fgbgpack; read them before "
            f"you pass the dataset on: {_names(unknown)}."
        )
    if not found:
        found.append("All pictures are under licences that let changed copies be passed on.")
    bound = [(terms, count) for terms, count in stated if not terms.commercial]
    if bound:
        found.append(f"{_pictures(bound)} not for commercial use: {_names(bound)}.")
    alike = [(terms, count) for terms, count in stated if terms.same_licence and terms.changed_copies]
    if alike:
        found.append(
            f"{_pictures(alike)} under licences that ask the same licence of what is made of them: "
            f"{_names(alike)}."
        )
    if len(alike) > 1:
        found.append("These ask for different licences: a composite of two of them may meet neither.")
    if any(terms.names_authors for terms, _ in stated):
        found.append("Name the authors where you pass it on: the list of pictures does.")
    return found


def _of(count: int, total: int) -> str:
    return f"any of the {total:,}" if count == total else f"{count:,} of the {total:,}"


def _pictures(licences: Sequence[tuple[Terms, int]]) -> str:
    count = sum(number for _, number in licences)
    return "1 picture is" if count == 1 else f"{count:,} pictures are"


def _names(licences: Sequence[tuple[Terms, int]]) -> str:
    return ", ".join(terms.name for terms, _ in licences)
