"""All Numba code: bare loops over arrays, with nothing checked."""
