"""The read side: reads a store without writing to it or locking anything."""

from pyjama_instrument.reader.api import get_dashboard_data, load_session, read_metrics
from pyjama_instrument.reader.event_tail import tail_events
from pyjama_instrument.reader.reader import Reader

__all__ = ["Reader", "get_dashboard_data", "load_session", "read_metrics", "tail_events"]
