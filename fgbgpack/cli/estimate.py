"""What ``fgbgpack create --dry-run`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fgbgpack.cli.console import say, say_rows, say_text, say_title
from fgbgpack.sources.names import counted, pictures_of
from fgbgpack.terminal import amount, duration, per_second

if TYPE_CHECKING:
    from fgbgpack.pipeline import Estimate
    from fgbgpack.pipeline.scale import Scale


def show(estimate: Estimate, size: str, *, in_full: bool) -> None:
    """Print an estimate of samples of a size; ``in_full`` with all that matters on many machines."""
    cores = f" on {counted(estimate.scale.workers, 'core')}" if in_full else ""
    say_title(
        f"Would create {counted(estimate.samples, 'sample')} of {size} in about {duration(estimate.seconds)}"
        f"{cores}"
    )
    rates = "image and mask are composed when they are read"
    if estimate.sample_rate is not None:
        rates = f"image and mask {per_second(estimate.sample_rate)}"
    if estimate.depth_rate is not None:
        rates += f", depth {per_second(estimate.depth_rate)} on {estimate.provider}"
    if estimate.background_seconds:
        rates += f", after the depth of the backgrounds ({duration(estimate.background_seconds)})"
    if in_full:
        rates += "; measured here"
    files = f" in {counted(estimate.shards, 'file')}" if estimate.shards else ""
    arrays = ", ".join(f"{name} {amount(stored)}" for name, stored in estimate.bytes.items())
    say_rows(
        [
            ("pictures", pictures_of(estimate.backgrounds, estimate.foregrounds)),
            ("on disk", f"about {amount(sum(estimate.bytes.values()))}{files} ({arrays})"),
            ("chunk", f"{counted(estimate.chunk, 'sample')}"),
            ("rates", rates),
            *(_rows_of(estimate.scale) if in_full else ()),
        ]
    )
    if in_full and estimate.scale.limits:
        say_title("\nIn the way:")
        for line in estimate.scale.limits:
            say_text(f"- {line}", indent="  ", hanging="  ")
    say("\nNothing was written.")


def _rows_of(scale: Scale) -> list[tuple[str, str]]:
    rows = [
        (
            f"{stage.name}",
            f"{counted(stage.shards, 'shard')} of {counted(stage.samples_per_shard, 'sample')} and "
            f"{amount(stage.bytes_per_shard)}, each in {duration(stage.shard_seconds)}, all in "
            f"{duration(stage.seconds)}",
        )
        for stage in scale.stages
    ]
    requests = f", {scale.puts:,} PUT and LIST, {scale.gets:,} GET and HEAD" if scale.puts else ""
    rows += [
        ("objects", f"{scale.objects:,}{requests}"),
        (
            "index",
            f"document {amount(scale.document_bytes)}, checksums {amount(scale.manifest_bytes)}; a reader of "
            f"samples from all over holds {amount(scale.opening_bytes)}",
        ),
        ("memory", f"client {amount(scale.client_bytes)}, each worker {amount(scale.worker_bytes)}"),
        (
            "time",
            f"{duration(scale.start_seconds)} to start, {duration(scale.finish_seconds)} to finish; "
            f"{scale.efficiency:.0%} of {scale.core_hours:,.1f} core hours make samples",
        ),
    ]
    money = [
        f"{name} {value:,.2f}"
        for name, value in (
            ("cores", scale.money.cores),
            ("requests", scale.money.requests),
            ("each month", scale.money.month),
        )
        if value is not None
    ]
    return [*rows, ("money", ", ".join(money) or "give prices: --assume price-core-hour=...")]
