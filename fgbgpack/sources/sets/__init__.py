"""Sets of annotated pictures, as other tools keep them: which samples a folder holds, and their objects."""

from fgbgpack.sources.sets.instances import read_instance_values, with_values
from fgbgpack.sources.sets.objects import SampleObjects, draw, numbered
from fgbgpack.sources.sets.recognition import ANNOTATIONS, read_set, recognised
from fgbgpack.sources.sets.sample_set import Folder, SampleSet
from fgbgpack.sources.sets.tables import Tables, table_of

__all__ = [
    "ANNOTATIONS",
    "Folder",
    "SampleObjects",
    "SampleSet",
    "Tables",
    "draw",
    "numbered",
    "read_instance_values",
    "read_set",
    "recognised",
    "table_of",
    "with_values",
]
