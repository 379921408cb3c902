"""Find, validate and upgrade the JSON documents that fgbgpack writes and reads.

A document names its schema in its ``schema`` field, ``"<name>/<major>.<minor>"``. Released schemas
never change: a document of an older version is upgraded in memory, one version step at a time; a
document of a newer minor version is read as far as this version understands it; a newer major
version is refused.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from fgbgpack.conformance import Check, conformance, is_integer, is_number, is_unique, pattern_of
from fgbgpack.errors import DatasetError, FgbgError, SpecError
from fgbgpack.inputs import parse_json

#: The newest version of each schema, the one that this version of fgbgpack writes.
CURRENT: Mapping[str, str] = {
    "cutout-model": "1.0",
    "dataset": "1.0",
    "depth-model": "1.0",
    "export": "1.0",
    "spec": "1.0",
    "stats": "1.0",
}

#: ``(name, from version)`` to the function that turns such a document into one of the next version.
_UPGRADES: Mapping[tuple[str, str], Callable[[dict[str, Any]], dict[str, Any]]] = {}

_ENDING = ".schema.json"
_TAG = re.compile(r"(?P<name>[a-z-]+)/(?P<major>[0-9]{1,6})\.(?P<minor>[0-9]{1,6})")
# Violations that are looked for: a document of a million wrong values has more than anybody reads.
_MOST_PROBLEMS = 100
_SHOWN = 80


class NewerSchemaWarning(UserWarning):
    """A document was written by a newer fgbgpack, with fields that this version ignores."""


def folder() -> Path:
    """The folder of the schemas: in the package where it is installed, in the root of a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "schemas"
    return installed if installed.is_dir() else package.parent / "schemas"


@cache
def _text(name: str, version: str) -> str:
    return (folder() / name / f"{version}{_ENDING}").read_text(encoding="utf-8")


def load_schema(name: str, version: str | None = None) -> dict[str, Any]:
    """The JSON Schema (2020-12) called ``name``, the newest version unless one is given (SpecError)."""
    if name not in CURRENT:
        raise SpecError(
            f"There is no schema {name!r}. The schemas are {', '.join(CURRENT)}.", code="schema-unknown"
        )
    try:
        schema: dict[str, Any] = parse_json(_text(name, version or CURRENT[name]))
    except FileNotFoundError as exc:
        versions = ", ".join(sorted(p.name.removesuffix(_ENDING) for p in (folder() / name).iterdir()))
        raise SpecError(
            f"Schema {name!r} has no version {version!r}. It has {versions}.", code="schema-unknown"
        ) from exc
    return schema


@cache
def _conforms(name: str) -> Check:
    return conformance(load_schema(name))


@cache
def _validator(name: str) -> Any:
    # Imported where it is used: importing it takes longer than most commands.
    from jsonschema import Draft202012Validator, ValidationError
    from jsonschema.validators import extend

    def unique(_: Any, wanted: bool, instance: object, __: object) -> Iterator[Any]:
        # jsonschema's own compares each with each, where they cannot be sorted.
        if wanted and isinstance(instance, list) and not is_unique(instance):
            yield ValidationError("it has the same item more than once")

    def matches(_: Any, pattern: str, instance: object, __: object) -> Iterator[Any]:
        if isinstance(instance, str) and not pattern_of(pattern).search(instance):
            yield ValidationError(f"{instance[:_SHOWN]!r} does not match {pattern!r}")

    kinds = {"integer": lambda _, value: is_integer(value), "number": lambda _, value: is_number(value)}
    checker = Draft202012Validator.TYPE_CHECKER.redefine_many(kinds)
    keywords = {"uniqueItems": unique, "pattern": matches}
    return extend(Draft202012Validator, keywords, type_checker=checker)(load_schema(name))


def problems(name: str, document: object) -> list[str]:
    """Violations of the newest schema called ``name``: ``field: what was found (expected: ...)``.

    They are all that there are, or the first 100 that are found.
    """
    if _conforms(name)(document):
        return []
    found = list(islice(_validator(name).iter_errors(document), _MOST_PROBLEMS))
    return [_explain(error) for error in sorted(found, key=lambda error: [str(p) for p in error.path])]


def _explain(error: Any) -> str:
    where = ".".join(str(part) for part in error.absolute_path) or "the document"
    expected = error.schema.get("description") if isinstance(error.schema, Mapping) else None
    if error.validator in {"oneOf", "anyOf"} and error.context:
        # The branch that matches deepest is most likely the intended one.
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
    """Check a document and upgrade it to a new one of version ``CURRENT[name]``; it is not changed itself.

    Raises what ``error`` makes of a message and the problems, with the code ``schema-mismatch`` for a
    document of another kind, ``schema-newer`` for a newer major version, ``schema-unknown`` for a version
    that was never released, ``schema-violated`` with all problems otherwise.
    """

    def refusal(message: str, code: str, violations: Sequence[str] = ()) -> FgbgError:
        made = error(message, list(violations))
        made.code = code
        return made

    tag = document.get("schema") if isinstance(document, Mapping) else None
    match = _TAG.fullmatch(tag) if isinstance(tag, str) else None
    if not isinstance(document, Mapping) or match is None or match["name"] != name:
        raise refusal(
            f"{where} is not a {name} document: its 'schema' is {tag!r}, expected {name}/<version>.",
            "schema-mismatch",
        )
    major, minor = int(match["major"]), int(match["minor"])
    newest = f"{name}/{CURRENT[name]}"
    newest_major, newest_minor = (int(part) for part in CURRENT[name].split("."))
    if major > newest_major:
        raise refusal(
            f"{where} has schema {tag}; this fgbgpack reads up to {newest}. "
            "Update it with: pip install --upgrade fgbgpack",
            "schema-newer",
        )
    current = copy.deepcopy(dict(document))
    if major == newest_major and minor > newest_minor:
        warnings.warn(
            f"{where} has schema {tag}, newer than {newest}: fields that are new in it are ignored.",
            NewerSchemaWarning,
            stacklevel=2,
        )
        current = _without_unknown(current, load_schema(name))
        current["schema"] = newest
    while current["schema"] != newest:
        version = current["schema"].removeprefix(f"{name}/")
        if (name, version) not in _UPGRADES:
            raise refusal(
                f"{where} has schema {current['schema']}, which was never released.", "schema-unknown"
            )
        current = _UPGRADES[name, version](current)
    if found := problems(name, current):
        raise refusal(f"{where} does not follow schema {newest}:", "schema-violated", found)
    return current


def _without_unknown(value: Any, schema: Mapping[str, Any]) -> Any:
    """Drop unknown fields at every level where the schema allows no others."""
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
