"""Whether a document follows a JSON Schema, yes or no, as fast as Python tells.

``jsonschema`` says what is wrong with a document, in a time that makes up most of what opening a dataset
takes. Nearly every document is right, so it is asked only about those that are not: a schema is made into
nested functions once, and these are called.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

#: Whether a value is as part of a schema says.
Check: TypeAlias = Callable[[Any], bool]

#: Keywords that say nothing on what a document may be.
_WITHOUT_EFFECT = {"$schema", "$id", "$defs", "title", "description", "default", "examples"}
#: Those that another one looks at.
_BESIDE_OTHERS = {"then", "else", "additionalProperties", "patternProperties"}


@cache
def pattern_of(pattern: str) -> re.Pattern[str]:
    """A pattern of a schema: to Python alone, ``$`` is also before a line's end."""
    return re.compile(f"{pattern[:-1]}\\Z" if pattern.endswith("$") else pattern)


def is_integer(value: object) -> bool:
    """JSON Schema counts 3.0 as an integer; Python, which uses these numbers, does not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """NaN, which Python counts as a number, cannot be written as JSON."""
    return is_integer(value) or (isinstance(value, float) and math.isfinite(value))


def is_unique(items: Sequence[object]) -> bool:
    """Whether no item is there twice."""
    return len(set(map(json.dumps, items))) == len(items)


def conformance(schema: Mapping[str, Any]) -> Check:
    """A function that tells whether a document follows a schema.

    Types are as :func:`is_integer` and :func:`is_number` have them. Raises ValueError where the schema has a
    keyword that this module does not know.
    """
    return _Schemas(schema).check(schema)


_TYPES: Mapping[str, Check] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": is_integer,
    "number": is_number,
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


class _Schemas:
    """Makes functions of the parts of one schema."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._referred: dict[str, Check] = {}

    def check(self, schema: Any) -> Check:
        """The function of a part."""
        if isinstance(schema, bool):
            return lambda _: schema
        checks = []
        for keyword, given in schema.items():
            if keyword in _WITHOUT_EFFECT or keyword in _BESIDE_OTHERS:
                continue
            if keyword not in _KEYWORDS:
                raise ValueError(f"the schema has {keyword!r}, which is not known here")
            checks.append(_KEYWORDS[keyword](self, given, schema))
        if "properties" not in schema and _BESIDE_OTHERS - {"then", "else"} & schema.keys():
            checks.append(self._properties({}, schema))
        return checks[0] if len(checks) == 1 else _every(checks)

    # --- any value ---------------------------------------------------------------------------------

    def _ref(self, given: str, _: Any) -> Check:
        if given not in self._referred:
            part: Any = self._root
            for name in given.removeprefix("#/").split("/"):
                part = part[name]
            self._referred[given] = self.check(part)
        return self._referred[given]

    def _type(self, given: str | list[str], _: Any) -> Check:
        if isinstance(given, str):
            return _TYPES[given]
        kinds = [_TYPES[name] for name in given]
        return lambda value: any(is_kind(value) for is_kind in kinds)

    def _const(self, given: Any, _: Any) -> Check:
        return self._enum([given], _)

    def _enum(self, given: list[Any], _: Any) -> Check:
        if not all(one is None or isinstance(one, (str, bool, int)) for one in given):
            raise ValueError(f"the schema has the values {given}, which are not compared here")
        # 1 is not true, but it is 1.0.
        known = {(isinstance(one, bool), one) for one in given}
        kinds = (str, bool, int, float, type(None))
        return lambda value: isinstance(value, kinds) and (isinstance(value, bool), value) in known

    def _not(self, given: Any, _: Any) -> Check:
        check = self.check(given)
        return lambda value: not check(value)

    def _any_of(self, given: list[Any], _: Any) -> Check:
        checks = [self.check(one) for one in given]
        return lambda value: any(check(value) for check in checks)

    def _one_of(self, given: list[Any], _: Any) -> Check:
        checks = [self.check(one) for one in given]
        return lambda value: sum(check(value) for check in checks) == 1

    def _if(self, given: Any, schema: Mapping[str, Any]) -> Check:
        condition, then, other = map(self.check, (given, schema.get("then", True), schema.get("else", True)))
        return lambda value: then(value) if condition(value) else other(value)

    # --- numbers and texts -------------------------------------------------------------------------

    def _minimum(self, given: float, _: Any) -> Check:
        return lambda value: not is_number(value) or value >= given

    def _maximum(self, given: float, _: Any) -> Check:
        return lambda value: not is_number(value) or value <= given

    def _exclusive_minimum(self, given: float, _: Any) -> Check:
        return lambda value: not is_number(value) or value > given

    def _min_length(self, given: int, _: Any) -> Check:
        return lambda value: not isinstance(value, str) or len(value) >= given

    def _pattern(self, given: str, _: Any) -> Check:
        search = pattern_of(given).search
        return lambda value: not isinstance(value, str) or search(value) is not None

    # --- arrays ------------------------------------------------------------------------------------

    def _items(self, given: Any, _: Any) -> Check:
        check = self.check(given)
        return lambda value: not isinstance(value, list) or all(map(check, value))

    def _min_items(self, given: int, _: Any) -> Check:
        return lambda value: not isinstance(value, list) or len(value) >= given

    def _max_items(self, given: int, _: Any) -> Check:
        return lambda value: not isinstance(value, list) or len(value) <= given

    def _unique_items(self, given: bool, _: Any) -> Check:
        return lambda value: not (given and isinstance(value, list)) or is_unique(value)

    # --- objects -----------------------------------------------------------------------------------

    def _required(self, given: list[str], _: Any) -> Check:
        names = frozenset(given)
        return lambda value: not isinstance(value, dict) or names <= value.keys()

    def _dependent_required(self, given: Mapping[str, list[str]], _: Any) -> Check:
        return lambda value: (
            not isinstance(value, dict)
            or all(value.keys() >= set(names) for name, names in given.items() if name in value)
        )

    def _min_properties(self, given: int, _: Any) -> Check:
        return lambda value: not isinstance(value, dict) or len(value) >= given

    def _max_properties(self, given: int, _: Any) -> Check:
        return lambda value: not isinstance(value, dict) or len(value) <= given

    def _property_names(self, given: Any, _: Any) -> Check:
        check = self.check(given)
        return lambda value: not isinstance(value, dict) or all(map(check, value))

    def _properties(self, given: Mapping[str, Any], schema: Mapping[str, Any]) -> Check:
        known = {name: self.check(part) for name, part in given.items()}
        others = self.check(schema.get("additionalProperties", True))
        patterns = [
            (re.compile(pattern).search, self.check(part))
            for pattern, part in schema.get("patternProperties", {}).items()
        ]

        def is_right(name: str, field: Any) -> bool:
            checks = [check for search, check in patterns if search(name)]
            if name in known:
                checks.append(known[name])
            return all(check(field) for check in checks) if checks else others(field)

        def check(value: Any) -> bool:
            if not isinstance(value, dict):
                return True
            if patterns:
                return all(is_right(name, field) for name, field in value.items())
            return all(known.get(name, others)(field) for name, field in value.items())

        return check


_KEYWORDS: Mapping[str, Callable[[_Schemas, Any, Mapping[str, Any]], Check]] = {
    "$ref": _Schemas._ref,
    "type": _Schemas._type,
    "const": _Schemas._const,
    "enum": _Schemas._enum,
    "not": _Schemas._not,
    "anyOf": _Schemas._any_of,
    "oneOf": _Schemas._one_of,
    "if": _Schemas._if,
    "minimum": _Schemas._minimum,
    "maximum": _Schemas._maximum,
    "exclusiveMinimum": _Schemas._exclusive_minimum,
    "minLength": _Schemas._min_length,
    "pattern": _Schemas._pattern,
    "items": _Schemas._items,
    "minItems": _Schemas._min_items,
    "maxItems": _Schemas._max_items,
    "uniqueItems": _Schemas._unique_items,
    "required": _Schemas._required,
    "dependentRequired": _Schemas._dependent_required,
    "minProperties": _Schemas._min_properties,
    "maxProperties": _Schemas._max_properties,
    "propertyNames": _Schemas._property_names,
    "properties": _Schemas._properties,
}


def _every(checks: Sequence[Check]) -> Check:
    def every(value: Any) -> bool:
        for check in checks:  # noqa: SIM110 (a generator takes longer)
            if not check(value):
                return False
        return True

    return every
