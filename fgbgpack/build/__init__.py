"""Make a dataset: which shards are missing, who writes them, how far it is, when it is whole.

A shard is written whole, by one thread, and published in one step. One that is there is complete, one that
is missing is work to do: that is all that resuming needs to know.
"""

from fgbgpack.build.gather import ImportSpec
from fgbgpack.build.imported import Found, Imported, import_folder, look
from fgbgpack.build.job import Report, create, fill_depth
from fgbgpack.build.rehearsal import Estimate, estimate
from fgbgpack.build.storing import Conversion, materialize, virtualize
from fgbgpack.build.transcode import Transfer, convert
from fgbgpack.build.work import Event, Notice, OnEvent, Progress

__all__ = [
    "Conversion",
    "Estimate",
    "Event",
    "Found",
    "ImportSpec",
    "Imported",
    "Notice",
    "OnEvent",
    "Progress",
    "Report",
    "Transfer",
    "convert",
    "create",
    "estimate",
    "fill_depth",
    "import_folder",
    "look",
    "materialize",
    "virtualize",
]
