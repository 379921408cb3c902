"""Kernels of the rendered pictures: bare loops over arrays, with nothing checked."""
