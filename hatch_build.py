"""Records the commit in what is built: wheels say which code they hold without git.

A source distribution carries the record on to the wheels built from it. A checkout is read at run time
instead, so an editable install records nothing.
"""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CommitHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds ``fgbgpack/COMMIT`` where git knows the commit."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatch before each build."""
        root = Path(self.root)
        spec = importlib.util.spec_from_file_location("version", root / "fgbgpack" / "version.py")
        if version == "editable" or spec is None or spec.loader is None:
            return
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        commit = module.checkout_commit(root)
        if commit is not None:
            self._folder = tempfile.TemporaryDirectory()
            record = Path(self._folder.name) / module.COMMIT_FILE
            record.write_text(f"{commit}\n", encoding="utf-8")
            build_data["force_include"][str(record)] = f"fgbgpack/{module.COMMIT_FILE}"
