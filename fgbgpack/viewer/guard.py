"""Who may ask, and what browsers may do with the answers."""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

#: What browsers are allowed: this server's own scripts, styles and pictures, and nothing else.
FIELDS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
#: The parameter of an address that holds the token.
TOKEN = "token"  # noqa: S105

#: The most bytes of a request, and of its target, which holds all filters of a page.
MOST_HEAD, _MOST_TARGET = 16_384, 8_192
#: The most parameters of a request.
_MOST_PARAMETERS = 100

_LOCAL_NAMES = ("localhost",)
_PLACE = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?")


def parameters_of(request: Request) -> dict[str, str]:
    """The parameters of a request that is a GET of bounded size without a body.

    Raises:
        HTTPException: It is not; its connection is to be closed, since a body may follow.
    """
    closing = {"Connection": "close"}
    path, query = request.scope["raw_path"], request.scope["query_string"]
    if request.scope["http_version"] not in ("1.0", "1.1") or not path.startswith(b"/"):
        raise HTTPException(400, "This is no request of HTTP/1.1.", closing)
    if request.method != "GET":
        raise HTTPException(405, "Only GET is answered.", {"Allow": "GET"} | closing)
    if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
        raise HTTPException(413, "Requests have no body here.", closing)
    target = len(path) + len(query)
    if target > _MOST_TARGET:
        raise HTTPException(414, f"The address is longer than {_MOST_TARGET} bytes.", closing)
    if target + sum(len(name) + len(value) for name, value in request.headers.raw) > MOST_HEAD:
        raise HTTPException(431, f"The request is longer than {MOST_HEAD} bytes.", closing)
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(query),
            errors="strict",
            max_num_fields=_MOST_PARAMETERS,
        )
    except ValueError:
        raise HTTPException(400, "The parameters are none, or too many.") from None
    found = dict(pairs)
    if len(found) < len(pairs):
        raise HTTPException(400, "A parameter comes twice.")
    return found


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens at an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in _LOCAL_NAMES


@dataclass(frozen=True)
class Guard:
    """Refuses requests of pages of other sites, by the host that they name, and of those without the token.

    A browser that is lured to a name that leads to this machine still sends that name as Host: only this
    machine's own are answered. ``token`` is ``None`` where only this machine can ask.
    """

    host: str
    port: int
    token: str | None

    @classmethod
    def of(cls, host: str, port: int) -> Guard:
        """The guard of a server: with a new token, unless it listens to this machine alone."""
        return cls(host, port, None if is_loopback(host) else secrets.token_urlsafe(24))

    @property
    def address(self) -> str:
        """The address of the page, with the token."""
        host = self.host
        if host in ("0.0.0.0", "::"):  # noqa: S104
            host = socket.gethostname()
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}/" + ("" if self.token is None else f"?{TOKEN}={self.token}")

    def admit(self, request: Request, parameters: Mapping[str, str]) -> Response | None:
        """Refuses what may not ask; else the answer that takes a token out of an address, where it has one.

        Raises:
            HTTPException: 421 for another host, 403 for another site, 401 without the token.
        """
        if not self._is_own(request.headers.get("host", "")):
            raise HTTPException(421, "The header field Host does not name this server.")
        site = request.headers.get("sec-fetch-site", "none")
        at_page = request.scope["path"] == "/"
        is_page = at_page and request.headers.get("sec-fetch-mode", "navigate") == "navigate"
        if site not in ("none", "same-origin") and not is_page:
            raise HTTPException(403, "Pages of other sites get nothing.")
        if self.token is None:
            return None
        if at_page and (given := parameters.get(TOKEN)) is not None:
            if not self._is_token(given):
                raise HTTPException(
                    401, "The token is wrong: use the address that fgbgpack view has printed."
                )
            response = RedirectResponse("/", 303, headers={"Cache-Control": "no-store"})
            response.set_cookie(self._cookie, self.token, httponly=True, samesite="strict")
            return response
        if not self._is_token(request.cookies.get(self._cookie, "")):
            raise HTTPException(401, "The token is missing: use the address that was printed.")
        return None

    @property
    def _cookie(self) -> str:
        # Cookies are shared by all ports of a host.
        return f"fgbgpack-view-{self.port}"

    def _is_token(self, given: str) -> bool:
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())

    def _is_own(self, host: str) -> bool:
        match = _PLACE.fullmatch(host)
        if match is None or int(match[2] or 80) != self.port:
            return False
        name = match[1].strip("[]").lower()
        if name in (self.host.lower(), *_LOCAL_NAMES) or is_loopback(name):
            return True
        if self.token is None:
            return False
        # Reached from elsewhere: by a number, which no other site can make its own, or by a name of its own.
        return _is_number(name) or name in (socket.gethostname().lower(), socket.getfqdn().lower())


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
