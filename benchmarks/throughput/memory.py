"""Peak memory of a process.

This is the highest resident memory since its start (VmHWM on Linux, ru_maxrss elsewhere), so imports and loading are
included. Of weights that are mapped from a file, the parts that were read are counted. With a GPU it is still the
memory of the host.
"""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path


def high_water() -> float:
    """The peak memory of this process until now, in MiB.

    On Linux ru_maxrss of a child process begins with that of its parent, so VmHWM is used there.
    """
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
