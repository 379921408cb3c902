"""From the text of options to values and specs. All problems are found before any is reported."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from fgbgpack.errors import SpecError
from fgbgpack.files import require_local
from fgbgpack.spec import FILES_MODEL, NO_MODEL, DatasetSpec, DepthMode, DepthSpec, Exif, read_config

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fgbgpack.pipeline.scale import Assumptions

Device = Literal["auto", "cpu", "cuda", "tensorrt"]
Precision = Literal["fp32", "fp16"]
DEVICES: tuple[Device, ...] = ("auto", "cpu", "cuda", "tensorrt")
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")
FITS = ("crop", "stretch")
EXIFS: tuple[Exif, ...] = ("apply", "ignore")
DEPTH_MODES: tuple[DepthMode, ...] = ("layered", "guided", "per-sample")

#: The option of each field of a spec, by the field's path in the document.
OPTIONS: Mapping[str, str] = {
    **{field.name: f"--{field.name.replace('_', '-')}" for field in fields(DatasetSpec)},
    **{f"depth.{field.name}": f"--depth-{field.name}" for field in fields(DepthSpec)},
    "width": "--size",
    "height": "--size",
    "depth": "--depth-model",
    "depth.precision": "--precision",
}

#: What files of numbers of samples are called.
LISTS = (".npy", ".txt")
#: Stands in for a size that cannot be parsed: no other field is too large for it.
_LARGEST = 8192

Word = TypeVar("Word", bound=str)


#: What samples are found by.
_FIELDS = ("background", "foreground", "category", "flip", "replica", "name")


class Parser:
    """Parses the text of options, and collects a line for each problem."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def integer(self, option: str, text: str | None) -> int | None:
        """An integer; ``None`` if the option was not given or is wrong."""
        if text is None:
            return None
        # Not int() alone: that accepts "1_000", blanks and the digits of every script.
        if re.fullmatch(r"[+-]?[0-9]{1,40}", text) is None:
            self.problems.append(f"{option}: {_shown(text)} is not a whole number")
            return None
        return int(text)

    def at_least(self, option: str, text: str | None, smallest: int, *, default: int) -> int:
        """An integer that no schema checks; ``default`` if the option was not given or is wrong."""
        value = self.integer(option, text)
        if value is not None and value < smallest:
            self.problems.append(f"{option}: {value} is less than {smallest}")
        return default if value is None else value

    def within(self, option: str, text: str | None, smallest: int, largest: int) -> int | None:
        """An integer of a range; ``None`` if the option was not given or is wrong."""
        value = self.integer(option, text)
        if value is not None and not smallest <= value <= largest:
            self.problems.append(f"{option}: found {value}, expected {smallest} to {largest}")
            return None
        return value

    def at_most_one_of(self, given: Mapping[str, bool]) -> str | None:
        """Which of some options is given, if any; they exclude each other."""
        found = [option for option, is_given in given.items() if is_given]
        self.problems += [f"{option}: not allowed with {found[0]}" for option in found[1:]]
        return found[0] if found else None

    def part(self, option: str, text: str) -> tuple[int, int]:
        """One of some parts, from 0, as ``K/N``; ``(0, 1)`` if it is wrong."""
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if match is None:
            self.problems.append(
                f"{option}: {_shown(text)} is not K/N (expected such as 0/100, the first of 100)"
            )
            return 0, 1
        number, count = int(match[1]), int(match[2])
        if number >= count:
            expected = (
                f"the parts of {count} are 0/{count} to {count - 1}/{count}" if count else "N of 1 or more"
            )
            self.problems.append(f"{option}: found {text}, expected K from 0 and below N: {expected}")
            return 0, 1
        return number, count

    def workers(self, text: str | None) -> int | None:
        """The value of ``--workers``."""
        return None if text is None else self.at_least("--workers", text, 1, default=1)

    def assumptions(self, texts: Sequence[str] | None, *, dry_run: bool) -> Assumptions | None:
        """The values of ``--assume``."""
        if texts and not dry_run:
            self.problems.append("--assume: only with --dry-run")
        if not texts:
            return None
        from fgbgpack.pipeline.scale import Assumptions

        try:
            return Assumptions.parse(texts)
        except SpecError as exc:
            self.problems += [f"--assume: {line}" for line in exc.problems]
            return None

    def ranges(self, option: str, text: str | None) -> list[slice] | None:
        """Numbers and ranges such as ``0:1000``, separated by commas."""
        if text is None:
            return None
        found = []
        for one in text.split(","):
            match = re.fullmatch(r"\s*(?:([0-9]{1,18})|([0-9]{0,18}):([0-9]{0,18}))\s*", one)
            if match is None:
                self.problems.append(
                    f"{option}: {one.strip()!r} is neither the number of a sample nor a range such as 0:1000"
                )
            elif match[1]:
                found.append(slice(int(match[1]), int(match[1]) + 1))
            else:
                found.append(slice(int(match[2] or 0), int(match[3]) if match[3] else None))
        return found

    def conditions(self, option: str, texts: Sequence[str]) -> dict[str, Any]:
        """Conditions of samples, each as ``FIELD=VALUE``: several values of a field are alternatives."""
        found: dict[str, Any] = {}
        for text in texts:
            field, equals, value = text.partition("=")
            if not equals or field not in _FIELDS:
                self.problems.append(
                    f"{option}: {_shown(text)} is not FIELD=VALUE (FIELD is {', '.join(_FIELDS)})"
                )
            elif field != "flip":
                found.setdefault(field, []).append(int(value) if value.isdecimal() else value)
            elif value not in ("yes", "no"):
                self.problems.append(f"{option}: {_shown(text)} is neither flip=yes nor flip=no")
            else:
                found[field] = value == "yes"
        return found

    def number(self, option: str, text: str | None) -> float | None:
        """A finite number; ``None`` if the option was not given or is wrong."""
        if text is None:
            return None
        try:
            value = float(text) if text.isascii() and "_" not in text else math.nan
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            self.problems.append(f"{option}: {_shown(text)} is not a number")
            return None
        return value

    def fractions(self, texts: Sequence[str]) -> dict[str, float]:
        """Parts and their fractions, each as ``PART=FRACTION``."""
        found: dict[str, float] = {}
        for text in texts:
            name, equals, number = text.rpartition("=")
            if not (name and equals) or re.fullmatch(r"[0-9]{0,9}\.?[0-9]{1,18}", number) is None:
                self.problems.append(f"{_shown(text)} is not PART=FRACTION (expected such as train=0.8)")
            elif name in found:
                self.problems.append(f"{_shown(text)}: the part {name!r} is given twice")
            else:
                found[name] = float(number)
        return found

    def sample_lists(self, texts: Sequence[str]) -> dict[str, NDArray[np.int64]]:
        """Parts and the numbers of their samples, each as ``PART=FILE``."""
        from fgbgpack.dataset.listed_split import read_list

        found: dict[str, NDArray[np.int64]] = {}
        for text in texts:
            name, equals, file = text.partition("=")
            if not (name and equals) or not file.endswith(LISTS):
                self.problems.append(
                    f"{_shown(text)} is not PART=FILE (expected such as good=samples.npy for all parts)"
                )
            elif name in found:
                self.problems.append(f"{_shown(text)}: the part {name!r} is given twice")
            else:
                try:
                    found[name] = read_list(Path(file))
                except (OSError, ValueError) as exc:
                    why = exc.strerror if isinstance(exc, OSError) and exc.strerror else exc
                    self.problems.append(f"{_shown(text)}: {why}")
        return found

    def storage_options(self, texts: Sequence[str] | None) -> dict[str, str] | None:
        """The values of ``--storage-option``, each as ``KEY=VALUE``; ``None`` if there is none.

        No value is shown: it may be a secret.
        """
        found: dict[str, str] = {}
        for text in texts or ():
            key, equals, value = text.partition("=")
            if not (key and equals):
                self.problems.append("--storage-option: expected KEY=VALUE, such as region=eu-west-1")
            elif key in found:
                self.problems.append(f"--storage-option: {_shown(key)} is given twice")
            else:
                found[key] = value
        return found or None

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

    def choice(self, option: str, text: str | None, choices: Sequence[Word]) -> Word:
        """One of a few words, the first of which is the default."""
        for known in choices:
            if text == known:
                return known
        if text is not None:
            self.problems.append(f"{option}: {_shown(text)} is not one of {', '.join(choices)}")
        return choices[0]

    def picture(self, path: Path | None) -> None:
        """Check that ``--output`` can be written, before the work for it is done."""
        if path is None:
            return
        require_local(path, "Pictures are")
        if path.suffix.lower() != ".png":
            self.problems.append(f"--output: {path} does not end with .png")
        if not path.parent.is_dir():
            self.problems.append(f"--output: there is no folder {path.parent}")

    def check(self) -> None:
        """Raise a SpecError, ``options-invalid``, if there are problems."""
        if self.problems:
            raise SpecError("These options cannot be used:", self.problems, code="options-invalid")

    def dataset(
        self,
        given: Mapping[str, Any],
        *,
        size: str | None,
        depth_model: str | None,
        depth: Mapping[str, Any],
        config: Path | None,
        preset: Mapping[str, Any] | None = None,
    ) -> DatasetSpec:
        """The spec of the options, which override the file of ``--config``, which overrides the ``preset``;
        ``None`` where one was not given.

        ``depth`` has the fields of the depth spec other than the model. Raises a SpecError,
        ``options-invalid``, with all problems, earlier ones included.
        """
        changes = {name: value for name, value in given.items() if value is not None}
        if size is not None:
            # A size that cannot be parsed is one problem; it must not cause others in fields that are right.
            changes["width"], changes["height"] = self.size(size) or (_LARGEST, _LARGEST)
        read = self._read(config)
        document = dict(preset or {}) | read
        before = document.get("depth", {})
        fields_before = before if isinstance(before, dict) else {}
        from_file = {*read, *(f"depth.{name}" for name in fields_before)} - changes.keys()
        document |= changes

        finer = {name: value for name, value in depth.items() if value is not None}
        if depth_model == NO_MODEL:
            document["depth"] = None
            if finer:
                self.problems.append(f"{_options_of(finer)}: not allowed with --depth-model none")
        elif depth_model is not None or finer:
            if depth_model is None and (before is None or fields_before.get("model") == NO_MODEL):
                self.problems.append(f"{_options_of(finer)}: {config} sets no depth; add --depth-model")
            else:
                model = {} if depth_model is None else {"model": depth_model}
                document["depth"] = {**fields_before, **model, **finer}
                from_file -= {"depth", *(f"depth.{name}" for name in {**model, **finer})}
        for name in ("backgrounds", "foregrounds"):
            if name not in document:
                self.problems.append(f"--{name}: not given, expected the folder of {name[:-1]} pictures")
                document[name] = "."
        return self._checked(document, from_file, config)

    def depth_fields(self, **given: str | None) -> dict[str, Any]:
        """The fields of a depth spec other than the model; ``None`` where an option was not given."""
        return given | {name: self.integer(f"--depth-{name}", given[name]) for name in ("scale", "bits")}

    def reading_fields(
        self,
        *,
        mask_value: str | None,
        mask_threshold: str | None,
        frame: str | None,
        **given: str | bool | None,
    ) -> dict[str, Any]:
        """The fields of a spec that say how pictures are read; ``None`` where an option was not given."""
        return {
            "mask_value": self.integer("--mask-value", mask_value),
            "mask_threshold": self.integer("--mask-threshold", mask_threshold),
            "frame": self.integer("--frame", frame),
            **given,
        }

    def depth_spec(self, model: str | None, fields: Mapping[str, Any]) -> DepthSpec:
        """The depth spec of the options of ``fgbgpack depth``; raises as :meth:`dataset` does."""
        if model == NO_MODEL:
            self.problems.append("--depth-model: found 'none', expected the name of a model or an ONNX file")
        given = {name: value for name, value in {"model": model, **fields}.items() if value is not None}
        folders = {"backgrounds": ".", "foregrounds": "."}
        if model == FILES_MODEL:
            folders["background_depth"] = "."
        self._checked({**folders, "depth": given}, set(), None)
        return DepthSpec(**given)

    def _read(self, config: Path | None) -> dict[str, Any]:
        if config is None:
            return {}
        try:
            return read_config(config)
        except SpecError as exc:
            # What else is missing is not known without the file.
            self.problems.append(f"--config: {exc.message}")
            self.check()
            raise

    def _checked(self, document: dict[str, Any], from_file: set[str], config: Path | None) -> DatasetSpec:
        try:
            spec = DatasetSpec.from_dict(document)
        except SpecError as exc:
            found = [_by_option(line, from_file, config) for line in exc.problems]
            self.problems += found or [exc.message]
        self.check()
        return spec


def _options_of(depth_fields: Mapping[str, Any]) -> str:
    return ", ".join(OPTIONS[f"depth.{name}"] for name in depth_fields)


# Other fields that a problem names; names of one word may be words.
_FIELD = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}...")


def _by_option(problem: str, from_file: set[str], config: Path | None) -> str:
    """A problem of the spec, with the option or the field of the config file that it comes from."""
    where, _, what = problem.partition(": ")
    if config is not None and (where in from_file or where not in OPTIONS):
        return f"{config}: {what}" if where == "the document" else f"{where} in {config}: {what}"
    option = OPTIONS.get(where, where)
    what = _FIELD.sub(lambda match: OPTIONS.get(match[0], match[0]), what)
    return f"{option} ({where}): {what}" if option == "--size" else f"{option}: {what}"
