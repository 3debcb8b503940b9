"""Peak memory of a process.

The high-water mark of resident memory (Linux's VmHWM; elsewhere ru_maxrss), importing and loading included. Weights
that are mapped from their file count as far as they were read. On a GPU this is still the host's memory.
"""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path


def high_water() -> float:
    """MiB. ru_maxrss of a child begins with its parent's, so the kernel's own mark is better where there is one."""
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
