"""Says how many calls a peer can show: ``python -m benchmarks.children.recorded DIRECTORY PEER``."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.children._serve import serve
from benchmarks.peers import recorded

__all__: list[str] = []

serve({"recorded": lambda: recorded(sys.argv[2], Path(sys.argv[1]))})
