"""Redaction: which values are recorded, and which are masked before anything is written."""

from pyjama_instrument.redaction.policy import REDACTED, Field, Place, Redactor

__all__ = ["REDACTED", "Field", "Place", "Redactor"]
