"""Only the guard swallows: whoever else catches everything passes it on or says in a comment why not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pyjama_instrument

_PACKAGE = Path(pyjama_instrument.__file__).parent
_BROAD = {"Exception", "BaseException"}


def _broad_handlers(tree: ast.AST) -> Iterator[ast.ExceptHandler]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            if any(kind is None or (isinstance(kind, ast.Name) and kind.id in _BROAD) for kind in caught):
                yield node


def _passes_it_on(handler: ast.ExceptHandler) -> bool:
    for node in ast.walk(handler):
        if isinstance(node, ast.Raise) or (isinstance(node, ast.Name) and node.id == handler.name):
            return True
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".exception", ".swallow")):
            return True
    return False


def test_a_handler_of_everything_passes_it_on_or_says_why_not() -> None:
    silent = []
    for file in sorted(_PACKAGE.rglob("*.py")):
        source = file.read_text(encoding="utf-8")
        lines = source.splitlines()
        for handler in _broad_handlers(ast.parse(source)):
            if not _passes_it_on(handler) and "#" not in lines[handler.lineno - 1]:
                silent.append(f"{file.relative_to(_PACKAGE)}:{handler.lineno}")
    assert silent == []
