"""The write side: decorators, sessions and the recorder that appends events to the journal."""
