"""The recorder: takes encoded events, writes them to this process's journal, and has them folded.

One per process. Nothing here raises into the caller and nothing on the way of an event takes a lock that another
process can hold; what cannot be written is dropped *and counted*. The journal is opened at the first event, the
flusher thread started with it. The flusher makes way for a fork and goes on after it; the child begins a journal of
its own.

Threads take turns where the quick way does not do. No code of the host's is called on purpose during a turn: what there
is to say waits until its end, and the host's function for redaction has had its say on the command line before.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

from pyjama_instrument import _guard, _platform, unpickle
from pyjama_instrument._fork_detection import unforked_mark
from pyjama_instrument._hooked_tools import hooked, when_changed
from pyjama_instrument.config import disabled_by_environment, home_to_write, resolve_home, set_home
from pyjama_instrument.errors import ConfigError, PyjamaError, SchemaTooNew
from pyjama_instrument.recording import outcome as outcomes
from pyjama_instrument.recording.callable_wrappers import kind_of
from pyjama_instrument.recording.context import Call, Scope, SessionState
from pyjama_instrument.recording.counters import ReasonCounts
from pyjama_instrument.recording.flusher import Flusher
from pyjama_instrument.recording.ids import Ids
from pyjama_instrument.recording.outcome import ControlFlow, outcome, what_ended_the_program
from pyjama_instrument.recording.throttle import Budget, Throttle
from pyjama_instrument.recording.worker_process import is_worker, multiprocessing_package
from pyjama_instrument.redaction import Redactor, policy
from pyjama_instrument.storage import lock_descriptors
from pyjama_instrument.storage.encoding import encode, tool_prefix
from pyjama_instrument.storage.journal import SEGMENT_BYTES, Journal, JournalFull
from pyjama_instrument.storage.layout import PREVIOUS, SCHEMA, SNAPSHOT, SegmentName
from pyjama_instrument.storage.process_identity import boot_and_pid_namespace
from pyjama_instrument.storage.store_directory import Store
from pyjama_instrument.threads.bounded_lock import BoundedLock
from pyjama_instrument.threads.native import are_replaced, sleep

__all__ = ["Recorder", "configure", "flush", "reason_of", "recorder", "reset_for_testing"]

_ANNOUNCE_AFTER_NS = 250_000_000
_BUSY_SECONDS = 0.25
_IDLE_SECONDS = 0.6
_FOLD_SECONDS = 0.5
_BREATH_SECONDS = 0.1
_TAKE_OVER_SECONDS = 0.55
_LOOK_SECONDS = 0.45
_LOOKS = 10
_EARLY_NS = 5_000_000  # a thread may be woken up a little too early
_KEEP_SECONDS = 10.0
_REOPEN_SECONDS = 0.5
_EXIT_WAIT_SECONDS = 0.01
_EXIT_SECONDS = 0.1  # what the end of a program may spend on folding in all
_EXIT_FOLD_SECONDS = 0.04  # of that for what others have left; the rest is for writing it down
_FOLD_BUDGET_SECONDS = 0.5  # after which a fold in the background writes down how far it got
_MOST_BUDGET_SECONDS = 60.0
_MOST_PENDING = 10_000
_ONE_A_SPAN = tuple(f'{{"kind":"{kind}"'.encode() for kind in ("tool.ended", "step.started", "session.started"))
"""How the one line begins that is written for each span id, once the call is over or the step or session begun."""


class _Look(NamedTuple):
    """When the descriptor was last seen to lead to the journal: lines that should have been written, and its size."""

    lines: int
    bytes: int


class _EachCall:
    """What each call of a tool looks at: Python finds it more quickly in slots."""

    __slots__ = (
        "ambient", "announced", "dirty", "enabled", "fd", "ids", "in_flight", "mono_ns", "unforked", "wall_ns"
    )  # fmt: skip

    ambient: Scope | None
    announced: set[str]
    dirty: bool
    enabled: bool
    fd: int
    ids: Ids
    in_flight: dict[str, Call]
    mono_ns: Callable[[], int]
    unforked: Any
    wall_ns: Callable[[], int]


class Recorder(_EachCall):
    """The process's way into the store.

    Attributes:
        enabled: False makes every decorated function behave as undecorated, at once.
        epoch: generation of the process; one more in each forked child.
        forked: this process is a forked child, and began after our hooks were in place.
        in_flight: calls under way, by span.
        announced: spans in ``in_flight`` whose ``tool.started`` is written.
        turn: whose turn it is to open or mend the journal, or to announce a call late.
        ambient: what calls outside any session belong to, once there was one.
        open_sessions: sessions that this process has started and not ended.
        unwritten: calls that ended where the stack had no room to record it: tool, scope, span, duration, error's type.
        unforked: its first item is 1 in the process that all this is about, and 0 in a child that was forked in C; its
            second is 1 if calls need no more than to be timed, besides: recording is on and there are no hooks.
    """

    def __init__(self) -> None:
        self.enabled = not disabled_by_environment()
        self.epoch = 0
        self.forked = False
        self.ids = Ids()
        self.unforked = unforked_mark()
        self.wall_ns = time.time_ns
        self.mono_ns = time.perf_counter_ns
        self._hooked = False
        self._argv: list[str] | None = None
        self._writer = ""
        self._segment = 0
        self._left_by_parent: object = None
        self._folds_with: Any = None
        self._begin()

    def __reduce__(self) -> tuple[Any, ...]:
        return unpickle.process_recorder, ()

    def _begin(self) -> None:
        """The state of a process that has recorded nothing yet."""
        self.fd = -1  # the journal's descriptor while all is well, else -1: then every write takes the slow way
        self.dirty = False
        self.in_flight = {}
        self.announced = set()
        self.open_sessions: dict[str, SessionState] = {}
        self.ambient = None
        self._claimed: dict[str, Scope] = {}
        self.turn = BoundedLock(self._end_turn)
        self._importing = BoundedLock()
        self._journal: Journal | None = None
        self._flusher: Flusher | None = None
        self._tick_due = 0.0
        self._opening = False
        self._pending: deque[bytes] = deque()
        self._late: dict[object, bytes] = {}  # lines that are taking the slow way just now
        self._looked: _Look | None = None
        self.unwritten: deque[tuple[Any, ...]] = deque()
        self._ragged = self._full = False
        self._dropped = ReasonCounts()
        self._unseen = False  # whether somebody has taken this living process for dead
        self._reopen_at = 0
        self._fold_at = 0
        self._budget_seconds = _FOLD_BUDGET_SECONDS
        self._exit_seconds = _EXIT_FOLD_SECONDS
        self._refused = "unavailable"  # why there is no journal
        self._wants_room = False
        self._finalized = self._exiting = self._asking = self._moving = False
        self.unforked[0] = 1  # last: if a signal's exception comes before, all this is done again
        self.choose_way()

    def choose_way(self) -> None:
        """Have the calls of plain functions take the quick way, if it does all that is wanted."""
        self.unforked[1] = int(bool(self.unforked[0] and self.enabled and not hooked))

    # -- recording

    def emit(self, line: bytes) -> None:
        """Append one encoded event to the journal. Never raises; drops the event and counts it if it must."""
        try:
            written = os.write(self.fd, line)
        except OSError as error:
            self.not_written(line, reason_of(error))
            return
        if written == len(line):
            self.dirty = True
        else:
            self.not_written(line, "short-write", written)

    def not_written(self, line: bytes, reason: str, written: int = 0) -> None:
        """An event could not be written the quick way: open the journal, or mend it, or drop the event."""
        this = object()
        try:
            self._late[this] = line
            self._emit_slowly(line, reason, written)
        except RecursionError:  # the host's stack is full: from here on, nothing that takes a frame
            self._dropped._counted["recursion", 0] += 1
            return
        except Exception as error:
            _guard.swallow(error, "recorder.emit")
            self._drop("internal")
        finally:
            self._late.pop(this, None)
        _guard.say()

    def record(self, event: dict[str, Any]) -> None:
        """Append an event given as a dictionary of JSON-safe values."""
        self._record(event, self.enabled)

    def _record(self, event: dict[str, Any], enabled: bool) -> None:
        if not enabled:
            return
        try:
            self.notice_fork()
            self.emit(encode(event))
        except RecursionError:  # the host's stack is full, or its data is too deep
            self._dropped._counted["recursion", 0] += 1
        except Exception as error:
            _guard.swallow(error, "recorder.record")
            self._drop("unencodable")

    def now_us(self) -> int:
        """The time now, in µs since the epoch."""
        return self.wall_ns() // 1000

    def _emit_slowly(self, line: bytes, reason: str, written: int) -> None:
        self.notice_fork()
        if self._journal is None and self._waits_to_reopen():
            self._drop(self._refused)
            return
        self._look_at_argv()
        self._import_for_the_flusher()
        if self.turn.wait():
            self._alone(self._emit_alone, line, reason, written)
        else:
            self._leave_to_others(line, reason, written)

    def _leave_to_others(self, line: bytes, reason: str, written: int) -> None:
        """Another thread has been at the journal for long: it will write the event, or the flusher."""
        if reason == "short-write":
            self._ragged, self.fd = True, -1
            if written < len(line) - 1:
                self._drop(reason)
            return
        if len(self._pending) >= _MOST_PENDING:
            self._drop("stuck")
            return
        self._pending.append(line)
        if not self.turn.is_taken():  # it has just finished, and may not have seen this one
            self._alone(lambda: None)

    def _alone(self, do: Callable[..., None], *args: Any) -> None:
        """Do something while no other thread opens or mends the journal, or announces a call."""
        self.turn.take(do, *args)

    def _end_turn(self, turn: BoundedLock) -> None:
        if turn is self.turn:  # a child that was forked in between has another
            self._write_pending()

    def _emit_alone(self, line: bytes, reason: str, written: int) -> None:
        if self._opening:  # a signal handler or a finalizer interrupted the opening, in this very thread
            self._pending.append(line)
            return
        if self.fd != -1 or self._ragged:
            self._ragged = True
            self.fd = -1
            if self._journal is not None and (reason == "ESTALE" or not self._journal.is_ours()):
                self._close_journal()
        if reason == "short-write":
            if written < len(line) - 1 or self._journal is None:  # what is in the file will be skipped as torn
                self._drop(reason)
            return  # else only the newline is missing, and comes next
        if self._full:
            self._drop("journal-full")
            return
        if self._journal is None and not self._open():
            self._drop(self._refused)
            return
        self._write_again(line)

    def _write_pending(self) -> None:
        """Write what was recorded while another thread was at the journal, or this one in the midst of it."""
        while self._pending and not self._opening:
            line = self._pending.popleft()
            if self._journal is None:
                self._drop(self._refused)
            else:
                self.emit(line)

    def _write_again(self, line: bytes) -> None:
        if failure := self._append(line):
            self._drop(failure)
        else:
            self._report_drops()

    def _append(self, line: bytes) -> str | None:
        """Write to the journal, on a new line if the last may be incomplete; why it failed, or None."""
        assert self._journal is not None
        data = b"\n" + line if self._ragged else line
        failure, written = None, 0
        try:
            written = os.write(self._journal.fd, data)
            if written < len(data) - 1:  # if only the newline is missing, it comes next
                failure = "short-write"
        except OSError as error:
            failure = reason_of(error)
        self._ragged = written != len(data)
        self.fd = -1 if self._ragged else self._journal.fd
        self.dirty = True
        return failure

    def _write_unwritten(self) -> None:
        """Record the ends of calls that could not be recorded where they ended."""
        while self.unwritten:
            tool, *ended = self.unwritten.popleft()
            tool.write_late(*ended)

    def _end_the_line(self) -> None:
        """Write the newline after an incomplete line: the next record will not do it, or will be long in coming."""
        journal = self._journal
        if self._ragged and journal is not None and journal.is_ours():
            with contextlib.suppress(OSError):
                self._ragged = os.write(journal.fd, b"\n") != 1
            self.fd = -1 if self._ragged or self._full else journal.fd

    def _finish_journal(self) -> None:
        """Write what is still to be written as the program ends."""
        self._end_the_line()
        if self.fd >= 0:
            self._report_drops()

    def _drop(self, reason: str, count: int = 1) -> None:
        try:
            self._dropped.add(reason, count)
            _guard.say_once(f"drop {reason}", f"events are being dropped ({reason}); the program goes on (said once)")
        except Exception as error:
            _guard.swallow(error, "recorder.drop")

    def _report_drops(self) -> None:
        """Tell the journal what was dropped. What cannot be told now is told later."""
        for reason, count in self._dropped.untold().items():
            self._dropped.told(reason, count)  # first: a signal handler that comes in between must not tell it again
            told = False
            try:
                event = {"kind": "writer.dropped", "ts": self.now_us(), "count": count, "reason": reason}
                told = self._append(encode(event)) is None
            finally:
                if not told:
                    self._dropped.told(reason, -count)
            if not told:
                return

    # -- opening

    def _open(self) -> bool:
        if self._waits_to_reopen():
            return False
        self._hook_into_process()  # before there is anything that a child must not share
        self._opening = True
        try:
            store = Store(home_to_write())
            try:
                self._writer = self._writer or os.urandom(8).hex()
                self._segment += 1
                self._journal = self._new_journal(store)
            except BaseException:
                store.close()
                raise
        except (PyjamaError, OSError) as error:
            self._refused = "journal-full" if isinstance(error, JournalFull) else "unavailable"
            self._reopen_at = time.monotonic_ns() + int(_REOPEN_SECONDS * 1e9)
            _guard.say_once("unavailable", f"nothing is recorded: {error}")
            return False
        finally:
            self._opening = False
        self.fd, self._ragged, self.dirty = self._journal.fd, False, True
        self._fold_at = self.mono_ns() + int(_FOLD_SECONDS * 1e9)  # a short program folds once, at its end
        self._announce_again()
        self._report_drops()
        self._look_at_descriptor(self._journal)
        if self._flusher is None:  # one that was stopped may be doing this itself, at last
            self._start_flusher()
        return True

    def _new_journal(self, store: Store) -> Journal:
        name = SegmentName(self._writer, self._segment)
        try:
            return Journal(store, name, self._header)
        except JournalFull:
            compact = self._compaction().compact
            began = time.monotonic()
            with contextlib.suppress(OSError, SchemaTooNew):  # then it stays full
                compact(store, original_wait_seconds=0.0, enough=Budget(_EXIT_FOLD_SECONDS))
            self._exit_seconds -= time.monotonic() - began
            return Journal(store, name, self._header)

    def _waits_to_reopen(self) -> bool:
        return time.monotonic_ns() < self._reopen_at

    def _look_at_descriptor(self, journal: Journal) -> None:
        """The journal's descriptor leads to the journal, so what was recorded until now is there.

        Threads go on recording meanwhile, and may be given the number meanwhile. So a look counts only if no line came
        in its midst and the descriptor still leads to the journal after it; otherwise the look before it stands.
        """
        try:
            lines = self._lines_due()
            for _ in range(_LOOKS):
                size, before, lines = journal.size(), lines, self._lines_due()
                if lines == before:
                    if journal.is_ours():
                        self._looked = _Look(lines, size)
                    return
        except OSError:  # it cannot be looked at now: then nothing is told from it
            self._looked = None

    def _lines_due(self) -> int:
        """How many lines that there is one of for each span should have been written until now."""
        coming = [*self._late.values(), *self._pending]
        late = len(self.unwritten) + _one_a_span(coming)
        return self.ids.used - len(self.in_flight) - self._dropped.total() - late

    def _count_astray(self) -> None:
        """Where the program has closed our descriptor and been given its number: count what went into its file.

        Nothing on the way of an event can notice that. The span ids used up since the descriptor was last seen to be
        ours tell how many lines there should be in the journal.
        """
        journal, looked, self._looked = self._journal, self._looked, None
        if journal is None or looked is None or not journal.is_replaced():
            return
        astray = self._lines_due() - looked.lines - _one_a_span(journal.lines_since(looked.bytes))
        if astray > 0:
            self._drop("descriptor-reused", astray)

    def _close_journal(self) -> None:
        self._count_astray()
        self._end_the_line()
        self.fd = -1
        self._full = self._ragged = False
        if self._journal is not None:
            self._segment = self._journal.last.number
            self._journal.close()
            self._journal = None  # and with it its store, unless another thread is folding it

    def _header(self, name: SegmentName) -> bytes:
        header = encode(
            {
                "kind": "writer.opened",
                "ts": self.now_us(),
                "schema_version": SCHEMA,
                "writer": name.writer,
                "segment": name.number,
                "pid": os.getpid(),
                "host": os.uname().nodename,
                "python": sys.version.split()[0],
                "argv": self._argv or [],
                "started": self.now_us(),
            }
            | boot_and_pid_namespace()
            | ({"unseen": True} if self._unseen else {})
        )
        if name.writer != self._writer:  # a signal handler has forked, and this is the child
            raise OSError(errno.ECHILD, "forked while the journal was being opened")
        return header

    def _look_at_argv(self) -> None:
        """Have the host's function for redaction say what may be recorded of the command line.

        It may take a lock of the host's or call a tool: while it is at it, others go on without the command line.
        """
        if self._argv is None and not (self._asking and policy.redactor):
            self._asking = True
            try:
                self._argv = policy.command_line(sys.argv)
            except Exception as fault:
                _guard.swallow(fault, "recorder.argv")
                self._argv = []
            finally:
                self._asking = False

    def forget_argv(self) -> None:
        """The rules have changed for what may be recorded."""
        self._argv = None

    def _announce_again(self) -> None:
        """In a new journal after the old one was removed: the sessions and calls that are under way."""
        for state in list(self.open_sessions.values()):
            for record in list(state.standing.values()):
                self.record(record)
        for span in list(self.announced):
            if call := self.in_flight.get(span):
                self._announce(span, call)

    # -- the flusher

    def _start_flusher(self) -> None:
        if self._flusher is None or not self._flusher.runs():
            self._flusher = Flusher(self._tick, due=self._tick_due)
            with contextlib.suppress(RuntimeError):  # the interpreter is shutting down: no more threads
                self._flusher.start()

    def more_spans(self) -> str:
        """A span id, and more of them made in advance."""
        self._import_for_the_flusher()
        self._revive_flusher()
        return self.ids.more_spans()

    def _revive_flusher(self) -> None:
        """Have the flusher go on after a fork, also if a signal's exception came before it did."""
        if (flusher := self._flusher) is None or flusher.runs() or self._exiting or flusher.go_on():
            return
        if self.turn.wait():
            self._alone(self._start_flusher)

    def _tick(self) -> float:
        """What the flusher does; returns the seconds until it should be done again."""
        try:
            self._look_at_argv()
            self._write_unwritten()
            self._mind_the_journal()
            if self._wants_room and self._can_fold():
                self._fold_whosever_turn_it_is()
                self._mind_the_journal()
            self._announce_slow_calls()
            _guard.say()
            if self.dirty and self.mono_ns() + _EARLY_NS >= self._fold_at and self._can_fold():
                self._fold()
            else:
                self._forget_if_idle()
        except Exception as error:
            self._take_note(error, "recorder.flusher")
        hurry = self._full or len(self.in_flight) > len(self.announced)
        pause = _BUSY_SECONDS if hurry else _IDLE_SECONDS
        due = (self._fold_at - self.mono_ns()) / 1e9
        return due if self.dirty and 0 < due < pause else pause

    def _mind_the_journal(self) -> None:
        self._alone(self._mind_alone)

    def _mind_alone(self) -> None:
        if self._moving:
            self._move_alone()
        journal = self._journal
        if journal is None:
            if self.open_sessions or self._dropped.untold() or self._pending:
                self._open()
        elif not journal.is_ours():
            self._close_journal()
            self._open()
        else:
            self._look_at_descriptor(journal)
            self._mend(journal)

    def _mend(self, journal: Journal) -> None:
        self._end_the_line()
        if self._ragged:
            return
        if journal.has_left():
            self._unseen = self._unseen or journal.is_retired()
            self._rotate(journal)
        elif journal.size() > SEGMENT_BYTES:
            self._rotate(journal)
        elif self._dropped.untold():
            self._report_drops()
        elif not _has_snapshot(journal.store):  # removed to clear it: what runs has to re-appear
            self.dirty = True

    def _rotate(self, journal: Journal) -> None:
        """Go on in a new segment. If too much waits to be folded, fold first; if that does not help, do not go on."""
        if not journal.is_full():
            journal.rotate()
            self.fd, self._full, self._wants_room = journal.fd, False, False
            self._looked = None  # the look before was at another file
            self._look_at_descriptor(journal)
        elif not self._wants_room:
            self._wants_room = True
        else:
            self._wants_room, self._full = False, True
            self.fd = -1  # every event takes the slow way, and is dropped and counted there

    def _announce_slow_calls(self) -> None:
        horizon = self.mono_ns() - _ANNOUNCE_AFTER_NS
        for span, call in self.in_flight.copy().items():  # a copy is made in one step
            if call[4] < horizon and span not in self.announced:
                self._alone(self._announce_late, span, call)

    def _announce_late(self, span: str, call: Call) -> None:
        self.announced.add(span)  # from now on, whoever ends the call waits for us
        if span in self.in_flight:
            self._announce(span, call)
        else:
            self.announced.discard(span)

    def announce(self, scope: Scope, tool: str, span: str) -> None:
        """Record at once that a call begins."""
        self.emit(self.tool_started(scope[0], tool, scope[1], span, self.now_us()))
        self.announced.add(span)
        try:
            self._revive_flusher()
        except RecursionError:  # the host's stack is full: the next call will do it, and this one has begun
            pass

    def _announce(self, span: str, call: Call) -> None:
        session, _, parent, tool, start_ns = call
        ago_us = (self.mono_ns() - start_ns) // 1000
        self.emit(self.tool_started(session, tool, parent, span, self.now_us() - ago_us))

    def tool_started(self, session: SessionState, tool: str, parent: str, span: str, ts: int) -> bytes:
        """The line that says a call began at ``ts``."""
        prefix = tool_prefix("tool.started", session.agent, session.id, tool)
        return f'{prefix}"parent":"{parent}","span":"{span}","ts":{ts}}}\n'.encode("ascii")

    def _compaction(self) -> Any:
        """The module that folds, imported when that is needed first, by one thread at a time.

        Two threads that import the same wait for each other by a lock of the interpreter's, which after gevent's
        replacements is one that lets other greenlets run.
        """
        if self._folds_with is None:
            if self._importing.wait():
                self._importing.take(self._import_compaction)
            else:
                self._import_compaction()
        return self._folds_with

    def _import_for_the_flusher(self) -> None:
        """Under gevent or eventlet, have the program's own thread import what folds.

        Its imports wait for those of another thread by a lock that only a greenlet of its own could release.
        """
        if not self._can_fold():
            try:
                self._compaction()
            except Exception as fault:
                _guard.swallow(fault, "recorder.import")

    def _can_fold(self) -> bool:
        """Whether the flusher may: see :meth:`_import_for_the_flusher`."""
        return self._folds_with is not None or not are_replaced()

    def _import_compaction(self) -> None:
        from pyjama_instrument.storage import compaction

        self._folds_with = compaction

    def _fold(self) -> None:
        journal = self._journal
        if journal is None:
            return
        began_ns = self.mono_ns()
        # Whoever folded last goes on, as long as it is in time: it need not read the snapshot again.
        if (
            not self._compaction().goes_on(journal.store)
            and 0 <= (age := _age_seconds(journal.store)) < _TAKE_OVER_SECONDS
        ):
            self._fold_at = began_ns + int(max(_TAKE_OVER_SECONDS - age, _LOOK_SECONDS) * 1e9)
            return
        self._fold_whosever_turn_it_is()

    def _fold_whosever_turn_it_is(self) -> None:
        compact = self._compaction().compact
        journal, flusher = self._journal, self._flusher
        if journal is None or flusher is None:
            return
        began_ns = self.mono_ns()
        self.dirty = False
        outcome = "busy"
        try:
            outcome = compact(
                journal.store, should_stop=Throttle(flusher.stopping), enough=Budget(self._budget_seconds)
            )
        finally:
            if outcome != "current":  # fold until nothing is new: whoever lost the race relies on the winner
                self.dirty = True
            # If events come faster than they are folded, a longer fold gets through all the same.
            longer = min(2 * self._budget_seconds, _MOST_BUDGET_SECONDS)
            self._budget_seconds = longer if outcome == "partial" else _FOLD_BUDGET_SECONDS
            self._fold_at = max(began_ns + int(_FOLD_SECONDS * 1e9), self.mono_ns() + int(_BREATH_SECONDS * 1e9))

    def _forget_if_idle(self) -> None:
        journal = self._journal
        if journal is not None and self.mono_ns() - self._fold_at > _KEEP_SECONDS * 1e9:
            journal.store.kept = None

    def move(self) -> None:
        """Go on in another store, if the settings lead to another one now."""
        self.notice_fork()
        self._look_at_argv()
        self._moving = True
        if self.turn.wait():  # else the flusher does it
            self._alone(self._move_alone)

    def _move_alone(self) -> None:
        self._moving = False
        if self._journal is not None and self._journal.store.path != resolve_home():
            self._close_journal()
            self._reopen_at = 0
            self._open()

    def wake(self) -> None:
        """Have the flusher look now."""
        self._import_for_the_flusher()
        self._revive_flusher()
        if (flusher := self._flusher) is not None and not self._exiting:
            flusher.wake()

    def flush(self, timeout: float = 5.0) -> bool:
        """Fold now what is recorded so far. Returns whether that was done within ``timeout`` seconds."""
        try:
            return self._folded_until(time.monotonic() + timeout)
        except Exception as error:
            self._take_note(error, "recorder.flush")
        return False

    def _folded_until(self, deadline: float) -> bool:
        compact = self._compaction().compact  # first: below another root directory it may not be found
        self.notice_fork()
        self._write_unwritten()
        while (journal := self._journal) is not None:
            remaining = max(0.0, deadline - time.monotonic())
            outcome = "busy"
            self.dirty = False  # what is recorded from now on is the flusher's again
            try:
                outcome = compact(
                    journal.store,
                    wait_seconds=remaining,
                    original_wait_seconds=remaining,
                    should_stop=Throttle(),
                    enough=Budget(max(remaining, _EXIT_SECONDS)),
                )
            finally:
                if outcome in ("busy", "partial"):
                    self.dirty = True
            if outcome in ("folded", "current"):
                break
            if time.monotonic() >= deadline:
                return False
            sleep(0.01)
        return not self._dropped.untold()

    def _take_note(self, error: Exception, where: str) -> None:
        """Something of ours has failed that is tried again later."""
        if isinstance(error, SchemaTooNew):
            _guard.say_once("schema", f"{error}; until then events are kept in the journal and not folded")
        elif not (isinstance(error, OSError) and self._is_left_without_journal()):
            _guard.swallow(error, where)

    def _is_left_without_journal(self) -> bool:
        """Whether the program has closed our descriptors, or the store is gone; the next look begins a new journal."""
        journal = self._journal
        try:
            return journal is not None and not journal.is_ours()
        except Exception as error:
            _guard.swallow(error, "recorder.look")
            return False

    # -- fork and exit

    def _hook_into_process(self) -> None:
        if not self._hooked:
            self._hooked = True
            atexit.register(self._at_exit)
            os.register_at_fork(
                before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self.notice_fork
            )
        self._hook_into_multiprocessing()

    def _hook_into_multiprocessing(self) -> None:
        # A worker of multiprocessing leaves by os._exit and runs only the finalizers of multiprocessing.util.
        util = sys.modules.get(f"{multiprocessing_package()}.util")
        if util is not None and not self._finalized:
            self._finalized = True
            util.Finalize(None, self._at_exit, exitpriority=-100)

    def notice_fork(self) -> None:
        """Begin anew in a child that our hooks have not seen begin.

        Until the hooks are in place, a fork may leave us locks of a thread that was recording the first event; and a
        fork made in C, without Python's doing, never runs them.
        """
        if not self.unforked[0]:
            self._after_fork_in_child()

    # A signal's exception may end each of these three anywhere, even before its first line; Python reports it and
    # forks all the same. So they hold nothing, and what they leave undone is made up for later.

    def _before_fork(self) -> None:
        if (flusher := self._flusher) is not None and not flusher.is_this_thread():
            flusher.make_way()
            self._tick_due = flusher.due  # forks that come often must not put it off again and again

    def _after_fork(self) -> None:
        self._revive_flusher()

    def _after_fork_in_child(self) -> None:
        lock_descriptors.close_copies()
        if self._journal is not None:
            self._journal.store.close()
            self._left_by_parent = self._journal, self._flusher  # to free the memory would mean to copy it
        self.epoch += 1
        self.forked = True
        self.ids.reseed()
        self._writer, self._segment = "", 0
        self._begin()

    def _at_exit(self) -> None:
        """End what ends with the program, and fold for a little while: own events are on file already."""
        try:
            self.notice_fork()
            self._exiting = True
            try:
                if self._flusher is not None:
                    self._flusher.stop(_EXIT_SECONDS)
            finally:  # an interrupt costs the folding, and not what is recorded
                self._write_unwritten()
                self._end_implicit()
            if self.turn.wait():
                self._alone(self._finish_journal)
            self._fold_at_exit()
            if self._pending:  # another thread is stuck at the journal
                self._dropped.add("stuck", len(self._pending))
            if lost := self._dropped.untold():
                _guard.say_once("lost", f"{sum(lost.values())} events could not be recorded: {lost}")
        except Exception as error:
            self._take_note(error, "recorder.exit")
        except BaseException:  # Ctrl-C, or what a signal's handler raises: the program ends anyway, now without us
            pass

    def _fold_at_exit(self) -> None:
        # What was recorded is on file: who has paid for a backlog of others at the start pays nothing at the end.
        if self._journal is not None and self.dirty and self._exit_seconds >= 0:
            compact = self._compaction().compact
            enough = Budget(self._exit_seconds)
            compact(self._journal.store, wait_seconds=_EXIT_WAIT_SECONDS, original_wait_seconds=0.0, enough=enough)

    def claim(self, scope: Scope) -> Scope:
        """Offer what calls outside any session are to belong to; the first that was offered is."""
        self.ambient = known = self._claimed.setdefault("ambient", scope)
        return known

    def give_up(self, scope: Scope) -> None:
        """Take the offer back."""
        if self.ambient is scope:
            self.ambient = None
            self._claimed.clear()

    def new_session(self, agent: str) -> SessionState:
        """A session of this process that begins now; :meth:`start_session` records it."""
        return SessionState(id=self.ids.trace(), agent=agent, span=self.ids.span(), started_ns=self.mono_ns())

    def describe_implicit(self, state: SessionState) -> None:
        """What :meth:`start_session` is to record of a session that nobody has asked for."""
        self.describe_session(state, implicit=True, **({"worker": True} if is_worker(self.forked) else {}))

    def describe_session(self, state: SessionState, **details: Any) -> None:
        """Keep what is to be recorded when a session of this process begins."""
        base = {"kind": "session.started", "agent": state.agent, "session": state.id, "span": state.span}
        state.standing["start"] = base | {"ts": self.now_us()} | details

    def start_session(self, state: SessionState, **details: Any) -> None:
        """Record that a session of this process began."""
        if "start" not in state.standing:
            self.describe_session(state, **details)
        self._begin_session(state)
        if state.ending is not None:
            self.end_session(state, *state.ending)
        elif self._exiting and state.standing["start"].get("implicit"):
            self.end_session(state, "completed")  # a daemon thread's: nobody is left to do it

    def _begin_session(self, state: SessionState) -> None:
        state.told = self.enabled
        self.record(state.standing["start"])
        self.open_sessions[state.id] = state  # only now: a journal opened meanwhile tells again what is in here

    def end_session(self, state: SessionState, status: str, error: dict[str, Any] | None = None) -> None:
        """Record that a session ended; nothing happens if this process did not start it, or has ended it before."""
        if self.open_sessions.pop(state.id, None) is None:
            state.ending = status, error  # another thread may be starting it: that one ends it, or we do
            if self.open_sessions.pop(state.id, None) is None:
                return
        ended = {"kind": "session.ended", "agent": state.agent, "session": state.id, "span": state.span}
        duration_ns = max(0, self.mono_ns() - state.started_ns)
        details: dict[str, Any] = {"ts": self.now_us(), "duration_ns": duration_ns, "status": status}
        self._record(ended | details | ({"error": error} if error else {}), state.told or self.enabled)
        self.wake()

    def _end_implicit(self) -> None:
        """The sessions that end with the program; they end the way it does."""
        claimed = self._claimed.get("ambient")
        if claimed is not None and claimed[0].standing and claimed[0].id not in self.open_sessions:
            self._begin_session(claimed[0])  # a daemon thread, which may never run again, is in the midst of it
        status, error = "completed", None
        if (failure := what_ended_the_program()) is not None:
            how, error = outcome(failure)
            status = "cancelled" if how == "cancelled" else "failed"
        for state in list(self.open_sessions.values()):
            if state.standing["start"].get("implicit"):
                self.end_session(state, status, error)


def reason_of(error: OSError) -> str:
    """Why an event is dropped: the name of the error number."""
    return errno.errorcode.get(error.errno or 0, "OSError")


def _one_a_span(lines: Iterable[bytes]) -> int:
    return sum(line.startswith(_ONE_A_SPAN) for line in lines)


def _has_snapshot(store: Store) -> bool:
    try:
        os.stat(SNAPSHOT, dir_fd=store.fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError:  # it cannot be looked at, which does not mean that somebody removed it
        pass
    return True


def _age_seconds(store: Store) -> float:
    """Since the last fold; negative if the clock was set back."""
    try:
        # A fold gives its predecessor this name, which changes the file's status. The snapshot itself says less:
        # original agents rewrite it too.
        return time.time() - os.stat(PREVIOUS, dir_fd=store.fd).st_ctime
    except OSError:
        return float("inf")


class _PassThrough(Recorder):
    """The recorder of a system on which there can be no store: for ever disabled, as whoever uses it first is told."""

    @property
    def enabled(self) -> bool:
        """False."""
        if self._wanted:
            _guard.say_once(
                "system", f"nothing is recorded and no hook runs: {_platform.why()}; your program continues"
            )
        return False

    @enabled.setter
    def enabled(self, wanted: bool) -> None:
        self._wanted = wanted

    def choose_way(self) -> None:
        """There is no quick way to nothing, and only a use is to say so."""

    def flush(self, timeout: float = 5.0) -> bool:
        """There is nothing to fold."""
        return True


recorder = _PassThrough() if _platform.MISSING else Recorder()
unpickle.makers["recorder"] = lambda: recorder
when_changed.append(recorder.choose_way)
_guard.not_now = lambda: recorder.turn.is_mine()  # a forked child has another turn


def configure(
    *,
    home: str | os.PathLike[str] | None = None,
    enabled: bool | None = None,
    redact: Redactor | Literal[False] | None = None,
    error_messages: bool | None = None,
    control_flow: Iterable[ControlFlow] | ControlFlow | None = None,
) -> None:
    """Change settings of this process; an argument left out leaves its setting as it is.

    Args:
        home: the store's directory, instead of ``PYJAMA_HOME`` or ``~/.pyjama``. What was recorded before stays
            where it is; sessions that are open are told again in the new place.
        enabled: False switches all recording off, True on.
        redact: a function that gets each value that is about to be recorded, as a :class:`redaction.Field`, and
            returns what is to be recorded in its place; False takes it back.
        error_messages: False records of an exception its type and place, and not its message.
        control_flow: exception classes, or their dotted names, that steer the program and are no failures: what they
            leave ends as ``cancelled``. They replace those set before; ``()`` takes them back.

    Raises:
        ConfigError: an argument has the wrong type.
    """
    for name, switch in (("enabled", enabled), ("error_messages", error_messages)):
        if switch is not None and not isinstance(switch, bool):
            raise ConfigError(f"{name} must be True or False, not {type(switch).__name__}")
    if redact is not None and redact is not False and (not callable(redact) or kind_of(redact) != "sync"):
        raise ConfigError("redact must be a plain function that takes a redaction.Field, or False")
    if control_flow is not None:
        outcomes.configure(outcomes.checked(control_flow))
    policy.configure(redact, error_messages)
    if redact is not None:
        recorder.forget_argv()
    if enabled is not None:
        recorder.enabled = enabled
        recorder.choose_way()
    if home is not None:
        set_home(home)
        recorder.move()


def flush(timeout: float = 5.0) -> bool:
    """Bring ``metrics.json`` up to date with everything recorded so far, by this process and all others.

    Never needed for the dashboard, which reads what is not folded yet by itself.

    Args:
        timeout: how long to wait for another process that is at it, in seconds.

    Returns:
        Whether all that this process has recorded is in the snapshot; False if events were dropped or the
        snapshot could not be written in time.

    Raises:
        ConfigError: ``timeout`` is not a number of seconds.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 <= timeout <= 1e9:
        raise ConfigError("timeout must be a number of seconds, at least 0")
    return recorder.flush(timeout)


def reset_for_testing(home: str | os.PathLike[str] | None = None) -> None:
    """Forget everything this process has recorded, and go on in ``home``; None goes back to the environment."""
    if recorder._flusher is not None:
        recorder._flusher.stop()
    recorder.forget_argv()
    set_home(home)
    recorder._close_journal()
    recorder._writer, recorder._segment = "", 0
    recorder.epoch += 1
    recorder._begin()
    recorder.enabled = not disabled_by_environment()
    recorder.choose_way()
    policy.reset()
    outcomes.reset()
