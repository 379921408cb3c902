"""Exports: the samples of a dataset in the formats of other tools, one module for each format."""

from fgbgpack.export.exporter import TARGETS, ExportReport, export

__all__ = ["TARGETS", "ExportReport", "export"]
