"""Facts about a dataset that only its authors know."""

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
    """Facts about a dataset that only its authors know; ``None``, or empty, where they are not stated.

    Attributes:
        name: Its name; by default that of its folder or file, without the ending.
        description: What it is, in a few sentences; by default some made of its numbers.
        license: The licence of the dataset as a whole: an SPDX identifier, an address or a sentence.
        creators: The people who made it.
        organizations: The organisations that made it.
        url: Its page: an address that starts with https:// or http://.
        version: Its version, such as 1.0.0.
        published: The day it was published, such as 2024-05-31.
        citation: How to cite it, in BibTeX if need be.

    Raises:
        SpecError: The address, the version or the day is invalid, or a text is empty; all problems are
            reported together.

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
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            texts = value if isinstance(value, tuple) else () if value is None else (value,)
            if not all(text.strip() for text in texts):
                problems.append(f"{field.name}: it is empty (expected: a text)")
        if problems:
            raise SpecError("These facts about the dataset are invalid:", problems, code="about-invalid")

    def to_dict(self) -> dict[str, Any]:
        """The stated facts, as JSON."""
        facts = dataclasses.asdict(self).items()
        return {key: list(value) if isinstance(value, tuple) else value for key, value in facts if value}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> About:
        """The opposite of :meth:`to_dict`."""
        items = document.items()
        facts: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in items}
        return cls(**facts)

    def over(self, other: About) -> About:
        """The facts stated here, completed with those of another."""
        return About.from_dict(other.to_dict() | self.to_dict())

    @property
    def unsaid(self) -> tuple[str, ...]:
        """The facts that a published dataset should state and this does not."""
        expected = {
            "license": self.license,
            "creator": self.creators or self.organizations,
            "url": self.url,
            "version": self.version,
            "published": self.published,
            "citation": self.citation,
        }
        return tuple(key for key, value in expected.items() if not value)


def _is_day(text: str) -> bool:
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
