"""Reading the arrays of a dataset at speed.

- ``chunks``: the encoded chunks from files, of which ``open_files`` holds few open.
- ``remote``: the encoded chunks from other stores, in the byte ``ranges`` that lie together.
- ``cache``: the folder that keeps on this machine what was read of stores far away.
- ``checks``: what the manifest says that each chunk must be.
- ``decoding``: decoders, and the decoded chunks that stay from one read to the next.
- ``threads``: the threads that decode them.
- ``reader``: any samples of an array, each chunk touched decoded once.
- ``array``: arrays that are indexed as NumPy's are.

Nothing in here survives a fork or a pickle in a bad state: open files, threads and decoded chunks belong to
one process, which is told by its id, and another process begins with none.
"""

from fgbgpack.storage.reading.array import SampleReader, StoredArray
from fgbgpack.storage.reading.reader import ArrayReader, output, read_together

__all__ = ["ArrayReader", "SampleReader", "StoredArray", "output", "read_together"]
