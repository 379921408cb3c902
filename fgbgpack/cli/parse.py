"""From what was typed to a spec. Every problem is found before any is told, in the words of the options."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from fgbgpack.errors import SpecError
from fgbgpack.spec import NO_MODEL, DatasetSpec, DepthSpec, read_config

Device = Literal["auto", "cpu", "cuda", "tensorrt"]
DEVICES: tuple[Device, ...] = ("auto", "cpu", "cuda", "tensorrt")

#: The option that sets each field of a spec, by the field's path in the document.
OPTIONS: Mapping[str, str] = {
    "backgrounds": "--backgrounds",
    "foregrounds": "--foregrounds",
    "masks": "--masks",
    "width": "--size",
    "height": "--size",
    "fit": "--fit",
    "foreground_height": "--foreground-height",
    "placements": "--placements",
    "flip": "--flip",
    "seed": "--seed",
    "placement": "--placement",
    "chunk": "--chunk",
    "depth": "--depth-model",
    "depth.model": "--depth-model",
    "depth.mode": "--depth-mode",
    "depth.guide": "--depth-guide",
    "depth.scale": "--depth-scale",
    "depth.bits": "--depth-bits",
    "depth.precision": "--precision",
}

#: Stands in for a size that could not be read: no other field is too large for it.
_LARGEST = 8192


class Parser:
    """Reads what was typed, and keeps a line for each thing that is wrong with it."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def integer(self, option: str, text: str | None) -> int | None:
        """A whole number, or ``None`` where nothing (or nothing of use) was given."""
        if text is None:
            return None
        # Not int() alone: it also takes "1_000", blanks and the digits of every script.
        if re.fullmatch(r"[+-]?[0-9]{1,40}", text) is None:
            self.problems.append(f"{option}: {_shown(text)} is not a whole number")
            return None
        return int(text)

    def at_least(self, option: str, text: str | None, smallest: int, *, default: int) -> int:
        """A whole number that no schema checks; ``default`` where nothing (or nothing of use) was given."""
        value = self.integer(option, text)
        if value is not None and value < smallest:
            self.problems.append(f"{option}: {value} is less than {smallest}")
        return default if value is None else value

    def workers(self, text: str | None) -> int | None:
        """The value of ``--workers``."""
        return None if text is None else self.at_least("--workers", text, 1, default=1)

    def integers(self, option: str, text: str | None) -> list[int] | None:
        """Whole numbers from 0 up, separated by commas."""
        if text is None:
            return None
        return [self.at_least(option, part.strip(), 0, default=0) for part in text.split(",")]

    def fractions(self, texts: Sequence[str]) -> dict[str, float]:
        """Parts and their fractions, each as ``NAME=FRACTION``."""
        found: dict[str, float] = {}
        for text in texts:
            name, equals, number = text.rpartition("=")
            if not (name and equals) or re.fullmatch(r"[0-9]{0,9}\.?[0-9]{1,18}", number) is None:
                self.problems.append(
                    f"{_shown(text)} is no part and its fraction (expected such as train=0.8)"
                )
            elif name in found:
                self.problems.append(f"{_shown(text)}: the part {name!r} is named twice")
            else:
                found[name] = float(number)
        return found

    def size(self, text: str | None) -> tuple[int, int] | None:
        """``(width, height)`` from ``WIDTHxHEIGHT`` or a single number for both."""
        if text is None:
            return None
        match = re.fullmatch(r"([0-9]{1,9})(?:[xX×]([0-9]{1,9}))?", text)
        if match is None:
            self.problems.append(
                f"--size: {_shown(text)} is not a size (expected WIDTHxHEIGHT, or one number for both)"
            )
            return None
        return int(match[1]), int(match[2] or match[1])

    def device(self, text: str | None) -> Device:
        """The value of ``--device``."""
        for known in DEVICES:
            if text == known:
                return known
        if text is not None:
            self.problems.append(f"--device: {_shown(text)} is not one of {', '.join(DEVICES)}")
        return "auto"

    def check(self) -> None:
        """Raise if anything was wrong.

        Raises:
            SpecError: With a line for each problem.
        """
        if self.problems:
            raise SpecError("These options cannot be used:", self.problems)

    def dataset(
        self,
        given: Mapping[str, Any],
        *,
        size: str | None,
        depth_model: str | None,
        depth: Mapping[str, Any],
        config: Path | None,
    ) -> DatasetSpec:
        """The spec that the options describe, on top of those in a file.

        Args:
            given: Spec fields of the options; ``None`` where an option was not given.
            size: The text of ``--size``.
            depth_model: The text of ``--depth-model``; ``"none"`` means no depth.
            depth: Fields of the depth spec other than the model; ``None`` where not given.
            config: The file of ``--config``.

        Raises:
            SpecError: With a line for each problem, those found earlier included.
        """
        changes = {name: value for name, value in given.items() if value is not None}
        if size is not None:
            # A size that cannot be read is one problem; it must not make others of the fields that are fine.
            changes["width"], changes["height"] = self.size(size) or (_LARGEST, _LARGEST)
        document = self._read(config)
        from_file = set(_paths(document)) - changes.keys()
        document |= changes

        finer = {name: value for name, value in depth.items() if value is not None}
        if depth_model == NO_MODEL:
            document["depth"] = None
            if finer:
                self.problems.append(f"{_options_of(finer)}: of no use with --depth-model none")
        elif depth_model is not None or finer:
            before = document.get("depth", {})
            if depth_model is None and _is_no_depth(before):
                self.problems.append(
                    f"{_options_of(finer)}: {config} asks for no depth; a model is needed too (--depth-model)"
                )
            else:
                model = {} if depth_model is None else {"model": depth_model}
                document["depth"] = {**(before if isinstance(before, dict) else {}), **model, **finer}
                from_file -= {"depth", *(f"depth.{name}" for name in {**model, **finer})}
        for name in ("backgrounds", "foregrounds"):
            if name not in document:
                self.problems.append(f"--{name}: not given, expected the folder of {name[:-1]} pictures")
                document[name] = "."
        return self._checked(document, from_file, config)

    def depth_fields(
        self,
        *,
        mode: str | None,
        guide: str | None,
        scale: str | None,
        bits: str | None,
        precision: str | None,
    ) -> dict[str, Any]:
        """The fields of a depth spec other than the model; ``None`` where an option was not given."""
        return {
            "mode": mode,
            "guide": guide,
            "scale": self.integer("--depth-scale", scale),
            "bits": self.integer("--depth-bits", bits),
            "precision": precision,
        }

    def depth_spec(self, model: str | None, fields: Mapping[str, Any]) -> DepthSpec:
        """The depth spec that the options of ``fgbgpack depth`` describe.

        Args:
            model: The text of ``--depth-model``.
            fields: The other fields, of :meth:`depth_fields`.

        Raises:
            SpecError: With a line for each problem, those found earlier included.
        """
        if model == NO_MODEL:
            self.problems.append(
                "--depth-model: 'none' fills nothing, expected the name of a depth model or an ONNX file"
            )
        given = {name: value for name, value in {"model": model, **fields}.items() if value is not None}
        self._checked({"backgrounds": ".", "foregrounds": ".", "depth": given}, set(), None)
        return DepthSpec(**given)

    def _read(self, config: Path | None) -> dict[str, Any]:
        if config is None:
            return {}
        try:
            return read_config(config)
        except SpecError as exc:
            # What else is missing cannot be told without the file.
            self.problems.append(f"--config: {exc.message}")
            raise SpecError("These options cannot be used:", self.problems) from exc

    def _checked(self, document: dict[str, Any], from_file: set[str], config: Path | None) -> DatasetSpec:
        try:
            spec = DatasetSpec.from_dict(document)
        except SpecError as exc:
            found = [_in_words_of_the_user(line, from_file, config) for line in exc.problems]
            self.problems += found or [exc.message]
        self.check()
        return spec


def _paths(document: Mapping[str, Any]) -> list[str]:
    depth = document.get("depth")
    return [*document, *(f"depth.{name}" for name in (depth if isinstance(depth, dict) else ()))]


def _is_no_depth(depth: object) -> bool:
    """Whether this is how a config file says that there is to be no depth."""
    return depth is None or (isinstance(depth, dict) and depth.get("model") == NO_MODEL)


def _options_of(depth_fields: Mapping[str, Any]) -> str:
    return ", ".join(OPTIONS[f"depth.{name}"] for name in depth_fields)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}...")


def _in_words_of_the_user(problem: str, from_file: set[str], config: Path | None) -> str:
    """Name the option, or the field of the config file, that a problem of the spec comes from."""
    where, _, what = problem.partition(": ")
    if config is not None and (where in from_file or where not in OPTIONS):
        return f"{config}: {what}" if where == "the document" else f"{where} in {config}: {what}"
    option = OPTIONS.get(where, where)
    return f"{option} ({where}): {what}" if option == "--size" else f"{option}: {what}"
