"""Networks by name: those that come with fgbgpack, and the files in the user's models folder.

The folder is ``FGBGPACK_MODELS`` where that is set, else ``fgbgpack/models`` in the user's cache folder. A
model is ``NAME.onnx`` in it. Its card is ``NAME.json`` beside it, or else the card of that name that comes
with fgbgpack. A file in the folder takes the place of a network that comes with fgbgpack.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from fgbgpack import inputs
from fgbgpack.depth.card import Card, Kind, card_error
from fgbgpack.errors import DepthModelError

_CARDS = Path(__file__).with_name("cards")
#: The cards of networks that cut foregrounds out, and the others.
_FOLDERS: Mapping[Kind, Path] = {"cutout": _CARDS / "cutout", "depth": _CARDS}
#: The folder of the ONNX files that come with fgbgpack.
NETWORKS = Path(__file__).with_name("networks")


@dataclass(frozen=True)
class Entry:
    """A model that has a name, its card, and where its ONNX file is, or belongs."""

    name: str
    card: Card
    card_path: Path
    path: Path

    @property
    def here(self) -> bool:
        """Whether its ONNX file exists."""
        return self.path.is_file()

    @property
    def is_ours(self) -> bool:
        """Whether the card comes with fgbgpack."""
        return self.card_path.parent in _FOLDERS.values()

    @property
    def is_embedded(self) -> bool:
        """Whether the ONNX file comes with fgbgpack."""
        return self.path.parent == NETWORKS


def models_folder() -> Path:
    """The folder of the user's models; it need not exist."""
    chosen = os.environ.get("FGBGPACK_MODELS")
    if chosen:
        return Path(chosen).expanduser()
    return user_cache_path("fgbgpack", appauthor=False, opinion=False) / "models"


def model_names() -> list[str]:
    """The names of all models, sorted: of the cards that come with fgbgpack, and of the user's files."""
    return sorted({*_our_cards(), *(file.stem for file in _files_in_folder())})


def names_of(kind: Kind) -> list[str]:
    """The names of models of a kind, sorted, with those of the user's files that have no card of ours."""
    folder, cards = _FOLDERS[kind], _our_cards()
    return [name for name in model_names() if name not in cards or cards[name].parent == folder]


def known_models() -> tuple[list[Entry], list[str]]:
    """All models that have a name, sorted by it, and one line for each unusable file in the models folder."""
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
    """The model of that name, whether its file exists or not. Raises DepthModelError where there is none,
    with similar names, or its card cannot be read.
    """
    path = _path(name)
    card_path = _card_path(path)
    if card_path is not None and (path.is_file() or name in _our_cards()):
        return _entry(name, card_path)
    if path.is_file():
        raise DepthModelError(
            f"{path} has no card: {path.with_suffix('.json')} was expected. Write one with: "
            f"fgbgpack models card {path}",
            code="card-missing",
        )
    names, lower = model_names(), name.lower()
    alike = [n for n in names if lower in n] or difflib.get_close_matches(lower, names, cutoff=0.6)
    meant = f" Did you mean {' or '.join(repr(n) for n in alike)}?" if alike else ""
    raise DepthModelError(
        f"There is no model called {name!r}.{meant} The names are {', '.join(names)} ('fgbgpack models "
        "list' tells more). Or give the path of an ONNX file MODEL.onnx, with its card MODEL.json beside it.",
        code="model-unknown",
    )


def locate(name: str) -> tuple[Path, Path]:
    """The ONNX file and the card of the model of that name. Raises DepthModelError where there is no such
    model, or its file is missing, with how to get it.
    """
    path = _path(name)
    card_path = _card_path(path)
    if path.is_file() and card_path is not None:
        # The caller reads the card, and reports its problems with all others.
        return path, card_path
    raise DepthModelError(
        f"The model {name!r} is not in {path.parent} yet. {how_to_get(find(name))}",
        code="model-file-missing",
    )


def how_to_get(entry: Entry) -> str:
    """How to get the file of a model that fgbgpack has a card of: a sentence or a few."""
    card = entry.card
    if entry.is_embedded:
        return f"It comes with fgbgpack: {entry.path}"
    if card.download is not None:
        length = f" ({card.size / 1e6:,.0f} MB)" if card.size else ""
        return f"Get it{length} with: fgbgpack models get {entry.name}"
    made = card.obtain or "Its card does not say where to get it."
    return (
        f"There is no download of it as ONNX. {made}\nIts file belongs here, under this name:\n  {entry.path}"
    )


def our_card(name: str) -> Card:
    """The card of that name that comes with fgbgpack."""
    return _entry(name, _our_cards()[name]).card


def is_name(reference: str | Path) -> bool:
    """Whether this is a model's name: no folder in it, and no ``.onnx`` or ``.json`` at its end."""
    text = str(reference)
    # Names have dots in them, so what follows the last one need not be a suffix.
    return Path(text).name == text and Path(text).suffix.lower() not in (".onnx", ".json")


def read_json(path: Path) -> Any:
    """The document in a JSON file; raises DepthModelError."""
    try:
        return inputs.read_json(path)
    except OSError as exc:
        raise card_error(f"The card {path} cannot be read: {exc.strerror}.") from exc
    except ValueError as exc:  # wrong JSON, or not UTF-8
        raise card_error(f"The card {path} is not JSON: {exc}.") from exc


@cache
def _our_cards() -> dict[str, Path]:
    return {path.stem: path for folder in _FOLDERS.values() for path in sorted(folder.glob("*.json"))}


def _files_in_folder() -> list[Path]:
    try:
        # Names that start with a dot belong to unfinished files.
        found = (path for path in models_folder().glob("*.onnx") if not path.name.startswith("."))
        return sorted(path for path in found if path.is_file())
    except OSError:
        return []


def _path(name: str) -> Path:
    """Where the ONNX file of a model is, or belongs."""
    own, embedded = models_folder() / f"{name}.onnx", NETWORKS / f"{name}.onnx"
    return embedded if embedded.is_file() and not own.is_file() else own


def _card_path(path: Path) -> Path | None:
    beside = path.with_suffix(".json")
    return beside if beside.is_file() else _our_cards().get(path.stem)


def _entry(name: str, card_path: Path) -> Entry:
    card = Card.from_dict(read_json(card_path), where=str(card_path))
    return Entry(name, card, card_path, _path(name))
