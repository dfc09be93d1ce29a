"""The URL of a run's page, if a dashboard on this machine shows that run."""

from __future__ import annotations

import http.client
from urllib.parse import quote

__all__ = ["PORTS", "url_of_run"]

PORTS = range(8080, 8090)
"""The ports on which to look for a dashboard: the default one, and those it takes if that is in use."""

_TIMEOUT_SECONDS = 0.3


def url_of_run(agent: str, run: str) -> str | None:
    """The URL of the run's page on the first dashboard that knows the agent.

    A dashboard of another store does not know it, and neither does another program that listens on the port.
    """
    for port in PORTS:
        if _knows(port, agent):
            return f"http://127.0.0.1:{port}/#/run/{run}"
    return None


def _knows(port: int, agent: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", f"/api/agent/{quote(agent, safe='', errors='replace')}/diagram")
        answer = connection.getresponse()
        return answer.status == 200 and answer.headers.get_content_type() == "text/plain"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
