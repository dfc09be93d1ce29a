"""Runs the dashboard's application in a daemon thread of this process.

Invariants: ``start_dashboard`` returns when connections are accepted; ``stop`` ends all streams, leaves no thread and
returns within a second; the program's logging, signals and event loop are not touched; a forked child does not keep
the port open.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from types import TracebackType

from uvicorn.server import ServerState

from pyjama_instrument._platform import after_fork_in_child
from pyjama_instrument.config import resolve_home
from pyjama_instrument.errors import ConfigError, ViewerError
from pyjama_instrument.export import export
from pyjama_instrument.reader import Reader
from pyjama_instrument.viewer.access_control import is_loopback
from pyjama_instrument.viewer.app import DashboardApp, create_app
from pyjama_instrument.viewer.connections import Connection, ServerConfig
from pyjama_instrument.viewer.error_reporting import handle_loop_exception

__all__ = ["DEFAULT_PORT", "Dashboard", "serve", "start_dashboard"]

DEFAULT_PORT = 8080
_PORTS_TRIED = 100
_START_SECONDS = 10.0
_STOP_SECONDS = 5.0
_GRACE_SECONDS = 0.3


def start_dashboard(
    port: int | None = None,
    *,
    home: str | os.PathLike[str] | None = None,
    host: str = "127.0.0.1",
    token: str | None = None,
    clear: Callable[[], None] | None = None,
    root_path: str = "",
    allowed_hosts: Iterable[str] = (),
    trust_proxy: bool = False,
) -> Dashboard:
    """Start the dashboard and return once it accepts connections.

    Args:
        port: None for 8080 or the next free port after it; 0 for any free port; any other number for exactly this port.
        home: the store to show; by default the one that this process records to.
        host: a loopback address or ``localhost``; another address of this machine only together with ``token``.
            There is no encryption: prefer ``ssh -L`` to reach the dashboard from another machine.
        token: a secret of at least 128 random bits, such as ``secrets.token_urlsafe()``, that every request must
            contain. Open the page as ``http://…/?token=…``.
        clear: what the page's “Clear” button runs, such as ``shared_metrics.clear_metrics``. Without it, the page can
            change nothing.
        root_path: the path at which a reverse proxy serves the page, such as ``/proxy/8080``, if the proxy does not
            strip it from requests.
        allowed_hosts: the host names of a reverse proxy, such as ``agents.example``. They require a token.
        trust_proxy: the proxy decides who has access, so that no token is needed.

    Raises:
        ViewerError: the port is taken or forbidden, or other machines can reach the host and there is no token.
        ConfigError: an argument has a wrong type or value.
    """
    store = os.fspath(resolve_home(home))
    app = create_app(
        lambda: Reader(store),
        store=_with_tilde(store),
        clear=clear,
        export=lambda session_id, name: export(store, session_id, name),
        token=token,
        allowed_hosts=allowed_hosts,
        root_path=root_path,
        trust_proxy=trust_proxy,
    )
    return serve(app, port, host=host)


def _with_tilde(path: str) -> str:
    """The path, with ``~`` in place of the user's home directory."""
    home = os.path.expanduser("~").rstrip("/")
    return f"~{path.removeprefix(home)}" if home and path.startswith(f"{home}/") else path


def serve(app: DashboardApp, port: int | None = None, *, host: str = "127.0.0.1") -> Dashboard:
    """Serve an application made by ``create_app``; arguments and errors as for :func:`start_dashboard`."""
    address, family = _address(host, app.has_token)
    listener = _listen(address, family, _validate_port(port))
    try:
        return Dashboard(listener, app)
    except BaseException:
        listener.close()
        app.stop()
        raise


class Dashboard:
    """A running dashboard. Call ``stop()`` to end it, or use it as a context manager."""

    def __init__(self, listener: socket.socket, app: DashboardApp) -> None:
        self._pid = os.getpid()
        address = listener.getsockname()
        self._host: str = f"[{address[0]}]" if ":" in address[0] else address[0]
        self._port: int = address[1]
        self._listener = listener
        self._server = _Server(app)
        self._thread = threading.Thread(target=self._serve, name="pyjama-viewer", daemon=True)
        _listeners.add(listener)
        app.start()
        self._thread.start()
        self._server.settled.wait(_START_SECONDS)
        if not self._server.started:
            self.stop()
            raise ViewerError(f"The dashboard did not start on {self.url}.") from self._server.failure
        atexit.register(self.stop)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://{self._host}:{self._port}/"

    @property
    def status(self) -> str:
        """``running`` or ``stopped``."""
        return "running" if self._is_ours() and self._thread.is_alive() else "stopped"

    def stop(self) -> None:
        """Stop serving, end open streams and wait for the thread to end. May be called again."""
        if not self._is_ours():
            return
        atexit.unregister(self.stop)
        self._server.stop()
        if threading.current_thread() is not self._thread:
            self._thread.join(_STOP_SECONDS)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it has stopped, or for ``timeout`` seconds. Returns whether it has stopped."""
        if self._is_ours():
            self._thread.join(timeout)
        return self.status == "stopped"

    def _is_ours(self) -> bool:
        """Whether this process runs it. A forked child has this object, but not the thread."""
        return os.getpid() == self._pid

    def _serve(self) -> None:
        try:
            # loop_factory: the program may have set an event loop policy for its own loops.
            # debug=False: asyncio's debug mode would report our slow callbacks in the program's log.
            with asyncio.Runner(debug=False, loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._server.serve(self._listener))
        except BaseException as failure:
            self._server.failure = failure
        finally:
            self._listener.close()
            _listeners.discard(self._listener)
            self._server.app.stop()
            self._server.settled.set()

    def __enter__(self) -> Dashboard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Dashboard {self.url} {self.status}>"


# ── a server on uvicorn's HTTP implementation ───────────────────────────────────────────────────────────


class _Server:
    """Answers requests until ``stop()``, and then stops at once.

    It uses uvicorn's HTTP implementation but not uvicorn's server, which wakes up ten times a second, writes to the
    log and pauses before it ends.
    """

    def __init__(self, app: DashboardApp) -> None:
        self.app = app
        self.state = ServerState()
        self.settled = threading.Event()
        self.started = False
        self.failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._stop_requested = False

    async def serve(self, listener: socket.socket) -> None:
        """Answer the connections to ``listener``."""
        loop = self._loop = asyncio.get_running_loop()
        loop.set_exception_handler(handle_loop_exception)
        config = ServerConfig(
            self.app, ws="none", lifespan="off", interface="asgi3", proxy_headers=False, server_header=False
        )
        server = await loop.create_server(lambda: Connection(config, self.state, {}, loop), sock=listener)
        self.started = True
        self.settled.set()
        if not self._stop_requested:
            await self._stopping.wait()
        server.close()
        await self._end_connections()

    async def _end_connections(self) -> None:
        """End all connections quickly, since the end of the program waits for this."""
        self.app.close()
        for connection in list(self.state.connections):
            connection.shutdown()
        if not await self._wait_until_idle(_GRACE_SECONDS):
            self._abort_connections()
            await self._wait_until_idle(_GRACE_SECONDS)

    async def _wait_until_idle(self, seconds: float) -> bool:
        """Whether all connections and their tasks have ended within so many seconds."""
        deadline = time.monotonic() + seconds
        while self.state.connections or self.state.tasks:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.002)
        return True

    def _abort_connections(self) -> None:
        """Disconnect clients that neither read nor close their connection."""
        for connection in list(self.state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()

    def stop(self) -> None:
        """Request the end. May be called from any thread."""
        self._stop_requested = True
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._stopping.set)
            except RuntimeError:
                pass  # The loop has ended already.


# ── sockets ─────────────────────────────────────────────────────────────────────────────────────────────

_listeners: set[socket.socket] = set()


def _close_inherited() -> None:
    """In a forked child, close the port. Otherwise it would stay taken after the parent has ended."""
    for listener in _listeners:
        listener.close()
    _listeners.clear()


after_fork_in_child(_close_inherited)


def _address(host: str, has_token: bool) -> tuple[str, socket.AddressFamily]:
    if not isinstance(host, str):
        raise ConfigError(f"host must be a string such as '127.0.0.1', not {host!r}.")
    if host == "localhost":
        return "127.0.0.1", socket.AF_INET
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        address = None
    if address is None or not (has_token or is_loopback(str(address))):
        raise ViewerError(
            f"The dashboard cannot listen on {host!r}. Use 127.0.0.1 (and `ssh -L` from other machines), or an IP "
            "address of this machine together with a token."
        )
    return str(address), socket.AF_INET6 if address.version == 6 else socket.AF_INET


def _validate_port(port: int | None) -> int | None:
    if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535):
        raise ConfigError(f"port must be a whole number from 0 to 65535 or None, not {port!r}.")
    return port


def _listen(address: str, family: socket.AddressFamily, port: int | None) -> socket.socket:
    if port is not None:
        try:
            return _open_listener(address, family, port)
        except OSError as error:
            raise ViewerError(_listen_error(address, port, error)) from error
    for candidate in (*range(DEFAULT_PORT, DEFAULT_PORT + _PORTS_TRIED), 0):
        try:
            return _open_listener(address, family, candidate)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise ViewerError(_listen_error(address, candidate, error)) from error
    raise ViewerError(f"No port is free on {address}.")


def _open_listener(address: str, family: socket.AddressFamily, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            # Allows a port in TIME_WAIT. A port that another socket listens on stays refused.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(512)
    except BaseException:
        listener.close()
        raise
    return listener


def _listen_error(address: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {address} is taken. Choose another port, or none to use the next free one."
    return f"The dashboard cannot listen on {address}:{port}: {error.strerror or error}."
