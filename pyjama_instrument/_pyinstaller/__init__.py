"""Tells PyInstaller where the hook is that puts the page's files into frozen programs. Imported by PyInstaller only."""

from __future__ import annotations

import os

__all__ = ["get_hook_dirs"]


def get_hook_dirs() -> list[str]:
    """The directories with hooks; this is the entry point ``hook-dirs`` of ``pyinstaller40``."""
    return [os.path.dirname(__file__)]
