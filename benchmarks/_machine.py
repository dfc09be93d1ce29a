"""What the figures were measured on, and how much the machine was disturbed meanwhile."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

__all__ = ["Noise", "description", "file_system"]


def description() -> str:
    """One line: processor, cores, kernel, Python."""
    cores = len(os.sched_getaffinity(0))
    system = f"{platform.system()} {platform.release()}"
    return f"{_processor()}, {cores} cores, {system}, {platform.python_implementation()} {platform.python_version()}"


def file_system(path: Path) -> str:
    """The type of the file system that ``path`` is on."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, found, *_ = line.split()
        if str(path.resolve()).startswith(mount) and len(mount) >= len(best):
            best, kind = mount, found
    return kind


class Noise:
    """Counts from its making what others took from this machine."""

    def __init__(self) -> None:
        self._load = os.getloadavg()[0]
        self._began = time.monotonic()
        self._before = _jiffies()

    def __str__(self) -> str:
        total, stolen = (now - then for now, then in zip(_jiffies(), self._before, strict=True))
        minutes = (time.monotonic() - self._began) / 60
        share = stolen / total if total else 0.0
        return f"load {self._load:.2f} at the start; {share:.1%} of the time stolen by the host; {minutes:.0f} minutes"


def _jiffies() -> tuple[int, int]:
    """All, and stolen, since the machine started."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(fields), fields[7]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
