"""Progress for people: bars on a terminal and in a notebook, a line now and then in a log."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

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

from fgbgpack.pipeline.events import Event, Notice, Progress
from fgbgpack.terminal import duration, on_terminal, per_second, stderr, visible, wrapped

_TITLES = {
    "sources": "Pictures",
    "samples": "Samples",
    "backgrounds": "Backgrounds",
    "depth": "Depth",
    "checks": "Checking",
    "depth-checks": "Checking depth",
    "chunks": "Chunks",
    "export": "Samples",
    "verify": "Verifying",
    "cutouts": "Photographs",
}


# Two events that follow each other at once say nothing of the rate: for so long it is the average.
_SETTLING_SECONDS = 10.0

# Between two pictures of the bars in a notebook.
_REDRAW_SECONDS = 0.2


class Display:
    """Bars on stderr if that is a terminal, or in a notebook, until the block is left; and lines.

    Without either, ``interval`` seconds lie between two lines. It is silent if it is ``quiet``.
    """

    def __init__(
        self,
        *columns: ProgressColumn,
        quiet: bool = False,
        console: Console | None = None,
        interval: float = 10.0,
    ) -> None:
        self._console = console or stderr()
        self._quiet = quiet
        self._interval = interval
        self._bars: _Bars | None = None
        if not quiet and (self._console.is_jupyter or on_terminal(self._console)):
            kind = _NotebookBars if self._console.is_jupyter else _Bars
            description, bar = TextColumn("{task.description}"), BarColumn(bar_width=None)
            self._bars = kind(description, bar, *columns, console=self._console, expand=True)

    def __enter__(self) -> Self:
        if self._bars is not None and self._bars.tasks:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def notice(self, line: str) -> None:
        """Show a line."""
        self._print(visible(line), style="dim")

    def _print(self, line: str, style: str = "") -> None:
        if not self._quiet:
            for one in line.split("\n"):
                indent = " " * (len(one) - len(one.lstrip(" ")))
                first, *others = wrapped(one, self._console.width - len(indent))
                for part in (first, *(f"{indent * 2}{other}" for other in others)):
                    self._console.print(Text(part, style=style), soft_wrap=True)


@dataclass
class _Stage:
    """One stage of the work; ``initial`` is what an earlier run had done."""

    title: str
    initial: int
    bar: TaskID | None
    started: float = field(default_factory=time.monotonic)
    last_line: float = field(default_factory=time.monotonic)
    finished: bool = False


class ProgressDisplay(Display):
    """Shows the events of a long call: the ``on_event`` of the library's functions."""

    def __init__(self, *, console: Console | None = None, interval: float = 10.0) -> None:
        super().__init__(
            TaskProgressColumn(),
            _CountColumn(),
            _RateColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
            interval=interval,
        )
        self._stages: dict[str, _Stage] = {}

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Notice):
            self.notice(event.message)
        else:
            self._advance(event)

    def _advance(self, event: Progress) -> None:
        stage = self._stages.get(event.stage)
        if stage is None:
            stage = self._stages[event.stage] = self._start(event)
        if stage.bar is not None and self._bars is not None:
            self._bars.update(stage.bar, completed=event.done, total=event.total)
            self._bars.advanced(finished=event.done >= event.total)
        elif event.done > stage.initial and not stage.finished:
            self._report(stage, event.done, event.total)
        stage.finished = event.done >= event.total

    def _start(self, event: Progress) -> _Stage:
        title, bar = _TITLES.get(event.stage, event.stage), None
        if self._bars is None:
            self._print(f"{title}: {event.done:,} of {event.total:,}")
        else:
            self._bars.start()
            bar = self._bars.add_task(title, completed=event.done, total=event.total, initial=event.done)
        return _Stage(title, event.done, bar)

    def _report(self, stage: _Stage, done: int, total: int) -> None:
        now = time.monotonic()
        seconds = now - stage.started
        rate = (done - stage.initial) / seconds if seconds > 0 else 0.0
        if done >= total:
            self._print(f"{stage.title}: {done:,} of {total:,} in {duration(seconds)}, {per_second(rate)}")
        elif now - stage.last_line >= self._interval:
            stage.last_line = now
            left = f", {duration((total - done) / rate)} left" if rate > 0 else ""
            share = f"{done:,} of {total:,} ({done / total:.0%})"
            self._print(f"{stage.title}: {share}, {per_second(rate)}{left}")


@dataclass
class _Narrow:
    """Leaves space at the right edge: a "^C" that does not fit there would shift all lines."""

    inner: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.inner, options.update_width(options.max_width - len("^C") - 1))


class _Bars(Bars):
    """Bars at the bottom of a terminal, which a thread redraws."""

    def get_renderable(self) -> RenderableType:
        return _Narrow(super().get_renderable())

    def stop(self) -> None:
        if self.live.is_started:
            redraws = getattr(self.live, "_refresh_thread", None)
            super().stop()
            # rich tells it to end and does not wait; a fork right after would copy the lock it holds.
            if redraws is not None:
                redraws.join()
            self.console.print()

    def advanced(self, *, finished: bool) -> None:
        """Something was done, or all of it."""
        if finished:
            self.refresh()


class _NotebookBars(_Bars):
    """Bars as the output of a cell, which is replaced as the work advances; that needs no widgets."""

    _output: Any = None
    _drawn = 0.0

    def start(self) -> None:
        if self._output is None:
            self._output = importlib.import_module("IPython.display").display(self, display_id=True)

    def stop(self) -> None:
        self.refresh()

    def refresh(self) -> None:
        if self._output is not None:
            self._drawn = time.monotonic()
            self._output.update(self)

    def advanced(self, *, finished: bool) -> None:
        if finished or time.monotonic() - self._drawn >= _REDRAW_SECONDS:
            self.refresh()


class _CountColumn(ProgressColumn):
    """Done and total, with a width that does not change."""

    def render(self, task: Task) -> Text:
        total = f"{task.total or 0:,.0f}"
        return Text(f"{task.completed:>{len(total)},.0f}/{total}", style="progress.download", no_wrap=True)


class _RateColumn(ProgressColumn):
    """Items per second: recent while it runs; average at first, and once it is finished."""

    def render(self, task: Task) -> Text:
        rate = task.speed
        seconds = task.finished_time if task.finished else task.elapsed
        if seconds and (task.finished or seconds < _SETTLING_SECONDS):
            rate = (task.completed - task.fields["initial"]) / seconds
        shown = per_second(rate) if rate else ""
        return Text(f"{shown:>10}", style="progress.data.speed", no_wrap=True)
