"""What every scenario is given: sizes, scratch space, CPUs and children."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from benchmarks._child import Child
from benchmarks.peers import PEERS

__all__ = ["Bench", "Pythons", "Scale"]

Scale = Literal["full", "quick", "tiny"]
_T = TypeVar("_T")


class Pythons(Protocol):
    """Where interpreters come from; see ``_environments.Environments``."""

    def python(self, name: str) -> str:
        """The interpreter of an environment, or raises ``NotInstalled``."""
        ...

    def packages(self, name: str) -> dict[str, str]:
        """The distributions of an environment, or raises ``NotInstalled``."""
        ...


class Bench:
    """A run.

    Args:
        scale: ``full`` for figures, ``quick`` to see what they are about, ``tiny`` to see that it works.
        scratch: an empty directory on the disk that is measured.
        pythons: the environments.
        say: is told how far the run is.
    """

    def __init__(self, scale: Scale, scratch: Path, pythons: Pythons, say: Callable[[str], None]) -> None:
        self.scale = scale
        self.pythons = pythons
        self.say = say
        self._scratch = scratch
        self._number = 0
        cpus = sorted(os.sched_getaffinity(0))
        self.cpu = cpus[-1]  # the first one has most of the kernel's own work

    def size(self, full: _T, quick: _T, tiny: _T) -> _T:
        """The one that is meant at the scale of this run."""
        return {"full": full, "quick": quick, "tiny": tiny}[self.scale]

    @contextmanager
    def directory(self) -> Iterator[Path]:
        """A new empty directory, removed after the block."""
        self._number += 1
        path = self._scratch / str(self._number)
        path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def child(
        self,
        environment: str,
        module: str,
        *arguments: str | Path,
        pinned: bool = False,
        variables: Mapping[str, str] | None = None,
    ) -> Child:
        """A program of ``benchmarks.children`` in that environment.

        Raises:
            NotInstalled: there is no such environment.
        """
        return Child(
            self.pythons.python(environment),
            module,
            *map(str, arguments),
            log=self._scratch / f"{module}-{environment}.log",
            cpu=self.cpu if pinned else None,
            environment={"HOME": str(self._scratch)} | dict(variables or {}),
        )

    def version(self, peer: str) -> str:
        """The version of what a peer is, for the report; empty for the standard library."""
        name = PEERS[peer]
        return self.pythons.packages(name.environment).get(name.package, "")
