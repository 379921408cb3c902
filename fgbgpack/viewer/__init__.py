"""A page to browse datasets, and the server of it.

Needs Starlette and uvicorn (the extra ``view``); nothing but the command line imports this package.
"""

from fgbgpack.errors import SpecError

try:
    import starlette as _starlette  # noqa: F401 only to name the extra if it is missing
    import uvicorn as _uvicorn  # noqa: F401
except ModuleNotFoundError as exc:
    raise SpecError(
        f"fgbgpack view needs {exc.name}, which is not installed: pip install 'fgbgpack[view]'",
        code="extra-missing",
    ) from exc
