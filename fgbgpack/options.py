"""What counts as a number, and as true or false, in all options: of Python, NumPy and torch alike."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from fgbgpack.errors import SpecError


def whole_number(value: Any) -> int | None:
    """A Python, NumPy or torch integer as an ``int``; ``None`` for all else, truth values included."""
    # NumPy refuses to take its truth values for numbers, torch does not.
    if isinstance(value, bool) or _is_of_truth(value) or getattr(value, "ndim", None):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def truth(value: Any) -> bool | None:
    """A truth value of Python, NumPy or torch as a ``bool``; ``None`` for all else, numbers too."""
    if isinstance(value, bool):
        return value
    return bool(value) if _is_of_truth(value) and not getattr(value, "ndim", 1) else None


def _is_of_truth(value: Any) -> bool:
    return str(getattr(value, "dtype", "")).endswith("bool")


def checked_flags(**values: Any) -> list[bool]:
    """Options that are true or false, as ``bool``; SpecError names all that are something else."""
    flags = {name: truth(value) for name, value in values.items()}
    if problems := [
        f"{name}: found {values[name]!r}, expected True or False" for name in flags if flags[name] is None
    ]:
        raise SpecError("These options cannot be used:", problems, code="option-invalid")
    return [bool(flag) for flag in flags.values()]


def checked_numbers(
    limits: Mapping[str, tuple[Any, int, int]], title: str, code: str = "option-invalid"
) -> list[int]:
    """Options that are whole numbers, as ``int``: each with the least it can be and what it must be below.

    SpecError names all that are none, or out of range.
    """
    numbers = {name: whole_number(value) for name, (value, _, _) in limits.items()}
    problems = [
        f"{name}: found {value!r}, expected a whole number from {least} to {end - 1}"
        for name, (value, least, end) in limits.items()
        if (number := numbers[name]) is None or not least <= number < end
    ]
    if problems:
        raise SpecError(title, problems, code=code)
    return [number for number in numbers.values() if number is not None]
