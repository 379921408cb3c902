"""Exports: the samples of a dataset in the formats of other tools, one module for each format."""

from fgbgpack.export.exporter import TARGETS, ExportReport, export
from fgbgpack.export.verify import ExportVerification, is_export, verify_export

__all__ = ["TARGETS", "ExportReport", "ExportVerification", "export", "is_export", "verify_export"]
