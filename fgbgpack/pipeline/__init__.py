"""What makes and changes a dataset: create, fill depth, import, convert, materialize, merge, estimate,
verify, repair, diff, pack.

Each command is a :class:`~fgbgpack.pipeline.run.Run`: it locks the dataset, compares what is there with what
is asked for, begins or resumes, runs stages, and commits the document. A
:class:`~fgbgpack.pipeline.stage.Stage` knows which of its shards are missing, and produces any of them.
"""

from fgbgpack.pipeline.cluster import dask_executor
from fgbgpack.pipeline.convert import Transfer, convert
from fgbgpack.pipeline.create import Report, create
from fgbgpack.pipeline.diff import ArrayComparison, Comparison, Difference, SampleDifference, diff
from fgbgpack.pipeline.estimate import Estimate, estimate
from fgbgpack.pipeline.events import Event, Notice, OnEvent, Progress, Reporting
from fgbgpack.pipeline.faults import Fault
from fgbgpack.pipeline.fill_depth import fill_depth
from fgbgpack.pipeline.import_samples import Imported, ImportPlan, import_folder, scan
from fgbgpack.pipeline.import_spec import ImportSpec
from fgbgpack.pipeline.inspection import ArrayCounts
from fgbgpack.pipeline.materialize import Conversion, materialize, virtualize
from fgbgpack.pipeline.merge import Merged, merge
from fgbgpack.pipeline.pack import Packed, pack
from fgbgpack.pipeline.parts import PartReport, begin_create, create_part, finish_create
from fgbgpack.pipeline.repair import Repair, Unrepaired, repair
from fgbgpack.pipeline.verify import Verification, verify

__all__ = [
    "ArrayComparison",
    "ArrayCounts",
    "Comparison",
    "Conversion",
    "Difference",
    "Estimate",
    "Event",
    "Fault",
    "ImportPlan",
    "ImportSpec",
    "Imported",
    "Merged",
    "Notice",
    "OnEvent",
    "Packed",
    "PartReport",
    "Progress",
    "Repair",
    "Report",
    "Reporting",
    "SampleDifference",
    "Transfer",
    "Unrepaired",
    "Verification",
    "begin_create",
    "convert",
    "create",
    "create_part",
    "dask_executor",
    "diff",
    "estimate",
    "fill_depth",
    "finish_create",
    "import_folder",
    "materialize",
    "merge",
    "pack",
    "repair",
    "scan",
    "verify",
    "virtualize",
]
