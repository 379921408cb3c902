"""How a command runs its work and prints the result: as JSON or as a summary, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from fgbgpack.cli.console import print_json

#: What is left of a run that was stopped.
KEPT = "What is written is kept: run the same command again to resume."
NOTHING = "Nothing was written."


class _Result(Protocol):
    def to_dict(self) -> dict[str, Any]: ...


T = TypeVar("T")
R = TypeVar("R", bound=_Result)


@dataclass(frozen=True)
class Output:
    """What a command prints on stdout: one JSON document and nothing else, a summary, or neither if quiet."""

    as_json: bool = False
    quiet: bool = False

    @property
    def is_text(self) -> bool:
        """Whether text for people is printed."""
        return not (self.as_json or self.quiet)

    def run(self, work: Callable[..., T], *, if_stopped: str = "", dask: str | None = None) -> T:
        """Run ``work``, which takes ``on_event``, with its progress on stderr; on a cluster of ``dask``, if
        that is given, which it takes as ``executor``.

        ``if_stopped`` is what a user is told who stops it; ``KEPT`` also when the system stops it.
        """
        from fgbgpack.pipeline.events import reporting, silent

        with reporting(silent if self.quiet else "progress") as on_event:
            try:
                if dask is None:
                    return work(on_event=on_event)
                from fgbgpack.pipeline.cluster import dask_executor

                with dask_executor(dask) as executor:
                    return work(on_event=on_event, executor=executor)
            except (KeyboardInterrupt, OSError) as exc:
                # The work itself may know better what is left of it.
                stopped = isinstance(exc, KeyboardInterrupt) and not getattr(exc, "__notes__", [])
                if if_stopped == KEPT or (if_stopped and stopped):
                    exc.add_note(if_stopped)
                raise

    def show(self, result: Mapping[str, Any] | _Result, summary: Callable[[], None]) -> None:
        """Print the result of a command: ``result`` as JSON, or what ``summary`` prints."""
        if self.as_json:
            print_json(result if isinstance(result, Mapping) else result.to_dict())
        elif not self.quiet:
            summary()

    def run_and_show(
        self,
        work: Callable[..., R],
        summary: Callable[[R], None],
        *,
        if_stopped: str = "",
        dask: str | None = None,
    ) -> None:
        """Run ``work``, then print its result."""
        result = self.run(work, if_stopped=if_stopped, dask=dask)
        self.show(result, lambda: summary(result))
