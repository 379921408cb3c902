"""The scripts of ``benchmarks/`` are imported as they import each other."""

import sys

from documents import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
