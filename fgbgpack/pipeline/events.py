"""Events that a run reports to its caller."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fgbgpack.errors import SpecError

StageName: TypeAlias = Literal[
    "sources",
    "samples",
    "backgrounds",
    "depth",
    "checks",
    "depth-checks",
    "chunks",
    "export",
    "verify",
    "cutouts",
]


@dataclass(frozen=True)
class Progress:
    """How far a stage is.

    Attributes:
        stage: ``"sources"`` counts pictures, ``"samples"`` and ``"depth"`` count samples, ``"backgrounds"``
            the backgrounds whose depth guides that of the samples, or whose floors are looked for,
            ``"checks"`` the samples whose pixels were read back and compared with those of the recipe,
            ``"depth-checks"`` those whose depth was compared with its layers, ``"chunks"`` the chunks copied,
            ``"export"`` the samples written in another format, ``"verify"`` the chunks decoded and checked,
            ``"cutouts"`` the photographs cut out.
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
#: What functions take as ``on_event``: what is called with each event, or ``"progress"``, which shows them.
Reporting: TypeAlias = OnEvent | Literal["progress"]


def silent(event: Event) -> None:
    """Ignores events."""


@contextmanager
def reporting(on_event: Reporting) -> Iterator[OnEvent]:
    """What is called with the events of the block: ``on_event`` itself or, for ``"progress"``, bars on a
    terminal and in a notebook, and lines on stderr elsewhere, until the block is left.

    Raises SpecError (``on-event-invalid``) if it is neither.
    """
    if callable(on_event):
        yield on_event
        return
    if on_event != "progress":
        raise SpecError(
            f'on_event: found {on_event!r}, expected a function or "progress".', code="on-event-invalid"
        )
    # The display needs a library that those who listen themselves need not load.
    from fgbgpack.pipeline.display import ProgressDisplay

    with ProgressDisplay() as display:
        yield display
