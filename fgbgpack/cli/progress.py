"""Progress on stderr: bars on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import (
    BarColumn,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from fgbgpack.cli.console import duration, on_terminal, stderr, visible
from fgbgpack.pipeline import Event, Notice, Progress

_TITLES = {
    "sources": "Pictures",
    "samples": "Samples",
    "backgrounds": "Backgrounds",
    "depth": "Depth",
    "checks": "Checking",
    "chunks": "Chunks",
    "export": "Samples",
}


@dataclass
class _Stage:
    """One stage under way; ``initial`` is what an earlier run had done already."""

    title: str
    initial: int
    total: int
    bar: TaskID | None
    began: float = field(default_factory=time.monotonic)
    said: float = field(default_factory=time.monotonic)
    over: bool = False

    def rate(self, done: int) -> float:
        """Things a second in this run, 0 where there is nothing to tell it from."""
        seconds = time.monotonic() - self.began
        return (done - self.initial) / seconds if seconds > 0 else 0.0


class ProgressDisplay:
    """Shows the events of a long call: the ``on_event`` of the library's functions.

    Args:
        quiet: Show nothing at all.
        console: Where to; stderr unless given.
        interval: Seconds between two lines of a stage where there is no terminal to draw bars on.
    """

    def __init__(
        self, *, quiet: bool = False, console: Console | None = None, interval: float = 10.0
    ) -> None:
        self._console = console or stderr()
        self._quiet = quiet
        self._interval = interval
        self._stages: dict[str, _Stage] = {}
        self._bars: Bars | None = None
        if not quiet and on_terminal(self._console):
            self._bars = _Bars(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TaskProgressColumn(),
                _CountColumn(),
                _RateColumn(),
                TimeRemainingColumn(compact=True, elapsed_when_finished=True),
                console=self._console,
                expand=True,
            )

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._console.print()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if self._quiet:
            return
        if isinstance(event, Notice):
            self._console.print(Text(visible(event.message), style="dim"))
        else:
            self._advance(event)

    def _advance(self, event: Progress) -> None:
        stage = self._stages.get(event.stage)
        if stage is None:
            title = _TITLES.get(event.stage, event.stage)
            stage = _Stage(title, event.done, event.total, self._start_bar(title, event))
            self._stages[event.stage] = stage
            if self._bars is None:
                self._say(f"{title}: {event.done:,} of {event.total:,}")
        if stage.bar is not None and self._bars is not None:
            self._bars.update(stage.bar, completed=event.done, total=event.total)
            if event.done >= event.total:
                self._bars.refresh()
        elif event.done > stage.initial and not stage.over:
            self._report(stage, event.done, event.total)
        stage.over = event.done >= event.total

    def _start_bar(self, title: str, event: Progress) -> TaskID | None:
        if self._bars is None:
            return None
        return self._bars.add_task(title, completed=event.done, total=event.total, initial=event.done)

    def _report(self, stage: _Stage, done: int, total: int) -> None:
        now = time.monotonic()
        rate = stage.rate(done)
        if done >= total:
            self._say(f"{stage.title}: {done:,} of {total:,} in {duration(now - stage.began)}, {rate:,.0f}/s")
        elif now - stage.said >= self._interval:
            stage.said = now
            left = f", {duration((total - done) / rate)} left" if rate > 0 else ""
            self._say(f"{stage.title}: {done:,} of {total:,} ({done / total:.0%}), {rate:,.0f}/s{left}")

    def _say(self, line: str) -> None:
        self._console.print(Text(line))


@dataclass
class _Narrow:
    """Leaves room at the right edge: a "^C" that does not fit there would shift all lines."""

    inner: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.inner, options.update_width(options.max_width - len("^C") - 1))


class _Bars(Bars):
    def get_renderable(self) -> RenderableType:
        return _Narrow(super().get_renderable())


class _CountColumn(ProgressColumn):
    """Done and total, as wide from the first step to the last."""

    def render(self, task: Task) -> Text:
        total = f"{task.total or 0:,.0f}"
        return Text(f"{task.completed:>{len(total)},.0f}/{total}", style="progress.download", no_wrap=True)


class _RateColumn(ProgressColumn):
    """Things a second: lately while it runs, on average once it is over."""

    def render(self, task: Task) -> Text:
        rate = task.speed
        if task.finished and task.finished_time:
            rate = (task.completed - task.fields["initial"]) / task.finished_time
        shown = f"{rate:,.0f}/s" if rate else ""
        return Text(f"{shown:>10}", style="progress.data.speed", no_wrap=True)
