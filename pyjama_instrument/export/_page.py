"""One page that can be mailed: no script, no request, nothing beside it. It opens from a file.

Its policy allows the one style sheet it carries, by its hash, and nothing else; so even a name that got past the
escaping could load nothing and run nothing.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterator

from pyjama_instrument.export._material import Material, grow_trees
from pyjama_instrument.presentation.formatting import count, moment, printable
from pyjama_instrument.presentation.html import STYLE, Limits, dashboard_html, session_html

__all__ = ["write_page"]

_MOST_SPANS = 10_000
_LIMITS = Limits(rows=100, spans=_MOST_SPANS, text=2000)

_PAGE_STYLE = """
:root { color-scheme: light dark; }
body { margin: 0 auto; padding: 16px 24px 48px; max-width: 1400px; background: #fff; color: #1b1b26; }
@media (prefers-color-scheme: dark) { body { background: #111118; color: #e8e8f2; } }
@media (max-width: 700px) {
  body { padding: 12px; }
  .pyjama .row { grid-template-columns: minmax(0, 1fr) 20vw 60px 84px; gap: 6px; }
}
h1 { font-size: 18px; margin: 0 0 4px; }
section { margin-top: 24px; padding-top: 8px; border-top: 2px solid #8886; }
.scroll { overflow-x: auto; }
"""


def write_page(material: Material) -> Iterator[bytes]:
    """The page, of at most about 10,000 spans."""
    grown = grow_trees(material, most=_MOST_SPANS)
    yield _bytes(_head(_title(material)))
    if material.session_id is None:
        yield _bytes(f"<div class=scroll>{dashboard_html(material.data, _LIMITS)}</div>\n")
    if grown.left_out:
        yield _bytes(f"<p class=note>{count(grown.left_out, 'older session')} left out, for size</p>\n")
    for tree in grown.trees:
        yield _bytes(f"<section>\n{session_html(tree, _LIMITS)}\n</section>\n")
    yield b"</main>\n</body>\n</html>\n"


def _title(material: Material) -> str:
    session = material.data.sessions.get(material.session_id or "")
    what = printable(session.agent_id) if session is not None else "agents and tools"
    return html.escape(f"{what} · {moment(material.data.timestamp * 1000)}")


def _head(title: str) -> str:
    style = STYLE + _PAGE_STYLE
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="referrer" content="no-referrer">\n'
        f'<title>{title}</title>\n<style>{style}</style>\n</head>\n<body class="pyjama">\n<main>\n<h1>{title}</h1>\n'
    )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
