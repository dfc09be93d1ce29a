"""The public names are a promise: this list changes only on purpose."""

from __future__ import annotations

import importlib

import pytest

_PUBLIC = {
    "pyjama_instrument": {
        "PyjamaError",
        "Session",
        "__version__",
        "agent_session",
        "configure",
        "current_session",
        "flush",
        "tool",
    },
    "pyjama_instrument.errors": {
        "ConfigError",
        "PyjamaError",
        "SchemaTooNew",
        "SessionNotFound",
        "StoreError",
        "StoreUnavailable",
        "UnsupportedSystem",
        "ViewerError",
    },
    "pyjama_instrument.export": {"FORMATS", "Format", "Progress", "export", "file_name"},
    "pyjama_instrument.redaction": {"Field", "Place", "REDACTED", "Redactor"},
    "pyjama_instrument.reader": {"Reader", "get_dashboard_data", "load_session", "read_metrics", "tail_events"},
}


@pytest.mark.parametrize("module", _PUBLIC)
def test_a_public_module_offers_exactly_these_names(module: str) -> None:
    assert set(importlib.import_module(module).__all__) == _PUBLIC[module]


@pytest.mark.parametrize("module", _PUBLIC)
def test_every_name_offered_is_there_and_says_what_it_is_for(module: str) -> None:
    loaded = importlib.import_module(module)
    for name in loaded.__all__:
        assert getattr(loaded, name) is not None
    assert loaded.__doc__


@pytest.mark.parametrize("module", _PUBLIC)
def test_completion_offers_the_public_names(module: str) -> None:
    loaded = importlib.import_module(module)
    assert set(loaded.__all__) <= set(dir(loaded))


def test_an_unknown_name_is_an_attribute_error() -> None:
    package = importlib.import_module("pyjama_instrument")
    with pytest.raises(AttributeError, match="no_such_name"):
        package.no_such_name
