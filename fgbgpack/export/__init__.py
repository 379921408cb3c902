"""Samples in forms that other tools read: folders of pictures, WebDataset, MDS, COCO, NumPy's files.

One module for each form. Who writes them is the same for all: samples are read in order, encoded on threads
and written in order, beside the place where the finished export then appears as a whole.
"""

from fgbgpack.export.job import TARGETS, ExportReport, export

__all__ = ["TARGETS", "ExportReport", "export"]
