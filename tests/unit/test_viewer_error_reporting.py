"""What a program that runs a dashboard finds on its stderr and in its log: a few lines of ours and no others."""

from __future__ import annotations

import logging

import pytest

from pyjama_instrument.viewer import error_reporting
from tests.conftest import RunPython

# A host with a dashboard and somebody who does to it what ``CASE`` does, 30 times over.
HOST = r"""
import contextlib, logging, os, socket, struct, sys, threading, urllib.request
if sys.argv[1] == "configured":
    logging.basicConfig(level=logging.INFO)

def settings(name):
    logger = logging.getLogger(name)
    return logger.level, logger.propagate, logger.disabled, list(logger.handlers)

names = (None, "uvicorn", "uvicorn.error", "uvicorn.access", "asyncio")
before = [settings(name) for name in names]
from pyjama_instrument.viewer import start_dashboard
dashboard = start_dashboard(0)

def connect(data=b""):
    client = socket.create_connection(("127.0.0.1", dashboard.port), 20)
    client.sendall(data)
    return client

def rest(client):
    with contextlib.suppress(ConnectionError):
        while client.recv(65536):
            pass
    client.close()

def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()

def http(first, *headers):
    return b"\r\n".join([first + b" HTTP/1.1", b"Host: localhost", *headers, b"", b""])

GET, STREAM, CLEAR = b"GET /api/view", b"GET /api/stream", b"POST /api/clear"
left_open = []
for _ in range(30):
    CASE
assert urllib.request.urlopen(dashboard.url).read()
dashboard.stop()
for client in left_open:
    client.close()
assert before == [settings(name) for name in names]
"""
CASES = {
    "tls": r'rest(connect(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n"))',
    "nonsense": r'rest(connect(b"\x00\xff\r\n\r\n"))',
    "http/2": r'rest(connect(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))',
    "half a request": r"reset(connect(http(GET)[:20]))",
    "a header without end": r'rest(connect(http(GET, b"X: " + b"y" * 200_000)))',
    "two lengths": r'rest(connect(http(CLEAR, b"Content-Length: 1", b"Content-Length: 2")))',
    "websocket": r'reset(connect(http(GET, b"Connection: upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: e")))',
    "upgrade to http/2": r'reset(connect(http(GET, b"Connection: upgrade, HTTP2-Settings", b"Upgrade: h2c")))',
    "gone before the answer": r"reset(connect(http(GET)))",
    "gone within a body": r'reset(connect(http(CLEAR, b"Content-Type: application/json", b"Content-Length: 9")))',
    "gone from a stream": r"c = connect(http(STREAM)); c.recv(10); reset(c)",
    "nonsense after a request": r'rest(connect(http(GET) + b"\x16\x03\x01 \r\n\r\n"))',
    "nonsense during a stream": r'c = connect(http(STREAM)); c.recv(10); c.sendall(b"\x16\x03\r\n\r\n"); reset(c)',
    "a method of no HTTP": r'rest(connect(http(b"BREW /", b"Connection: close")))',
    "many at once, never read": r"cs = [connect(http(GET) * 20) for _ in range(5)]; [reset(c) for c in cs]",
    "a stream left open": r"left_open.append(connect(http(STREAM)))",
    "expectations": r'rest(connect(http(GET, b"Expect: 100-continue", b"Connection: close")))',
}


@pytest.mark.parametrize("logging_of_the_host", ["configured", "left alone"])
@pytest.mark.parametrize("case", CASES)
def test_no_client_makes_the_program_say_anything(run_python: RunPython, case: str, logging_of_the_host: str) -> None:
    done = run_python(HOST.replace("CASE", CASES[case]), logging_of_the_host)
    assert (done.stdout, done.stderr) == ("", "")


FAULTY = r"""
import sys, logging, urllib.request, urllib.error
if sys.argv[1] == "configured":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
from pyjama_instrument.viewer.app import create_app
from pyjama_instrument.viewer.server import serve

class Reader:
    def revision(self):
        return 0

    def session(self, session_id):
        raise RuntimeError("two\nlines \x1b[31m" + "x" * 10_000)

def pieces(session_id, name):
    yield b"first"
    raise KeyError("half-way")

with serve(create_app(Reader, export=pieces), 0) as dashboard:
    for _ in range(30):
        for path in ("api/session/x", "api/export"):
            try:
                urllib.request.urlopen(dashboard.url + path).read()
            except Exception as error:
                answer = error
                if isinstance(error, urllib.error.HTTPError):
                    error.close()
"""


@pytest.mark.parametrize("logging_of_the_host", ["configured", "left alone"])
def test_a_fault_of_ours_is_one_short_line_however_often_it_comes(
    run_python: RunPython, logging_of_the_host: str
) -> None:
    lines = run_python(FAULTY, logging_of_the_host).stderr.splitlines()
    assert len(lines) == 2
    assert sum("RuntimeError: two lines" in line for line in lines) == 1
    assert sum("KeyError: 'half-way'" in line for line in lines) == 1
    assert max(map(len, lines)) < 400
    assert all(line.isprintable() for line in lines)


def test_a_port_that_is_taken_is_an_exception_and_nothing_else(run_python: RunPython) -> None:
    done = run_python(
        "from pyjama_instrument.errors import ViewerError\n"
        "from pyjama_instrument.viewer import start_dashboard\n"
        "with start_dashboard(0) as one:\n"
        "    try:\n"
        "        start_dashboard(one.port)\n"
        "    except ViewerError as error:\n"
        "        print(error)\n"
    )
    assert "is taken" in done.stdout
    assert done.stderr == ""


def test_the_host_s_asyncio_debugging_does_not_watch_our_loop(run_python: RunPython) -> None:
    done = run_python(HOST.replace("CASE", "urllib.request.urlopen(dashboard.url).read()"), "x", PYTHONASYNCIODEBUG="1")
    assert done.stderr == ""


def test_different_faults_are_reported_up_to_a_number(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(error_reporting, "_logged", set())
    with caplog.at_level(logging.WARNING):
        for number in range(1000):
            error_reporting.log_once(f"fault {number}")
    assert len(caplog.records) == 20


def test_whoever_logs_at_debug_is_told_where_it_came_from(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(error_reporting, "_logged", set())
    try:
        raise ValueError("why")
    except ValueError as error:
        with caplog.at_level(logging.DEBUG):
            error_reporting.log_once("it failed", error)
    assert "Traceback" in caplog.text
    assert [record.levelname for record in caplog.records] == ["WARNING", "DEBUG"]


def test_an_error_whose_text_cannot_be_had_is_reported_all_the_same(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise ValueError

    monkeypatch.setattr(error_reporting, "_logged", set())
    error_reporting.log_once("it failed", Odd())
    assert "Odd: (its message cannot be shown)" in caplog.text
