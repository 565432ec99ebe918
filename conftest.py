"""For all tests: what numba compiles is kept apart for each worker.

librosa's functions are compiled when they are first called, and kept in files beside
librosa. Two workers that write such a file at once can leave one from which every later
call jumps to nowhere. The kernels of the chapters are told by the same variable.
"""

import os
from pathlib import Path

if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    folder = Path(__file__).parent / "_build" / "numba" / worker
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
