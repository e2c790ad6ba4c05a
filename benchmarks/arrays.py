"""Arrays that the benchmarks of heads pass on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Embeddings = NDArray[np.float32]
Labels = NDArray[np.bool_]
