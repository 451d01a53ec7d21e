"""How many cores the comparison may use."""

import os
from pathlib import Path


def available_cores():
    """The cores that this process may run on, or fewer where a container limits its time, as Rust counts them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = map(int, Path("/sys/fs/cgroup/cpu.max").read_text().split())
    except (OSError, ValueError):
        # No such limit, or "max".
        return cores
    return min(cores, max(1, quota // period))
