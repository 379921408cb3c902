"""Who may ask, and what browsers may do with the answers."""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from fgbgpack.viewer.http import Refusal, Request, Response

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

_LOCAL_NAMES = ("localhost",)
_PLACE = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?")


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

    def admit(self, request: Request) -> Response | None:
        """Refuses what may not ask; else the answer that takes a token out of an address, where it has one.

        Raises:
            Refusal: 421 for another host, 403 for another site, 401 without the token.
        """
        if not self._is_own(request.fields.get("host", "")):
            raise Refusal(421, "The header field Host does not name this server.")
        site = request.fields.get("sec-fetch-site", "none")
        is_page = request.path == "/" and request.fields.get("sec-fetch-mode", "navigate") == "navigate"
        if site not in ("none", "same-origin") and not is_page:
            raise Refusal(403, "Pages of other sites get nothing.")
        if self.token is None:
            return None
        given = request.parameters.get(TOKEN)
        if given is not None and request.path == "/":
            if not self._is_token(given):
                raise Refusal(401, "The token is wrong: use the address that fgbgpack view has printed.")
            cookie = f"{self._cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"
            return Response(303, fields={"Location": "/", "Set-Cookie": cookie, "Cache-Control": "no-store"})
        if not self._is_token(_cookies(request.fields.get("cookie", "")).get(self._cookie, "")):
            raise Refusal(401, "The token is missing: use the address that fgbgpack view has printed.")
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


def _cookies(text: str) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in text.split(";"))
    return {name: value for name, _, value in pairs}
