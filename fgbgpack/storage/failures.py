"""What went wrong with a request to a store: which object, which request, how often, and what to do.

Stores raise errors of their own, whose texts may contain signatures, keys and whole addresses. The messages
here contain only what is known to be harmless: the kind of failure, the status, and the server's code for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from fgbgpack.errors import DatasetError, redacted
from fgbgpack.files import is_full

#: Errors of aiohttp for answers that ended too soon.
_CUT_OFF = ("ClientPayloadError", "ServerDisconnectedError")
#: Statuses after which the same request may succeed.
_PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))
_FULL = 507
_SERVER_ERROR = 500
_UNSUPPORTED = (501, 505)

_STATUS = re.compile(r"status code: (\d{3})")
_SERVER_CODE = re.compile(r"<Code>([A-Za-z0-9_.-]{1,64})</Code>")
_TRIES = re.compile(r"\bretries: (\d+),")
_KIND = re.compile(r"\bkind: (Connect|Timeout|Interrupted|Decode|Request),")
#: What happened to a request that got no answer, in the words of obstore.
_HTTP_ERROR = re.compile(r" - HTTP error: ([A-Za-z ]{1,80})$", re.MULTILINE)
_LONGEST_REASON = 300


@dataclass(frozen=True)
class Failure:
    """How a request failed: ``status`` is HTTP's, where there was an answer; ``reason`` what the server calls
    it, or what happened to the connection; ``tries`` how often it was made.
    """

    kind: str
    status: int | None
    reason: str
    tries: int

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """The failure that an error of obstore, or of a package that fsspec uses, reports."""
        text = str(error)
        status = _status_of(error, text)
        code = found[1] if (found := _SERVER_CODE.search(text)) else ""
        tries = 1 + int(found[1]) if (found := _TRIES.search(text)) else 1
        reason = code
        if not reason and (found := _HTTP_ERROR.search(text)):
            reason = found[1]
        if not reason and not _is_of_obstore(error, text):
            reason = redacted(text.partition("\n")[0])[:_LONGEST_REASON].rstrip(".")
        return cls(_kind_of(error, text, status, code), status, reason, tries)

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed when it is made again."""
        return self.kind in ("busy", "timeout", "cut", "unreachable")

    def error(
        self, where: str, request: str, *, tries: int = 1, seconds: float | None = None
    ) -> DatasetError:
        """The error for users: ``where`` is the object, ``request`` such as ``PUT``."""
        took = "" if seconds is None or tries == 1 else f" in {seconds:.0f} s"
        often = f" (tried {tries} times{took})" if tries > 1 else ""
        is_said = self.status is None or str(self.status) in self.reason
        answer = self.reason if is_said else f"{self.status} {self.reason}".rstrip()

        def failed(what: str, hint: str, code: str) -> DatasetError:
            said = f"{what} ({answer})" if answer else what
            return DatasetError(f"{request} of {redacted(where)} failed{often}: {said}. {hint}", code=code)

        again = "Run the same command again"
        match self.kind:
            case "denied":
                hint = "Check the credentials, what they permit, and the name of the bucket. "
                hint += "Without credentials a public one needs --storage-option skip_signature=true."
                return failed("the store denies it", hint, "store-denied")
            case "bucket":
                hint = "Check its name and the endpoint, or make it."
                return failed("there is no such bucket", hint, "bucket-missing")
            case "missing":
                hint = "Check the bucket and the endpoint; something else may delete objects."
                return failed("there is no such object", hint, "object-missing")
            case "elsewhere":
                hint = "Give it with --storage-option region=NAME, or AWS_REGION."
                return failed("the bucket is in another region", hint, "bucket-elsewhere")
            case "full":
                hint = f"Make room. {again}: what is written already stays."
                return failed("the store is full", hint, "disk-full")
            case "timeout":
                hint = f"{again}, or with a larger --storage-option timeout=SECONDS."
                return failed("no answer in time", hint, "store-timeout")
            case "unreachable":
                hint = f"Check the endpoint, the network, and that the server runs. {again}."
                return failed("the server cannot be reached", hint, "store-unreachable")
            case "cut":
                return failed("the connection was cut", f"{again}.", "store-cut-off")
            case "busy":
                hint = f"{again}, or with a larger --storage-option max_retries=N."
                return failed("the server failed or is overloaded", hint, "store-busy")
            case _:
                return failed("the store refuses it", "Check the URL and the storage options.", "io-failed")


def _is_of_obstore(error: BaseException, text: str) -> bool:
    """Whether a text is one of obstore, which quotes what the server said, and whole addresses."""
    return type(error).__module__.startswith("obstore") or "Debug source" in text


def _status_of(error: BaseException, text: str) -> int | None:
    """The HTTP status that an error tells of: obstore in its text, aiohttp and botocore as attributes."""
    if match := _STATUS.search(text):
        return int(match[1])
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        found = getattr(error, "status", None) or getattr(response, "status_code", None)
    return found if isinstance(found, int) else None


def _kind_of(error: BaseException, text: str, status: int | None, code: str) -> str:
    name = type(error).__name__
    connection = found[1] if (found := _KIND.search(text)) else ""
    if code == "NoSuchBucket":
        return "bucket"
    if status in (301, 307, 308) or "redirect" in text.partition("Debug source")[0]:
        return "elsewhere"
    if status == _FULL or (isinstance(error, OSError) and is_full(error)):
        return "full"
    if status in (401, 403) or name in ("PermissionDeniedError", "UnauthenticatedError", "PermissionError"):
        return "denied"
    if "credential" in text.partition("Debug source")[0].lower() or "169.254.169.254" in text:
        return "denied"
    if status in (404, 410) or isinstance(error, FileNotFoundError):
        return "missing"
    if status in _PASSING or ((status or 0) > _SERVER_ERROR and status not in _UNSUPPORTED):
        return "busy"
    if connection == "Timeout" or isinstance(error, TimeoutError):
        return "timeout"
    if connection == "Connect" or isinstance(error, ConnectionRefusedError) or "Connector" in name:
        return "unreachable"
    if connection or isinstance(error, ConnectionError) or name in _CUT_OFF:
        return "cut"
    return "other"


def unreadable(
    error: BaseException, where: str, request: str = "A request", *, tries: int = 1
) -> DatasetError:
    """The error for users of one that a store raised."""
    failure = Failure.of(error)
    if failure.kind != "other":
        return failure.error(where, request, tries=tries)
    said = redacted(str(error).partition("Debug source")[0].strip()).rstrip(".") or type(error).__name__
    return DatasetError(f"{redacted(where)} cannot be read or written: {said}.", code="io-failed")
