"""``pyjama dashboard``: serve the page until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import sys
import threading
from ipaddress import ip_address

from pyjama_instrument.cli._terminal import say
from pyjama_instrument.errors import ViewerError

__all__ = ["dashboard"]

_TOKEN = "PYJAMA_TOKEN"


def dashboard(options: argparse.Namespace) -> int:
    """Start the dashboard, say where it is, and wait.

    Raises:
        ViewerError: the ``viewer`` extra is missing, the port is taken, or whoever asks could not learn the token.
        ConfigError: the token that the environment gives can be guessed.
    """
    from pyjama_instrument.config import resolve_home
    from pyjama_instrument.shared_metrics import clear_metrics
    from pyjama_instrument.viewer import start_dashboard

    given = os.environ.get(_TOKEN)
    is_private = _is_loopback(options.host) and (options.trust_proxy or not options.allowed_host)
    made = None if given or is_private else _made_token()
    served = start_dashboard(
        options.port,
        host=options.host,
        token=given or made,
        clear=clear_metrics,
        root_path=options.root_path,
        allowed_hosts=options.allowed_host,
        trust_proxy=options.trust_proxy,
    )
    say(f"Dashboard: {_address(options.host, served.url, served.port)}{f'?token={made}' if made else ''}")
    for name in options.allowed_host:
        say(f"Through the proxy: {name}{options.root_path.rstrip('/')}/{f'?token={made}' if made else ''}")
    if given:
        say(f"Add ?token=… to the address, with what {_TOKEN} says.")
    say(f"Store: {resolve_home()}   (Ctrl-C to stop)")
    try:
        threading.Event().wait()
    finally:
        served.stop()
    return 0


def _made_token() -> str:
    """A token for this run, which only the terminal is told: what goes into a file or a log stays there."""
    if not sys.stdout.isatty():
        raise ViewerError(
            "--host and --allowed-host need an access token, and there is no terminal to print one to. Set one:  "
            f"export {_TOKEN}=$(python -c 'import secrets; print(secrets.token_urlsafe())')"
        )
    return secrets.token_urlsafe()


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:  # no address at all: the viewer says so
        return True


def _address(host: str, url: str, port: int) -> str:
    """Where to point a browser at: all addresses of this machine are none that can be opened."""
    unspecified = host.strip("[]") in ("0.0.0.0", "::")
    return f"http://{socket.gethostname()}:{port}/" if unspecified else url
