"""Reading the arrays of a dataset at speed.

- ``chunks``: the encoded chunks, from files and from other stores.
- ``threads``: the threads that decode them.
- ``reader``: any samples of an array, each chunk touched decoded once.
- ``array``: arrays that are indexed as NumPy's are.

Nothing in here survives a fork or a pickle in a bad state: open files, threads and decoded chunks belong to
one process, which is told by its id, and another process begins with none.
"""

from fgbgpack.storage.reading.array import SampleReader, StoredArray
from fgbgpack.storage.reading.reader import ArrayReader, output, read_together

__all__ = ["ArrayReader", "SampleReader", "StoredArray", "output", "read_together"]
