"""The errors that fgbgpack raises, grouped by what the caller would do about them.

Every message says what is wrong, where, what was expected, and what to do. Where an input has
several problems, they are reported together: one line each, in ``problems``.
"""

from __future__ import annotations

from collections.abc import Sequence


class FgbgError(Exception):
    """Base of every error that fgbgpack raises on purpose.

    Args:
        message: One or two sentences: what is wrong and what to do.
        problems: One line for each offending thing, when there are several.
    """

    exit_code: int = 1

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        self.message = message
        self.problems = tuple(problems)
        super().__init__("\n".join([message, *(f"  - {problem}" for problem in self.problems)]))


class SpecError(FgbgError, ValueError):
    """Options or a spec that cannot be carried out: change the options."""

    exit_code = 2


class SourceError(FgbgError, ValueError):
    """Pictures that cannot be used: fix or remove the files that the message names."""

    exit_code = 3


class DatasetError(FgbgError):
    """A dataset that is missing, unreadable, not ours, or of a newer schema."""

    exit_code = 4


class IncompleteDatasetError(DatasetError):
    """A dataset whose creation has not finished: run the same ``create`` again to finish it."""


class RecipeMismatchError(DatasetError):
    """An existing dataset that was made with other options than the ones given."""


class DepthModelError(FgbgError, ValueError):
    """A depth model, its card, or the device to run it on: the message says which and what to do."""

    exit_code = 5
