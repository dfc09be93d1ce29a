"""Threads and locks of the operating system, also under gevent and eventlet."""
