"""How many entries the document keeps of each kind."""

from __future__ import annotations

__all__ = ["LIMITS", "OTHER"]

OTHER = "__other__"
"""The name under which tools and agents beyond the limits are counted."""

LIMITS = {
    "tools": 2000,
    "agents": 2000,
    "ended-sessions": 500,
    "running-sessions": 1000,
    "steps": 200,
    "in-flight": 100,
    "attributes": 100,
    "recent-logs": 100,
    "rate-seconds": 60,
}
