"""Make a dataset: which shards are missing, who writes them, how far it is, when it is whole.

A shard is written whole, by one thread, and published in one step. One that is there is complete, one that
is missing is work to do: that is all that resuming needs to know.
"""

from fgbgpack.build.convert import Conversion, materialize, virtualize
from fgbgpack.build.job import Estimate, Report, create, estimate, fill_depth
from fgbgpack.build.work import Event, Notice, OnEvent, Progress

__all__ = [
    "Conversion",
    "Estimate",
    "Event",
    "Notice",
    "OnEvent",
    "Progress",
    "Report",
    "create",
    "estimate",
    "fill_depth",
    "materialize",
    "virtualize",
]
