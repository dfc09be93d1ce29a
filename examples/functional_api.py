"""Record a run by calling functions, for code that you cannot decorate.

    python examples/functional_api.py

The functional API has one function for each thing that happens. An id can be any name; durations are in milliseconds.
``pyjama dashboard`` shows this agent like any other.
"""

from __future__ import annotations

import json
import time

from pyjama_instrument import shared_metrics as shared

__all__ = ["main"]

AGENT = "functional-agent"


def main() -> None:
    """Record one run of two steps with one tool call each. The second call fails."""
    shared.record_agent_start(AGENT, {"purpose": "show the functional API"})
    shared.record_workflow_info(AGENT, ["fetch", "store"])

    shared.record_step_start(AGENT, "fetch")
    began = time.perf_counter()
    pages = ["page " + str(number) for number in range(3)]
    elapsed_ms = (time.perf_counter() - began) * 1000
    shared.record_tool_execution(tool_name="fetch-pages", agent_id=AGENT, status="ok", duration_ms=elapsed_ms)
    shared.record_step_complete(AGENT, "fetch", "ok")

    shared.record_step_start(AGENT, "store")
    shared.record_agent_activity(agent_id=AGENT, tool_name="store-pages", status="ok")
    shared.record_tool_execution(tool_name="store-pages", agent_id=AGENT, status="error", duration_ms=12.5)
    shared.record_step_complete(AGENT, "store", "error")
    shared.record_agent_complete(AGENT)

    data = shared.get_dashboard_data()
    print(f"{len(pages)} pages; the dashboard data of the agent:")
    print(json.dumps(data["agents"][AGENT], indent=2))


if __name__ == "__main__":
    main()
