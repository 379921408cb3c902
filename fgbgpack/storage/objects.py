"""Object stores, by obstore: requests within time limits, tried again where that can help, and errors that
say which object and which request failed.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Self, TypeVar

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import ObjectStore

from fgbgpack.errors import DatasetError, SpecError, redacted
from fgbgpack.extras import require
from fgbgpack.storage.failures import Failure
from fgbgpack.storage.over import folder_of

#: What URLs begin with that obstore opens: of Amazon S3 and stores like it, Google Cloud Storage and Azure.
SCHEMES = ("s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss")
#: Hosts of these in URLs that begin with ``https://``.
_HOSTS = (
    ".blob.core.windows.net",
    ".dfs.core.windows.net",
    ".blob.fabric.microsoft.com",
    ".dfs.fabric.microsoft.com",
    ".amazonaws.com",
    ".r2.cloudflarestorage.com",
)
#: What the environment's variables of them begin with.
_PREFIXES = ("AWS_", "GOOGLE_", "AZURE_")
_URL = re.compile(r"(?P<scheme>[a-z0-9]+)://(?P<host>[^/?#]*)", re.IGNORECASE)

#: Limits of a request, unless the storage options give others.
_CLIENT = {"connect_timeout": timedelta(seconds=10), "timeout": timedelta(seconds=60)}
_MAX_RETRIES = 10
_RETRY_TIMEOUT = timedelta(seconds=100)
_INIT_BACKOFF, _MAX_BACKOFF, _BACKOFF_BASE = timedelta(milliseconds=250), timedelta(seconds=10), 2.0

#: Options of obstore's HTTP client, of retries, and of the store as objects: all others are the store's own.
_CLIENT_OPTIONS = frozenset(
    {
        "allow_http",
        "allow_invalid_certificates",
        "connect_timeout",
        "default_content_type",
        "default_headers",
        "http1_only",
        "http2_keep_alive_interval",
        "http2_keep_alive_timeout",
        "http2_keep_alive_while_idle",
        "http2_only",
        "pool_idle_timeout",
        "pool_max_idle_per_host",
        "proxy_ca_certificate",
        "proxy_excludes",
        "proxy_url",
        "randomize_addresses",
        "read_timeout",
        "root_certificate",
        "timeout",
        "user_agent",
    }
)
_CLIENT_SECONDS = frozenset({"connect_timeout", "timeout", "read_timeout", "pool_idle_timeout"})
_RETRY_OPTIONS = frozenset({"max_retries", "retry_timeout", "init_backoff", "max_backoff", "backoff_base"})
_NESTED = ("config", "client_options", "retry_config", "credential_provider")
_DURATION = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?) ?(?P<unit>ms|s|m|min|h)?")
_UNITS = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
#: Objects that one request deletes.
_DELETED_AT_ONCE = 1000

#: What tells an object from all that were, or will be, under its key; ``None`` where there is none.
Version = Any

T = TypeVar("T")


def is_object_url(url: str) -> bool:
    """Whether a URL is of an object store, which obstore opens."""
    if (match := _URL.match(url)) is None:
        return False
    scheme, host = match["scheme"].lower(), match["host"].lower()
    return scheme in SCHEMES or (scheme == "https" and host.endswith(_HOSTS))


def open_objects(url: str, options: Mapping[str, Any], *, read_only: bool) -> RemoteStore:
    """The store at a URL of an object store; ``options`` are those of obstore, and may be texts.

    Raises MissingPackageError where obstore is not installed, DatasetError where it does not know the URL,
    and SpecError for options that it does not take; none shows the value of an option.
    """
    name = redacted(url)
    opener = require("obstore.store", extra="cloud", needed_by=name)
    arguments = _arguments({**_client_options_of_environment(), **options})
    try:
        store = opener.from_url(_without_query(url), **arguments)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as exc:  # its native code has errors of its own, and panics
        if "recognise URL" in str(exc):
            raise DatasetError(f"{name} is a URL that obstore does not open.", code="url-unknown") from None
        given = f" Given are: {', '.join(sorted(options))}." if options else ""
        raise SpecError(
            f"{name} cannot be opened with the storage options and the environment: "
            f"{_harmless(exc, options)}.{given}",
            code="option-invalid",
        ) from None
    return RemoteStore(store, read_only=read_only, name=name)


def _client_options_of_environment() -> dict[str, str]:
    """Options of the HTTP client among the environment's, which obstore only reads if it is given none."""
    known = {f"{prefix}{name.upper()}": name for prefix in _PREFIXES for name in _CLIENT_OPTIONS}
    return {known[name]: value for name, value in os.environ.items() if name in known}


def _without_query(url: str) -> str:
    return url.split("?", 1)[0].split("#", 1)[0]


def _arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of obstore for storage options, which may be nested as obstore takes them, or flat."""
    nested = {name: options[name] for name in _NESTED if options.get(name) is not None}
    config = dict(nested.get("config", {}))
    client: dict[str, Any] = {**_CLIENT, **nested.get("client_options", {})}
    backoff = {"init_backoff": _INIT_BACKOFF, "max_backoff": _MAX_BACKOFF, "base": _BACKOFF_BASE}
    retry: dict[str, Any] = {"max_retries": _MAX_RETRIES, "retry_timeout": _RETRY_TIMEOUT}
    retry |= nested.get("retry_config", {})
    for name, value in options.items():
        key = name.lower()
        if key in _NESTED:
            continue
        if key in _CLIENT_OPTIONS:
            is_duration = key in _CLIENT_SECONDS
            client[key] = timedelta(seconds=_seconds(name, value)) if is_duration else _plain(value)
        elif key == "max_retries":
            retry[key] = _count(name, value)
        elif key == "backoff_base":
            backoff["base"] = _number(name, value)
        elif key in _RETRY_OPTIONS:
            duration = timedelta(seconds=_seconds(name, value))
            (retry if key == "retry_timeout" else backoff)[key] = duration
        else:
            config[name] = _plain(value)
    retry.setdefault("backoff", backoff)
    if any(str(value).startswith("http://") for key, value in config.items() if "endpoint" in key.lower()):
        # Who gives such an address means it.
        client.setdefault("allow_http", "true")
    return {
        "config": config,
        "client_options": client,
        "retry_config": retry,
        **({"credential_provider": nested["credential_provider"]} if "credential_provider" in nested else {}),
    }


def _plain(value: Any) -> Any:
    """A value as obstore takes it: text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, (str, bytes, dict)) else str(value)


def _seconds(name: str, value: Any) -> float:
    """A duration in seconds: a number, or text such as ``30s`` or ``500ms``; else SpecError."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    match = _DURATION.fullmatch(str(value).strip())
    if match is None or float(match["number"]) == 0:
        raise SpecError(
            f"storage option {name}: expected a duration above 0, such as 30 (seconds), 500ms or 2min.",
            code="option-invalid",
        )
    return float(match["number"]) * _UNITS[match["unit"]]


def _count(name: str, value: Any) -> int:
    text = str(value)
    if not re.fullmatch("[0-9]{1,6}", text):
        raise SpecError(f"storage option {name}: expected a whole number, 0 or more.", code="option-invalid")
    return int(text)


def _number(name: str, value: Any) -> float:
    text = str(value)
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text) or float(text) < 1:
        raise SpecError(f"storage option {name}: expected a number, 1 or more.", code="option-invalid")
    return float(text)


def _harmless(error: BaseException, options: Mapping[str, Any]) -> str:
    """What obstore says, in one line, without values of options."""
    text = str(error).partition("\n")[0].rstrip(".")
    # What it quotes is a value, or the key that it does not know.
    if "key:" not in text.lower():
        text = re.sub(r"\"[^\"]*\"|'[^']*'", "a value", text)
    for value in options.values():
        if isinstance(value, str) and value:
            text = text.replace(value, "***")
    return redacted(text)


class RemoteStore(ObjectStore[Any]):
    """A Zarr store on one of obstore, which messages call ``name``.

    Each request that failed for a reason that may pass (an overloaded server, a connection that was cut, no
    answer in time) is made again, as often and as long as the store's ``retry_config`` says: obstore itself
    repeats only those that cannot have been carried out before. All that is asked for here may be: values are
    put whole, and where a condition does not hold any more, what is there is compared with what was to be.

    Where that does not help, a request raises DatasetError, which names the object, the request, how often it
    was tried and what to do. An object that is not there is no failure.
    """

    def __init__(self, store: Any, *, read_only: bool = False, name: str | None = None) -> None:
        super().__init__(store, read_only=read_only)
        self.name = redacted(str(store)) if name is None else name

    def with_read_only(self, read_only: bool = False) -> Self:
        """The same store, to be read only or not."""
        return type(self)(self.store, read_only=read_only, name=self.name)

    def __str__(self) -> str:
        return self.name

    @property
    def is_far(self) -> bool:
        """Whether requests go over a network: obstore has stores in memory and in folders, too."""
        return hasattr(self.store, "retry_config")

    # --- what Zarr asks for ------------------------------------------------------------------------

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The value, or a part of it; ``None`` where there is none."""
        get = super().get
        return await self._ask("GET", key, lambda: get(key, prototype, byte_range))

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Parts of values."""
        ranges = list(key_ranges)
        get = super().get_partial_values
        key = ranges[0][0] if ranges else ""
        return await self._ask("GET", key, lambda: get(prototype, ranges))

    async def exists(self, key: str) -> bool:
        """Whether a key is there."""
        exists = super().exists
        return await self._ask("HEAD", key, lambda: exists(key))

    async def getsize(self, key: str) -> int:
        """The bytes of a value; FileNotFoundError where there is none."""
        getsize = super().getsize
        return await self._ask("HEAD", key, lambda: getsize(key))

    async def getsize_prefix(self, prefix: str) -> int:
        """The bytes of all values below a prefix."""
        return sum([size async for _, size in self.sizes(prefix)])

    async def set(self, key: str, value: Buffer) -> None:
        """Publish a value, in one request."""
        self._check_writable()
        if not isinstance(value, Buffer):
            raise TypeError(f"expected a Buffer, got {type(value).__name__}")
        await self._put(key, value.as_buffer_like(), "overwrite")

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Publish a value where there is none."""
        from obstore.exceptions import AlreadyExistsError

        self._check_writable()
        try:
            await self._put(key, value.as_buffer_like(), "create")
        except AlreadyExistsError:
            return

    async def delete(self, key: str) -> None:
        """Delete a key."""
        delete = super().delete
        await self._ask("DELETE", key, lambda: delete(key))

    async def delete_dir(self, prefix: str) -> None:
        """Delete all keys below a prefix, many in one request where the store can."""
        import obstore

        self._check_writable()
        keys = [key async for key, _ in self.sizes(folder_of(prefix))]
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            some = keys[start : start + _DELETED_AT_ONCE]
            try:
                await self._ask("DELETE", some[0], partial(obstore.delete_async, self.store, some))
            except FileNotFoundError:
                # One was deleted meanwhile; it is not said which were before it.
                for key in some:
                    await self.delete(key)

    async def sizes(self, prefix: str = "") -> AsyncGenerator[tuple[str, int], None]:
        """The keys that begin with a prefix, in order, each with the bytes of its value.

        Where a listing is cut off it goes on behind the last key.
        """
        import obstore

        last: str | None = None
        tries, start = 0, time.monotonic()
        while True:
            try:
                found = obstore.list(self.store, prefix=prefix or None, offset=last)
                async for batch in found:
                    for item in batch:
                        last = item["path"]
                        tries, start = 0, time.monotonic()
                        yield last, item["size"]
                return
            except Exception as exc:
                tries = await self._wait_or_raise(exc, "LIST", prefix, tries, start)

    def list(self) -> AsyncGenerator[str, None]:
        """All keys."""
        return self.list_prefix("")

    async def list_prefix(self, prefix: str) -> AsyncGenerator[str, None]:
        """The keys that begin with ``prefix``."""
        async for key, _ in self.sizes(prefix):
            yield key

    async def list_dir(self, prefix: str) -> AsyncGenerator[str, None]:
        """The names of what is in the folder ``prefix``."""
        listing = super().list_dir

        async def collect() -> Sequence[str]:
            return [name async for name in listing(prefix)]

        for name in await self._ask("LIST", prefix, collect):
            yield name

    # --- with conditions ---------------------------------------------------------------------------

    async def read(self, key: str) -> tuple[bytes | None, Version]:
        """The value of a key with its version; ``None`` for both where there is none."""
        import obstore

        async def whole() -> tuple[bytes, Version]:
            result = await obstore.get_async(self.store, key)
            return bytes(await result.bytes_async()), _version_of(result.meta)

        try:
            return await self._ask("GET", key, whole)
        except FileNotFoundError:
            return None, None

    async def version_of(self, key: str) -> Version:
        """The version of what is under a key; ``None`` where there is nothing."""
        import obstore

        try:
            return _version_of(await self._ask("HEAD", key, lambda: obstore.head_async(self.store, key)))
        except FileNotFoundError:
            return None

    async def put_if(self, key: str, value: bytes, version: Version) -> Version:
        """Put a value in the place of a version, or of none, in one request; its own version.

        Raises obstore's AlreadyExistsError or PreconditionError where another is there, which a request whose
        answer was lost may have put; and NotImplementedError of stores without conditions.
        """
        return await self._put(key, value, "create" if version is None else version)

    async def copy(self, source: str, key: str) -> None:
        """Copy a value to another key, in the store itself."""
        import obstore

        await self._ask("COPY", source, lambda: obstore.copy_async(self.store, source, key))

    async def _put(self, key: str, value: Any, mode: Any) -> Version:
        import obstore

        # An upload in parts would be several requests, and cannot have conditions.
        async def put() -> Version:
            done = await obstore.put_async(self.store, key, value, mode=mode, use_multipart=False)
            return _version_of(done)

        try:
            return await self._ask("PUT", key, put)
        except FileNotFoundError as exc:
            raise Failure.of(exc).error(self._where(key), "PUT") from None

    # --- once more ---------------------------------------------------------------------------------

    async def _ask(self, request: str, key: str, action: Callable[[], Awaitable[T]]) -> T:
        tries, start = 0, time.monotonic()
        while True:
            try:
                return await action()
            except Exception as exc:
                tries = await self._wait_or_raise(exc, request, key, tries, start)

    async def _wait_or_raise(self, error: Exception, request: str, key: str, tries: int, start: float) -> int:
        """Wait before the same request is made again, and return how often it was made. Raise the error if it
        is the answer, as that there is no such object, or if no further try is allowed or would help.
        """
        if isinstance(error, (DatasetError, NotImplementedError, ValueError, TypeError)) or _is_answer(error):
            raise error
        failure = Failure.of(error)
        if failure.kind == "missing" and isinstance(error, FileNotFoundError):
            raise error
        tries += failure.tries
        limits: Mapping[str, Any] = getattr(self.store, "retry_config", None) or {}
        seconds = time.monotonic() - start
        longest = limits.get("retry_timeout", _RETRY_TIMEOUT).total_seconds()
        if not failure.may_pass or tries > limits.get("max_retries", _MAX_RETRIES) or seconds > longest:
            raise failure.error(self._where(key), request, tries=tries, seconds=seconds) from None
        backoff: Mapping[str, Any] = limits.get("backoff") or {}
        first = backoff.get("init_backoff", _INIT_BACKOFF).total_seconds()
        most = backoff.get("max_backoff", _MAX_BACKOFF).total_seconds()
        wait = min(most, first * float(backoff.get("base", _BACKOFF_BASE)) ** (tries - 1))
        # Many that failed together should not come again together.
        await asyncio.sleep(wait * random.uniform(0.5, 1))  # noqa: S311
        return tries

    def _where(self, key: str) -> str:
        return f"{self.name.rstrip('/')}/{key}" if key else self.name


def _is_answer(error: Exception) -> bool:
    """Whether it says how things are, and not that the request failed."""
    import obstore

    answers = (
        obstore.exceptions.AlreadyExistsError,
        obstore.exceptions.PreconditionError,
        obstore.exceptions.NotModifiedError,
        obstore.exceptions.NotSupportedError,
    )
    return isinstance(error, answers)


def _version_of(meta: Any) -> dict[str, str]:
    """The version of an object, of what obstore says of it."""
    return {name: meta[name] for name in ("e_tag", "version") if meta[name] is not None}
