"""The fold: (document, events) → document. Pure."""
