"""Programs that run in the measured environments. They need the standard library and what they measure."""
