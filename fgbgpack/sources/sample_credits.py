"""What is stated of the pictures of samples that are imported: by ``sources.csv``, and by annotations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from fgbgpack.errors import SourceError
from fgbgpack.source_info import CREDIT_FIELDS
from fgbgpack.sources.credits import CREDITS_FILE, OF_BACKGROUNDS, OF_FOREGROUNDS, Credit, read_credits
from fgbgpack.sources.names import listed, normal
from fgbgpack.sources.problems import combined, problem

#: What ``sources.csv`` says of pictures that are pasted, or pasted on.
_MISPLACED = tuple(name for name in (*OF_FOREGROUNDS, *OF_BACKGROUNDS) if name != "category")
_CONTROL = re.compile("[\x00-\x1f\x7f]")
#: Characters of a licence, an author or an address: each sample takes as many bytes as the longest one.
_LONGEST = 1000
_SHOWN = 5


@dataclass(frozen=True)
class SampleCredits:
    """What is stated of each sample's picture, in the tables that were read, and what is to be said of it."""

    of: Sequence[Credit] = ()
    tables: Sequence[Path] = ()
    notices: Sequence[str] = ()

    @property
    def stated(self) -> tuple[str, ...]:
        """Those of licence, author and address that are stated of a picture."""
        return tuple(name for name in CREDIT_FIELDS if any(getattr(one, name) for one in self.of))


def read_sample_credits(
    root: Path,
    pictures: Sequence[str],
    folders: Iterable[str],
    *,
    stated: Sequence[Credit] = (),
    has_categories: bool = False,
) -> SampleCredits:
    """What is known of some pictures, by their paths below ``root``, or what they are called: what
    annotations have ``stated``, then what the ``sources.csv`` of ``root`` says, then that of each of the
    ``folders`` that they are in, the nearest one last. What comes later says it better, cell by cell.

    Raises SourceError with all that is wrong with these tables. Only where nothing else tells what objects
    are (``has_categories``) may they say it.
    """
    found = list(stated) or [Credit()] * len(pictures)
    problems: list[SourceError] = []
    notices: list[str] = []
    possible = [root / below / CREDITS_FILE for below in _with_parents(folders)]
    tables = [table for table in possible if table.exists() or table.is_symlink()]
    for table in tables:
        below = table.parent.relative_to(root).as_posix()
        start = "" if below == "." else f"{below}/"
        # Names in tables of what is no file, such as rows, have no folder.
        places = {
            normal(path.removeprefix(start)): number
            for number, path in enumerate(pictures)
            if path.startswith(start) or "/" not in path
        }
        credits = read_credits(table.parent, places, _MISPLACED, is_whole=False)
        problems += credits.problems
        notices += credits.notices
        for name, credit in credits.by_name.items():
            if credit.category is not None and not has_categories:
                expected = "none: it is for pictures of instances, others have it in their annotations"
                problems.append(problem(table, f"{name} has a category", expected, "credits-invalid"))
            given = {one.name: getattr(credit, one.name) for one in fields(credit)}
            stated_here = {key: value for key, value in given.items() if value is not None}
            found[places[name]] = replace(found[places[name]], **stated_here)
    for number, credit in enumerate(found):
        found[number] = _stored(root / pictures[number], credit, problems)
    if problems:
        raise combined(problems)
    bare = [path for path, credit in zip(pictures, found, strict=True) if not credit.license]
    if bare and (tables or len(bare) < len(pictures)):
        lacking = f"no licence is stated for {len(bare)} of {len(pictures)} pictures"
        notices.append(f"{root}: {lacking}: {listed(bare, _SHOWN)}")
    return SampleCredits(found, tables, notices)


def _with_parents(folders: Iterable[str]) -> list[str]:
    """Folders with all above them, the root first; these above what is in them."""
    found = {""}
    for folder in folders:
        parts = folder.strip("/").split("/")
        found.update("/".join(parts[:count]) for count in range(1, len(parts) + 1))
    return sorted(found, key=lambda path: (path.count("/") + bool(path), path))


def _stored(where: Path, credit: Credit, problems: list[SourceError]) -> Credit:
    """A credit as datasets store it: of one line, without control characters."""
    for name in CREDIT_FIELDS:
        text = getattr(credit, name) or ""
        if len(text) > _LONGEST:
            said = f"its {name} has {len(text):,} characters"
            problems.append(problem(where, said, f"at most {_LONGEST:,}", "credits-invalid"))
    license, author, url = (_plain(text) for text in (credit.license, credit.author, credit.url))
    return replace(credit, license=license, author=author, url=url)


def _plain(text: str | None) -> str | None:
    return None if text is None else _CONTROL.sub("_", " ".join(text.split())) or None
