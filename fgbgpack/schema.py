"""Find, validate and upgrade the JSON documents that fgbgpack writes and reads.

A document names its schema in its ``schema`` field, ``"<name>/<major>.<minor>"``. Released schemas
never change: a document of an older version is upgraded in memory, one version step at a time; a
document of a newer minor version is read as far as this version understands it; a newer major
version is refused.
"""

from __future__ import annotations

import copy
import json
import re
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fgbgpack.errors import DatasetError, FgbgError, SpecError

#: The newest version of each schema, the one that this version of fgbgpack writes.
CURRENT: Mapping[str, str] = {"dataset": "1.0", "depth-model": "1.0", "export": "1.0", "spec": "1.0"}

#: ``(name, from version)`` to the function that turns such a document into one of the next version.
_UPGRADES: Mapping[tuple[str, str], Callable[[dict[str, Any]], dict[str, Any]]] = {}

_TAG = re.compile(r"(?P<name>[a-z-]+)/(?P<major>\d+)\.(?P<minor>\d+)")


class NewerSchemaWarning(UserWarning):
    """A document was written by a newer fgbgpack with additions that this one does not know."""


def _folder() -> Path:
    """The schemas: beside the code in an installed wheel, in the root of the repository otherwise."""
    package = Path(__file__).resolve().parent
    installed = package / "schemas"
    return installed if installed.is_dir() else package.parent / "schemas"


def schema_names() -> list[str]:
    """The names of the documents that have a schema, sorted."""
    return sorted(CURRENT)


@cache
def _text(name: str, version: str) -> str:
    return (_folder() / name / f"{version}.schema.json").read_text(encoding="utf-8")


def load_schema(name: str, version: str | None = None) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) called ``name``, the newest version unless one is given.

    Raises:
        SpecError: There is no schema of that name or version.
    """
    if name not in CURRENT:
        raise SpecError(f"There is no schema called {name!r}. The schemas are {', '.join(schema_names())}.")
    try:
        schema: dict[str, Any] = json.loads(_text(name, version or CURRENT[name]))
    except FileNotFoundError as exc:
        versions = ", ".join(
            sorted(p.name[: -len(".schema.json")] for p in (_folder() / name).glob("*.json"))
        )
        raise SpecError(f"Schema {name!r} has no version {version!r}. It has {versions}.") from exc
    return schema


@cache
def _validator(name: str) -> Any:
    # Imported where it is used: it takes longer to import than most commands take to run.
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    # JSON Schema counts 3.0 as an integer; Python, which uses these numbers, does not.
    strict = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    return extend(Draft202012Validator, type_checker=strict)(load_schema(name))


def problems(name: str, document: object) -> list[str]:
    """Every way in which ``document`` breaks the newest schema called ``name``.

    Returns:
        One line for each, as ``where: what was found and what was expected``; empty if there is none.
    """
    errors = sorted(_validator(name).iter_errors(document), key=lambda error: [str(p) for p in error.path])
    return [_explain(error) for error in errors]


def _explain(error: Any) -> str:
    where = ".".join(str(part) for part in error.absolute_path) or "the document"
    expected = error.schema.get("description") if isinstance(error.schema, Mapping) else None
    if error.validator in {"oneOf", "anyOf"} and error.context:
        # The branch that got furthest says best what was meant.
        closest = max(error.context, key=lambda e: len(e.absolute_path))
        detail = closest.message if closest.absolute_path != error.absolute_path else error.message
    else:
        detail = error.message
    if len(detail) > 200:
        detail = f"{detail[:200]}..."
    shows_what_is_wrong = error.validator in {"additionalProperties", "required", "const"}
    return f"{where}: {detail}" + (f" (expected: {expected})" if expected and not shows_what_is_wrong else "")


def read(
    name: str, document: object, *, where: str, error: Callable[[str, list[str]], FgbgError] = DatasetError
) -> dict[str, Any]:
    """Check ``document`` and bring it to the newest version of the schema called ``name``.

    Args:
        name: The schema that the document must follow.
        document: The parsed JSON. It is not changed.
        where: The file or array that it came from, for messages.
        error: What to raise, called with a message and the list of problems.

    Returns:
        A new document of version ``CURRENT[name]``.

    Raises:
        FgbgError: ``error(...)`` where the document is of another kind, of a newer major version, or
            breaks its schema.
    """
    tag = document.get("schema") if isinstance(document, Mapping) else None
    match = _TAG.fullmatch(tag) if isinstance(tag, str) else None
    if not isinstance(document, Mapping) or match is None or match["name"] != name:
        raise error(
            f"{where} is not a {name} document: its 'schema' is {tag!r}, expected {name}/<version>.", []
        )
    major, minor = int(match["major"]), int(match["minor"])
    newest_major, newest_minor = (int(part) for part in CURRENT[name].split("."))
    if major > newest_major:
        raise error(
            f"{where} is of schema {tag}; this fgbgpack reads up to {name}/{CURRENT[name]}. "
            "Update it with: pip install --upgrade fgbgpack",
            [],
        )
    current = copy.deepcopy(dict(document))
    if major == newest_major and minor > newest_minor:
        warnings.warn(
            f"{where} is of schema {tag}, newer than {name}/{CURRENT[name]}: what is new in it is ignored.",
            NewerSchemaWarning,
            stacklevel=2,
        )
        current = _without_unknown(current, load_schema(name))
        current["schema"] = f"{name}/{CURRENT[name]}"
    while current["schema"] != f"{name}/{CURRENT[name]}":
        version = current["schema"].removeprefix(f"{name}/")
        if (name, version) not in _UPGRADES:
            raise error(f"{where} is of schema {current['schema']}, which was never released.", [])
        current = _UPGRADES[name, version](current)
    found = problems(name, current)
    if found:
        raise error(f"{where} does not follow schema {name}/{CURRENT[name]}:", found)
    return current


def _without_unknown(value: Any, schema: Mapping[str, Any]) -> Any:
    """Drop the fields that a newer minor version added, at every level whose fields the schema fixes."""
    if isinstance(value, list):
        return [_without_unknown(item, schema.get("items", {})) for item in value]
    if not isinstance(value, dict):
        return value
    known = schema.get("properties", {})
    patterns = schema.get("patternProperties", {})
    is_open = schema.get("additionalProperties", True) is not False
    return {
        key: _without_unknown(field, known.get(key, {}))
        for key, field in value.items()
        if is_open or key in known or any(re.search(pattern, key) for pattern in patterns)
    }
