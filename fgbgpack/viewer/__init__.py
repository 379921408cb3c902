"""A page to browse datasets, and the server of it.

Needs Starlette and uvicorn (the extra ``view``); nothing but the command line imports this package.
"""

from fgbgpack.extras import require as _require

for _package in ("starlette", "uvicorn"):
    _require(_package, extra="view", needed_by="fgbgpack view")
