"""``pyjama dashboard``: serves the page until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import sys
from ipaddress import ip_address

from pyjama_instrument.cli.terminal import print_line, wait_for_interrupt
from pyjama_instrument.errors import ViewerError
from pyjama_instrument.presentation.formatting import printable

__all__ = ["dashboard"]

_TOKEN = "PYJAMA_TOKEN"


def dashboard(options: argparse.Namespace) -> int:
    """Start the dashboard, print its address, and wait.

    Raises:
        ViewerError: the extra ``viewer`` is missing, the port is in use, or a new token could not be printed.
        ConfigError: ``PYJAMA_TOKEN`` is too easy to guess.
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
    print_line(f"Dashboard: {_address(options.host, served.url, served.port)}{f'?token={made}' if made else ''}")
    for name in options.allowed_host:
        print_line(f"Through the proxy: {name}{options.root_path.rstrip('/')}/{f'?token={made}' if made else ''}")
    if given:
        print_line(f"To open it, add ?token= and the value of {_TOKEN} to the address.")
    print_line(f"Store: {printable(resolve_home(), 500)}   (Ctrl-C to stop)")
    try:
        wait_for_interrupt()
    finally:
        served.stop()
    return 0


def _made_token() -> str:
    """A new token, to be printed on the terminal only: in a file or a log it could be read later."""
    if not sys.stdout.isatty():
        raise ViewerError(
            "--host and --allowed-host need a token, and a new one is printed only if standard output is a terminal. "
            f"Set {_TOKEN} to a random string, for example: "
            f"export {_TOKEN}=$(python -c 'import secrets; print(secrets.token_urlsafe())')"
        )
    return secrets.token_urlsafe()


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:  # not an address: the viewer reports it
        return True


def _address(host: str, url: str, port: int) -> str:
    """The address for a browser. It cannot open 0.0.0.0, which stands for all addresses of this machine."""
    unspecified = host.strip("[]") in ("0.0.0.0", "::")
    return f"http://{socket.gethostname()}:{port}/" if unspecified else url
