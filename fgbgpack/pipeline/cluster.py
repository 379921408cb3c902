"""Dask: a cluster that is there, or one on this machine, as an executor."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from fgbgpack.errors import ClusterError, SpecError
from fgbgpack.extras import require
from fgbgpack.pipeline.ticket import differing_versions, versions, versions_error
from fgbgpack.storage.reading.threads import usable_cores

if TYPE_CHECKING:
    from distributed import Client

#: Times that a task is tried again elsewhere when its worker ends, or it fails in a way that may pass.
RETRIES = 3
#: How long the scheduler may take to answer, and a first worker to come.
_CONNECT_SECONDS = 30
_CLOSE_SECONDS = 10
#: Workers on this machine neither profile themselves a hundred times a second nor watch the system.
_QUIET = {
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "10s",
}
_LOCAL = re.compile(r"local(?::(\d+))?")
_ADDRESS = re.compile(r"(?:tcp|tls|ws|wss|ucx)://[^/\s]+:\d+")


def check_cluster(where: str) -> None:
    """See that a text names a cluster as :func:`dask_executor` takes it (SpecError)."""
    local = _LOCAL.fullmatch(where)
    if (local and local[1] != "0") or _ADDRESS.fullmatch(where):
        return
    raise SpecError(
        f"--dask: found {where!r}, expected the address of a scheduler, such as tcp://10.0.0.5:8786, or "
        "local:N for N workers on this machine.",
        code="cluster-invalid",
    )


@contextmanager
def dask_executor(where: str, *, timeout: float = _CONNECT_SECONDS) -> Iterator[Executor]:
    """An executor of Dask for the block, for functions that take an ``executor``.

    Args:
        where: The address of a scheduler, such as ``"tcp://10.0.0.5:8786"``, or ``"local:4"``: four workers
            on this machine, which end with the block. ``"local"`` is one for each processor.
        timeout: Seconds that the scheduler may take to answer, and to have a worker.

    Raises:
        SpecError: ``where`` is neither.
        MissingPackageError: ``distributed`` is not installed.
        ClusterError: The scheduler does not answer or has no worker, or workers have other versions than this
            process.

    Example:
        >>> from fgbgpack.pipeline import create, dask_executor
        >>> with dask_executor("local:4") as executor:  # doctest: +SKIP
        ...     create("lobby.zarr", spec, executor=executor)
    """
    check_cluster(where)
    require("distributed", extra="dask", needed_by="Work on a Dask cluster")
    from distributed import Client

    with ExitStack() as opened:
        address = where
        if local := _LOCAL.fullmatch(where):
            address = opened.enter_context(_local_cluster(None if local[1] is None else int(local[1])))
        try:
            client = Client(address, timeout=timeout, set_as_default=False)  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as exc:
            raise ClusterError(
                f"The scheduler at {where} does not answer within {timeout:g} seconds: see that it runs, and "
                "that this machine may connect to it.",
                code="scheduler-unreachable",
            ) from exc
        opened.callback(_close, client)
        _check_workers(client, where, timeout)
        yield client.get_executor(retries=RETRIES, pure=False)  # type: ignore[no-untyped-call]


@contextmanager
def _local_cluster(workers: int | None) -> Iterator[str]:
    """The address of a scheduler in this process, with workers in processes of their own."""
    from distributed import LocalCluster

    with LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=usable_cores() if workers is None else workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        # What a task takes does not depend on what runs beside it: none is to be stopped for its memory.
        memory_limit=0,
        env=_QUIET,
        # What ends a worker at the end is no news.
        silence_logs=logging.ERROR,
    ) as cluster:
        yield cluster.scheduler_address


def _check_workers(client: Client, where: str, timeout: float) -> None:
    """See that there are workers, and that all have this process's versions."""
    try:
        client.wait_for_workers(1, timeout=timeout)
    except TimeoutError as exc:
        raise ClusterError(
            f"The scheduler at {where} has had no worker for {timeout:g} seconds: start some with "
            f"dask worker {where}.",
            code="cluster-without-workers",
        ) from exc
    found: dict[str, Any] = client.run(versions, on_error="return")
    problems = []
    for worker, answer in found.items():
        if isinstance(answer, BaseException):
            problems.append(f"{worker}: {answer}")
        else:
            problems += [f"{worker}: {line}" for line in differing_versions(versions(), answer)]
    if problems:
        raise versions_error(problems)


def _close(client: Client) -> None:
    # A scheduler that has ended does not answer.
    with suppress(Exception):
        client.close(timeout=_CLOSE_SECONDS)  # type: ignore[no-untyped-call]
