"""Keras networks to ONNX, without Keras or TensorFlow."""

from fgbgpack.depth.keras.conversion import import_keras
from fgbgpack.depth.keras.densedepth import write_densedepth

__all__ = ["import_keras", "write_densedepth"]
