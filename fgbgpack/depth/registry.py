"""Depth models by name: what comes with fgbgpack, and the files in the user's models folder.

The folder is ``FGBGPACK_MODELS`` where that is set, else ``fgbgpack/models`` in the platform's cache folder.
A model is ``NAME.onnx`` in it. Its card is ``NAME.json`` beside it, or the one of that name that comes with
fgbgpack: so files that somebody made or fetched by hand are found as well, and a card in the folder wins.

A few networks come with fgbgpack, file and card. A file of the same name in the folder takes their place.
"""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fgbgpack import schema
from fgbgpack.errors import DepthModelError

_CARDS = Path(__file__).with_name("cards")
_NETWORKS = Path(__file__).with_name("networks")


@dataclass(frozen=True)
class Entry:
    """A model that has a name.

    Attributes:
        name: The name.
        card: Its card.
        card_path: The file of the card.
        path: Where its ONNX file is, or belongs.
    """

    name: str
    card: Mapping[str, Any]
    card_path: Path
    path: Path

    @property
    def here(self) -> bool:
        """Whether its ONNX file is there: in the models folder, or with fgbgpack."""
        return self.path.is_file()

    @property
    def is_ours(self) -> bool:
        """Whether the card is one that comes with fgbgpack."""
        return self.card_path.parent == _CARDS

    @property
    def is_embedded(self) -> bool:
        """Whether the file is one that comes with fgbgpack."""
        return is_embedded(self.path)


def models_folder() -> Path:
    """The folder of the user's depth models; it need not be there."""
    chosen = os.environ.get("FGBGPACK_MODELS")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return (Path(base) if base else Path.home() / "AppData" / "Local") / "fgbgpack" / "models"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fgbgpack" / "models"
    base = os.environ.get("XDG_CACHE_HOME", "")
    # A relative path is to be ignored, says the XDG Base Directory Specification.
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "fgbgpack" / "models"


def model_names() -> list[str]:
    """The names of all models, sorted: of the cards that come with fgbgpack, and of the user's files."""
    return sorted({*_our_cards(), *(file.stem for file in _files_in_folder())})


def known_models() -> tuple[list[Entry], list[str]]:
    """All models that have a name: those that fgbgpack has a card of, and those in the models folder.

    Returns:
        The models by name, and one line for each file in the folder that is none, with the reason.
    """
    entries = {name: _entry(name, card_path) for name, card_path in _our_cards().items()}
    problems = []
    for path in _files_in_folder():
        card_path = _card_path(path)
        if card_path is None:
            problems.append(f"{path}: it has no card; 'fgbgpack models card {path}' writes one")
            continue
        try:
            entries[path.stem] = _entry(path.stem, card_path)
        except DepthModelError as exc:
            problems += [f"{card_path}: {problem}" for problem in exc.problems or (exc.message,)]
    return sorted(entries.values(), key=lambda entry: entry.name), problems


def find(name: str) -> Entry:
    """The model of that name, whether its file is there or not.

    Raises:
        DepthModelError: There is none; the message names those that are spelled alike. Or its card is broken.
    """
    path = _path(name)
    card_path = _card_path(path)
    if card_path is not None and (path.is_file() or name in _our_cards()):
        return _entry(name, card_path)
    if path.is_file():
        raise DepthModelError(
            f"{path} has no card: it is looked for at {path.with_suffix('.json')}. Write one with: "
            f"fgbgpack models card {path}"
        )
    names = model_names()
    alike = [n for n in names if name.lower() in n] or difflib.get_close_matches(
        name.lower(), names, cutoff=0.5
    )
    meant = f" Did you mean {' or '.join(repr(n) for n in alike)}?" if alike else ""
    raise DepthModelError(
        f"There is no depth model called {name!r}.{meant} The names are {', '.join(names)} ('fgbgpack models "
        "list' tells more). Or give the path of an ONNX file, MODEL.onnx, with its card MODEL.json beside it."
    )


def locate(name: str) -> tuple[Path, Path]:
    """The ONNX file and the card of the model of that name.

    Raises:
        DepthModelError: There is no such model, or its file is not there; the message says how to get it.
    """
    path = _path(name)
    card_path = _card_path(path)
    if path.is_file() and card_path is not None:
        # A card that is broken is reported by who reads it, together with all else that is wrong.
        return path, card_path
    entry = find(name)
    raise DepthModelError(f"The depth model {name!r} is not in {path.parent} yet. {how_to_get(entry)}")


def how_to_get(entry: Entry) -> str:
    """What to do to have the file of a model that fgbgpack has a card of: a sentence or a few."""
    if entry.is_embedded:
        return f"It comes with fgbgpack: {entry.path}"
    if "download" in entry.card:
        size = entry.card.get("size")
        length = f" ({size / 1e6:,.0f} MB)" if size else ""
        return f"Get it{length} with: fgbgpack models get {entry.name}"
    made = entry.card.get("obtain", "Its card does not say where to get it.")
    return (
        f"There is no download of it as ONNX. {made}\nIts file belongs here, under this name:\n  {entry.path}"
    )


def our_card(name: str) -> dict[str, Any]:
    """The card of that name that comes with fgbgpack."""
    return schema.read("depth-model", read_json(_our_cards()[name]), where=name, error=DepthModelError)


def is_embedded(path: Path) -> bool:
    """Whether this is an ONNX file that comes with fgbgpack."""
    return path.parent == _NETWORKS


def is_name(reference: str | Path) -> bool:
    """Whether this is meant as a model's name: no folder in it, and no ``.onnx`` or ``.json`` at its end."""
    text = str(reference)
    # Names have dots in them ("midas-v2.1-small"), so what follows the last one is no ending for sure.
    return Path(text).name == text and Path(text).suffix.lower() not in (".onnx", ".json")


def read_json(path: Path) -> object:
    """The document in a JSON file; NaN and infinities, which are no JSON, are refused.

    Raises:
        DepthModelError: The file cannot be read, or is no JSON.
    """

    def refuse(constant: str) -> object:
        raise ValueError(f"{constant} is no JSON number")

    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except OSError as exc:
        raise DepthModelError(f"The card {path} cannot be read: {exc.strerror}.") from exc
    except ValueError as exc:  # wrong JSON, or no UTF-8
        raise DepthModelError(f"The card {path} is no JSON: {exc}.") from exc


@cache
def _our_cards() -> dict[str, Path]:
    return {path.stem: path for path in sorted(_CARDS.glob("*.json"))}


def _files_in_folder() -> list[Path]:
    try:
        # Names that start with a dot are files on their way.
        found = (path for path in models_folder().glob("*.onnx") if not path.name.startswith("."))
        return sorted(path for path in found if path.is_file())
    except OSError:
        return []


def _path(name: str) -> Path:
    """Where the ONNX file of a model is, or belongs."""
    own, embedded = models_folder() / f"{name}.onnx", _NETWORKS / f"{name}.onnx"
    return embedded if embedded.is_file() and not own.is_file() else own


def _card_path(path: Path) -> Path | None:
    beside = path.with_suffix(".json")
    return beside if beside.is_file() else _our_cards().get(path.stem)


def _entry(name: str, card_path: Path) -> Entry:
    document = read_json(card_path)
    card = schema.read("depth-model", document, where=str(card_path), error=DepthModelError)
    return Entry(name, card, card_path, _path(name))
