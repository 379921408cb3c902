"""Griffe extension: reads this package's docstrings as Markdown in Google style."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Docstrings(griffe.Extension):
    """Names the section ``Example`` as Griffe does, and shows roles such as ``:func:`create``` as code."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of an object before it is parsed."""
        if obj.docstring is not None:
            text = re.sub(r":(?:func|class|meth|mod|data|attr):`~?", "`", obj.docstring.value)
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
