"""What only a person can say of a dataset."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fgbgpack.errors import SpecError

_VERSION = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){0,2}([-+][0-9A-Za-z.+-]+)?")
_ADDRESS = re.compile(r"https?://[^\s<>\"]+")


@dataclass(frozen=True)
class About:
    """What only a person can say of a dataset; ``None``, or nothing, where it is not said.

    Attributes:
        name: What it is called; else it is called as its folder or file, without the ending.
        description: What it is, in a sentence or a few; else one made of its numbers.
        license: The licence of the dataset as a whole: an SPDX identifier, an address or a sentence.
        creators: The people who made it.
        organizations: The organisations that made it.
        url: Its page: an address that starts with https:// or http://.
        version: Its version, such as 1.0.0.
        published: The day it was published, such as 2024-05-31.
        citation: How to cite it, in BibTeX if need be.

    Raises:
        SpecError: The address, the version or the day is none; all problems are named together.

    Example:
        >>> About(license="CC-BY-4.0", version="1.0.0").to_dict()
        {'license': 'CC-BY-4.0', 'version': '1.0.0'}
    """

    name: str | None = None
    description: str | None = None
    license: str | None = None
    creators: tuple[str, ...] = ()
    organizations: tuple[str, ...] = ()
    url: str | None = None
    version: str | None = None
    published: str | None = None
    citation: str | None = None

    def __post_init__(self) -> None:
        problems = []
        if self.url is not None and _ADDRESS.fullmatch(self.url) is None:
            problems.append(f"url: {self.url!r} is no address (expected: one like https://example.org/lobby)")
        if self.version is not None and _VERSION.fullmatch(self.version) is None:
            problems.append(f"version: {self.version!r} is no version (expected: one like 1.0.0)")
        if self.published is not None and not _is_day(self.published):
            problems.append(f"published: {self.published!r} is no day (expected: one like 2024-05-31)")
        problems += [
            f"{field.name}: it is empty (expected: a text)"
            for field in dataclasses.fields(self)
            if any(not text.strip() for text in self._texts(field.name))
        ]
        if problems:
            raise SpecError("This cannot be said of a dataset:", problems)

    def to_dict(self) -> dict[str, Any]:
        """What is said, as JSON."""
        fields = dataclasses.asdict(self)
        return {key: list(said) if isinstance(said, tuple) else said for key, said in fields.items() if said}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> About:
        """What ``to_dict`` gave."""
        fields: dict[str, Any] = {
            key: tuple(said) if isinstance(said, list) else said for key, said in document.items()
        }
        return cls(**fields)

    def over(self, before: About) -> About:
        """What is said here and, where that is nothing, what was said before."""
        return About.from_dict(before.to_dict() | self.to_dict())

    @property
    def unsaid(self) -> tuple[str, ...]:
        """What a dataset that is published should say and this does not."""
        wanted = {
            "license": self.license,
            "creator": self.creators or self.organizations,
            "url": self.url,
            "version": self.version,
            "published": self.published,
            "citation": self.citation,
        }
        return tuple(key for key, said in wanted.items() if not said)

    def _texts(self, field: str) -> tuple[str, ...]:
        said = getattr(self, field)
        return said if isinstance(said, tuple) else () if said is None else (said,)


def _is_day(text: str) -> bool:
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
