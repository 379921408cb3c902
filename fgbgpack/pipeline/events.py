"""Events that a run reports to its caller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

StageName: TypeAlias = Literal[
    "sources", "samples", "backgrounds", "depth", "checks", "chunks", "export", "verify"
]


@dataclass(frozen=True)
class Progress:
    """How far a stage is.

    Attributes:
        stage: ``"sources"`` counts pictures, ``"samples"`` and ``"depth"`` count samples, ``"backgrounds"``
            the backgrounds whose depth guides that of the samples, ``"checks"`` the samples whose pixels were
            read back and compared with those of the recipe, ``"chunks"`` the chunks copied, ``"export"`` the
            samples written in another format, ``"verify"`` the chunks decoded and checked.
        done: How many are done, those of earlier runs included.
        total: How many there are.
    """

    stage: StageName
    done: int
    total: int


@dataclass(frozen=True)
class Notice:
    """Something that the user should know, in one line."""

    message: str


Event: TypeAlias = Progress | Notice
OnEvent: TypeAlias = Callable[[Event], None]


def silent(event: Event) -> None:
    """Ignores events."""
