"""Make a dataset: which shards are missing, who writes them, how far it is, when it is whole.

A shard is written whole, by one thread, and published in one step. One that is there is complete, one that
is missing is work to do: that is all that resuming needs to know.
"""

from fgbgpack.pipeline.convert import Transfer, convert
from fgbgpack.pipeline.create import Report, create, fill_depth
from fgbgpack.pipeline.estimate import Estimate, estimate
from fgbgpack.pipeline.executor import Event, Notice, OnEvent, Progress
from fgbgpack.pipeline.import_samples import Found, Imported, import_folder, look
from fgbgpack.pipeline.import_scan import ImportSpec
from fgbgpack.pipeline.materialize import Conversion, materialize, virtualize

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
