"""Threads as the operating system has them, and locks on them."""
