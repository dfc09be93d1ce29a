"""Runs the dashboard's application in a daemon thread of this process.

Invariants: ``start_dashboard`` returns once connections are accepted; ``stop`` ends within a second, open
event streams included, and leaves no thread; the host's own logging, signals and event loop are untouched;
a forked child does not hold on to the port.
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
from pyjama_instrument.viewer.app import DashboardApp, create_app
from pyjama_instrument.viewer.connections import Config, Connection
from pyjama_instrument.viewer.faults import report_from_loop
from pyjama_instrument.viewer.guard import is_loopback

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
        port: None for 8080 or the next free port after it; 0 for any free port; otherwise exactly this one.
        home: the store to watch; by default the one that this process records to.
        host: a loopback address or ``localhost``; any other of this machine only together with ``token``.
            There is no encryption: prefer ``ssh -L`` to reach the dashboard from another machine.
        token: what whoever asks must know, at least 128 random bits such as ``secrets.token_urlsafe()``. The
            page is then opened as ``http://…/?token=…``.
        clear: what the page's “clear” does, such as ``shared_metrics.clear_metrics``. Without it nothing can be
            changed from the page.
        root_path: the path below which a reverse proxy shows the page, such as ``/proxy/8080``, if the proxy does not
            strip it from what it passes on.
        allowed_hosts: the names by which a reverse proxy is reached, such as ``agents.example``. They need a token.
        trust_proxy: the proxy decides who gets in: no token is needed.

    Raises:
        ViewerError: the port is taken or forbidden, or the host is not this machine's own and there is no token.
        ConfigError: an argument has a wrong type or value.
    """
    store = os.fspath(resolve_home(home))
    app = create_app(
        lambda: Reader(store),
        store=_as_people_write_it(store),
        clear=clear,
        export=lambda session_id, name: export(store, session_id, name),
        token=token,
        allowed_hosts=allowed_hosts,
        root_path=root_path,
        trust_proxy=trust_proxy,
    )
    return serve(app, port, host=host)


def _as_people_write_it(path: str) -> str:
    """The path with ``~`` for the user's home directory."""
    home = os.path.expanduser("~").rstrip("/")
    return f"~{path.removeprefix(home)}" if home and path.startswith(f"{home}/") else path


def serve(app: DashboardApp, port: int | None = None, *, host: str = "127.0.0.1") -> Dashboard:
    """Serve an application made by ``create_app``; arguments and errors as for :func:`start_dashboard`."""
    address, family = _address(host, app.has_token)
    listener = _listen(address, family, _checked(port))
    try:
        return Dashboard(listener, app)
    except BaseException:
        listener.close()
        app.release()
        raise


class Dashboard:
    """A running dashboard. ``stop()`` it, or use it as a context manager."""

    def __init__(self, listener: socket.socket, app: DashboardApp) -> None:
        self._pid = os.getpid()
        address = listener.getsockname()
        self._host: str = f"[{address[0]}]" if ":" in address[0] else address[0]
        self._port: int = address[1]
        self._listener = listener
        self._server = _Server(app)
        self._thread = threading.Thread(target=self._serve, name="pyjama-viewer", daemon=True)
        _listeners.add(listener)
        app.prepare()
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
        """Stop serving, end open streams and wait for the thread to end. Harmless when stopped already."""
        if not self._is_ours():
            return
        atexit.unregister(self.stop)
        self._server.stop()
        if threading.current_thread() is not self._thread:
            self._thread.join(_STOP_SECONDS)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it has stopped, or for ``timeout`` seconds; whether it has stopped."""
        if self._is_ours():
            self._thread.join(timeout)
        return self.status == "stopped"

    def _is_ours(self) -> bool:
        """Not so in a forked child, which has this object but not the thread."""
        return os.getpid() == self._pid

    def _serve(self) -> None:
        try:
            # A loop of our own kind, whatever event loop policy the host has set.
            # Without asyncio's debugging, which would report slow callbacks of ours in the host's log.
            with asyncio.Runner(debug=False, loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._server.serve(self._listener))
        except BaseException as failure:
            self._server.failure = failure
        finally:
            self._listener.close()
            _listeners.discard(self._listener)
            self._server.app.release()
            self._server.settled.set()

    def __enter__(self) -> Dashboard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Dashboard {self.url} {self.status}>"


# ── uvicorn's HTTP in a server that is a good guest ─────────────────────────────────────────────────────


class _Server:
    """Answers requests until it is told to stop, and then stops at once.

    Of uvicorn it takes the HTTP and leaves the server, which wakes up ten times a second, writes to the log, and
    pauses before it ends.
    """

    def __init__(self, app: DashboardApp) -> None:
        self.app = app
        self.state = ServerState()
        self.settled = threading.Event()
        self.started = False
        self.failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._is_told_to_stop = False

    async def serve(self, listener: socket.socket) -> None:
        """Answer whoever connects to ``listener``."""
        loop = self._loop = asyncio.get_running_loop()
        loop.set_exception_handler(report_from_loop)
        config = Config(
            self.app, ws="none", lifespan="off", interface="asgi3", proxy_headers=False, server_header=False
        )
        server = await loop.create_server(lambda: Connection(config, self.state, {}, loop), sock=listener)
        self.started = True
        self.settled.set()
        if not self._is_told_to_stop:
            await self._stopping.wait()
        server.close()
        await self._end_connections()

    async def _end_connections(self) -> None:
        """The end of a program must not wait for its dashboard."""
        self.app.close()
        for connection in list(self.state.connections):
            connection.shutdown()
        if not await self._quiet(_GRACE_SECONDS):
            self._drop_stragglers()
            await self._quiet(_GRACE_SECONDS)

    async def _quiet(self, seconds: float) -> bool:
        """Whether all connections and their tasks have ended within so many seconds."""
        deadline = time.monotonic() + seconds
        while self.state.connections or self.state.tasks:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.002)
        return True

    def _drop_stragglers(self) -> None:
        """Cut off clients that neither read nor hang up."""
        for connection in list(self.state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()

    def stop(self) -> None:
        """Ask it to stop; from any thread."""
        self._is_told_to_stop = True
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._stopping.set)
            except RuntimeError:
                pass  # The loop has ended already.


# ── sockets ─────────────────────────────────────────────────────────────────────────────────────────────

_listeners: set[socket.socket] = set()


def _close_inherited() -> None:
    """In a forked child: let go of the port, or nobody could use it after the parent has ended."""
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
            f"The dashboard serves this machine only, not {host!r}, unless it is given a token: "
            "use 127.0.0.1, and `ssh -L` to reach it from elsewhere."
        )
    return str(address), socket.AF_INET6 if address.version == 6 else socket.AF_INET


def _checked(port: int | None) -> int | None:
    if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535):
        raise ConfigError(f"port must be a whole number from 0 to 65535 or None, not {port!r}.")
    return port


def _listen(address: str, family: socket.AddressFamily, port: int | None) -> socket.socket:
    if port is not None:
        try:
            return _bound(address, family, port)
        except OSError as error:
            raise ViewerError(_refused(address, port, error)) from error
    for candidate in (*range(DEFAULT_PORT, DEFAULT_PORT + _PORTS_TRIED), 0):
        try:
            return _bound(address, family, candidate)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise ViewerError(_refused(address, candidate, error)) from error
    raise ViewerError(f"No port is free on {address}.")


def _bound(address: str, family: socket.AddressFamily, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            # A port in TIME_WAIT is free; one with a listener is not, with or without this.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(512)
    except BaseException:
        listener.close()
        raise
    return listener


def _refused(address: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {address} is taken: choose another, or leave the port out to get the next free one."
    return f"The dashboard cannot listen on {address}:{port}: {error.strerror or error}."
