"""Where a run can be seen: the address of its page, if a dashboard on this machine shows it."""

from __future__ import annotations

import http.client
from urllib.parse import quote

__all__ = ["PORTS", "address_of"]

PORTS = range(8080, 8090)
"""Where a dashboard is looked for: the default port, and those it takes when that is not free."""

_SECONDS = 0.3


def address_of(agent: str, session_id: str) -> str | None:
    """The address of the session's page on the first dashboard that knows its agent.

    A dashboard over another store does not, and neither does another program that listens there.
    """
    for port in PORTS:
        if _knows(port, agent):
            return f"http://127.0.0.1:{port}/#/session/{session_id}"
    return None


def _knows(port: int, agent: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        connection.request("GET", f"/api/agent/{quote(agent, safe='', errors='replace')}/diagram")
        answer = connection.getresponse()
        return answer.status == 200 and answer.headers.get_content_type() == "text/plain"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
