"""The bytes on disk: layout, encoding, journals, snapshot, locks."""
