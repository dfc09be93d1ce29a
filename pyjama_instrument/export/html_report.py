"""The HTML report: a single file without scripts or requests, which you can mail or open from disk.

Its content security policy allows only its own style sheet, by hash. If a name got past the escaping, it still could
not load or run anything.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterator

from pyjama_instrument.export.export_data import ExportData, build_trees
from pyjama_instrument.presentation.formatting import count, moment, printable
from pyjama_instrument.presentation.html import STYLE, Limits, dashboard_html, session_html

__all__ = ["write_html"]

_MAX_SPANS = 10_000
_LIMITS = Limits(rows=100, spans=_MAX_SPANS, text=2000)

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


def write_html(source: ExportData) -> Iterator[bytes]:
    """The report, with at most about 10,000 spans."""
    stream = build_trees(source, max_spans=_MAX_SPANS)
    yield _bytes(_head(_title(source)))
    if source.session_id is None:
        yield _bytes(f"<div class=scroll>{dashboard_html(source.dashboard, _LIMITS)}</div>\n")
    if stream.left_out:
        yield _bytes(f"<p class=note>{count(stream.left_out, 'older run')} left out to limit the size</p>\n")
    for tree in stream.trees:
        yield _bytes(f"<section>\n{session_html(tree, _LIMITS)}\n</section>\n")
    yield b"</main>\n</body>\n</html>\n"


def _title(source: ExportData) -> str:
    session = source.dashboard.sessions.get(source.session_id or "")
    what = printable(session.agent_id) if session is not None else "agents and tools"
    return html.escape(f"{what} · {moment(source.dashboard.timestamp * 1000)}")


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
