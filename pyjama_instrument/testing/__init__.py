"""Helpers for testing code that is instrumented, and a pytest plugin.

The plugin is active if this package is installed together with pytest. It has the fixture ``pyjama_store``: a separate
store for each test. The rest works with any test runner; ``events()`` needs Hypothesis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyjama_instrument.testing.store import FakeClock, SequentialIds, TestStore, isolated_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hypothesis.strategies import SearchStrategy

__all__ = ["FakeClock", "SequentialIds", "TestStore", "events", "isolated_store"]


def events() -> SearchStrategy[Any]:
    """A Hypothesis strategy for typed events of every known kind, with unusual names and values."""
    from pyjama_instrument.testing.strategies import any_event

    return any_event()


try:
    import pytest
except ImportError:  # the rest of the module works without pytest
    pass
else:

    @pytest.fixture
    def pyjama_store(tmp_path: Path) -> Iterator[TestStore]:
        """A separate store for the test. The process records into it during the test."""
        with isolated_store(tmp_path / "pyjama") as store:
            yield store
