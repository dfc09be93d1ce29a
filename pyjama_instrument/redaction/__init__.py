"""What may be recorded of the values that a program lets us see, decided before anything is written."""

from pyjama_instrument.redaction.policy import REDACTED, Field, Place, Redactor

__all__ = ["REDACTED", "Field", "Place", "Redactor"]
