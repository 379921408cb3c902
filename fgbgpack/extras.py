"""Packages that only some work needs: imported where that begins, or named with their extra."""

from __future__ import annotations

import importlib
from types import ModuleType

from fgbgpack.errors import MissingPackageError

#: What packages are called where they are installed, if not as they are imported.
_PACKAGES = {"yaml": "pyyaml", "pillow_heif": "pillow-heif", "pillow_jxl": "pillow-jxl-plugin"}


def require(module: str, *, extra: str, needed_by: str, otherwise: str = "") -> ModuleType:
    """Imports a module of a package that an extra installs.

    Args:
        module: Its dotted name, such as ``"pyarrow.parquet"``.
        extra: The extra of fgbgpack that installs its package.
        needed_by: What needs it: the subject of the message, such as an option or the name of a dataset.
        otherwise: A sentence about what works without it.

    Raises:
        MissingPackageError: The package is not installed, or is installed and cannot be imported.
    """
    try:
        # The package first: where that is missing, its module may still be loaded.
        importlib.import_module(module.partition(".")[0])
        return importlib.import_module(module)
    except Exception as exc:  # a package that is broken raises errors of any kind
        message = f"{needed_by} needs {lack_of(module, extra, exc)}."
        raise MissingPackageError(" ".join(filter(None, [message, otherwise]))) from exc


def lack_of(module: str, extra: str, error: Exception) -> str:
    """The package of a module that raised an error when it was imported: its name, what is wrong with it, and
    the command that mends it.
    """
    imported = module.partition(".")[0]
    package = _PACKAGES.get(imported, imported)
    if isinstance(error, ModuleNotFoundError) and error.name == imported:
        return f"{package}, which is not installed: {installing(extra)}"
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return (
        f"{package}, which is installed and cannot be imported ({reason}): "
        f"pip install --force-reinstall {package}"
    )


def installing(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'fgbgpack[{extra}]'"
