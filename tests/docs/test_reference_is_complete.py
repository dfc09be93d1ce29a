"""The reference leaves nothing out: commands, options, settings, events and their fields, public names."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyjama_instrument import document, events
from pyjama_instrument.cli.parser import make_parser, parse
from tests.docs.pages import ROOT, fences, pages, section

_REFERENCE = ROOT / "docs" / "reference"
_SOURCES = sorted((ROOT / "pyjama_instrument").rglob("*.py"))
_PUBLIC_MODULES = [
    "pyjama_instrument",
    "pyjama_instrument.errors",
    "pyjama_instrument.export",
    "pyjama_instrument.hooks",
    "pyjama_instrument.reader",
    "pyjama_instrument.redaction",
    "pyjama_instrument.shared_metrics",
    "pyjama_instrument.testing",
    "pyjama_instrument.viewer",
]


def _commands() -> dict[str, argparse.ArgumentParser]:
    actions = make_parser()._actions
    return next(dict(action.choices) for action in actions if isinstance(action, argparse._SubParsersAction))


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if action.dest not in ("help", "home") and not isinstance(action, argparse._SubParsersAction):
            yield from action.option_strings or [str(action.metavar)]


def _event_models() -> dict[str, type[events.Event]]:
    models = [getattr(events, name) for name in events.__all__]
    known = [model for model in models if isinstance(model, type) and issubclass(model, events.Event)]
    kinds = {model.model_fields["kind"].default: model for model in known}
    return {kind: model for kind, model in kinds.items() if isinstance(kind, str)}


@pytest.mark.parametrize("command", _commands())
def test_every_command_and_option_is_documented(command: str) -> None:
    text = section(_REFERENCE / "cli.md", f"`pyjama {command}`")
    assert [option for option in _options(_commands()[command]) if not re.search(rf"`[^`]*{option}", text)] == []


def test_no_command_is_documented_that_does_not_exist() -> None:
    text = (_REFERENCE / "cli.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^## `pyjama (\w+)`$", text, re.MULTILINE)) == set(_commands())


@pytest.mark.parametrize("page", [page for page in pages() if fences(page, "console")], ids=lambda page: page.stem)
def test_every_command_line_shown_is_understood(page: Path) -> None:
    for fence in fences(page, "console"):
        for line in fence.text.splitlines():
            if line.startswith("pyjama "):
                parse(shlex.split(re.split(r" [|>&](?: |$)", line)[0], comments=True)[1:])


def test_every_setting_is_documented() -> None:
    text = (_REFERENCE / "configuration.md").read_text(encoding="utf-8")
    used = {name for source in _SOURCES for name in re.findall(r"PYJAMA_[A-Z_]+", source.read_text(encoding="utf-8"))}
    assert {name for name in used if f"`{name}`" not in text} == set()


def test_no_setting_is_documented_that_does_not_exist() -> None:
    sources = "".join(source.read_text(encoding="utf-8") for source in _SOURCES)
    documented = re.findall(r"PYJAMA_[A-Z_]+", (_REFERENCE / "configuration.md").read_text(encoding="utf-8"))
    assert {name for name in documented if name not in sources} == set()


@pytest.mark.parametrize("kind", _event_models())
def test_every_event_and_field_is_documented(kind: str) -> None:
    text = section(_REFERENCE / "events.md", f"`{kind}`")
    model = _event_models()[kind]
    fields = set(model.model_fields) - set(events.SessionEvent.model_fields)
    assert {field for field in fields if f"`{field}`" not in text} == set()


@pytest.mark.parametrize("kind", ["dashboard", "session"])
def test_every_key_of_the_dashboard_data_is_documented(kind: str) -> None:
    text = section(_REFERENCE / "files.md", "The dashboard data")
    model = {"dashboard": document.DashboardData, "session": document.SessionSummary}[kind]
    keys = {field.alias or name for name, field in model.model_fields.items()}
    assert {key for key in keys if f"`{key}`" not in text} == set()


@pytest.mark.parametrize("module", _PUBLIC_MODULES)
def test_every_public_name_is_documented(module: str) -> None:
    text = section(_REFERENCE / "api.md", f"`{module}`")
    names = importlib.import_module(module).__all__
    assert {name for name in names if not re.search(rf"`[^`]*\b{name}\b", text)} == set()
