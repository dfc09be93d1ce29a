"""The read side: everything the store knows, without writing to it or locking anything."""

from pyjama_instrument.reader.reader import Reader, get_dashboard_data, load_session, read_metrics, tail_events

__all__ = ["Reader", "get_dashboard_data", "load_session", "read_metrics", "tail_events"]
