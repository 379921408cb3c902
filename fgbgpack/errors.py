"""The errors that fgbgpack raises, grouped by what the caller would do about them.

Every message says what is wrong, where, what was expected, and what to do. Where an input has
several problems, they are reported together: one line each, in ``problems``. Every error has a
``code`` that stays the same when its message is reworded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

#: What one URL looks like in a text, as far as it may hold something secret.
_USER = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<user>[^/@\s'\"<>?#]+)@")
_QUERY = re.compile(r"(?P<url>[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>?#]+)[?#][^\s'\"<>]*")
_HIDDEN = "***"
#: Schemes of which what comes before the @ is the container.
_AZURE = ("abfs", "abfss", "az", "azure", "adl", "wasb", "wasbs")


def redacted(text: str) -> str:
    """A text without passwords, tokens and signatures in the URLs in it."""

    def hide(match: re.Match[str]) -> str:
        is_container = match["scheme"].lower() in _AZURE and ":" not in match["user"]
        return match[0] if is_container else f"{match['scheme']}://{_HIDDEN}@"

    return _QUERY.sub(rf"\g<url>?{_HIDDEN}", _USER.sub(hide, text))


class FgbgError(Exception):
    """Base of every error that fgbgpack raises on purpose.

    Args:
        message: One or two sentences: what is wrong and what to do.
        problems: One line for each offending thing, when there are several.
        code: The kind of error, in kebab case; ``None`` for that of the class.

    Attributes:
        message: The same.
        problems: The same.
        code: The kind of error: stable, for programs that handle it.
        exit_status: What the command line exits with.
    """

    exit_status: int = 1
    code: str = "error"

    def __init__(self, message: str, problems: Sequence[str] = (), *, code: str | None = None) -> None:
        self.message = message
        self.problems = tuple(problems)
        if code is not None:
            self.code = code
        super().__init__("\n".join([message, *(f"  - {problem}" for problem in self.problems)]))


class SpecError(FgbgError, ValueError):
    """Options or a spec that cannot be carried out: change the options."""

    exit_status = 2
    code = "spec-invalid"


class MissingPackageError(FgbgError, ImportError):
    """A package that is needed and cannot be imported: the message says how to install it."""

    exit_status = 2
    code = "extra-missing"


class SourceError(FgbgError, ValueError):
    """Pictures that cannot be used: fix or remove the files that the message names."""

    exit_status = 3
    code = "source-unusable"


class DatasetError(FgbgError):
    """A dataset that is missing, unreadable, not made by fgbgpack, or of a newer schema."""

    exit_status = 4
    code = "dataset-unusable"


class IncompleteDatasetError(DatasetError):
    """A dataset whose creation has not finished: run the same ``create`` again to finish it."""

    code = "dataset-incomplete"


class RecipeMismatchError(DatasetError):
    """An existing dataset that was made with other options than the ones given."""

    code = "dataset-differs"


class DepthModelError(FgbgError, ValueError):
    """A depth model, its card, or the device to run it on: the message says which and what to do."""

    exit_status = 5
    code = "depth-model-unusable"


class ClusterError(FgbgError):
    """Workers in other processes that cannot be reached, or cannot do the work: the message says which."""

    exit_status = 6
    code = "cluster-unusable"
