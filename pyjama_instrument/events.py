"""The kinds of events in the journal.

One journal line is one event. Times (``ts``) are integer microseconds since the Unix epoch, durations
(``duration_ns``) integer nanoseconds of a monotonic clock. ``session`` is a 32-digit and ``span`` a 16-digit lower-case
hexadecimal id, as in W3C Trace Context. ``parent`` is the span that encloses this one.

Unknown fields are kept as extras, and an event of an unknown kind becomes an :class:`UnknownEvent`. Optional fields
without a value are left out of the JSON.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Discriminator, Tag, TypeAdapter

__all__ = [
    "Activity",
    "Annotation",
    "AnyEvent",
    "ErrorInfo",
    "Event",
    "SessionEnded",
    "SessionStarted",
    "StepEnded",
    "StepStarted",
    "ToolEnded",
    "ToolStarted",
    "UnknownEvent",
    "WorkflowDeclared",
    "WriterDropped",
    "WriterOpened",
    "parse_event",
    "parse_line",
    "to_json",
]


class ErrorInfo(BaseModel):
    """An exception: its qualified type, its message and its traceback.

    ``traceback`` lists frames as ``file:line in function``, outermost first, without source lines or values.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str
    message: str
    traceback: tuple[str, ...] | None = None


class Event(BaseModel):
    """The fields of every event: its ``kind``, and ``ts``, the time it was recorded (µs since the epoch)."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str
    ts: int


class WriterOpened(Event):
    """The first line of each journal segment: the process that writes it. All but ``writer`` is for display."""

    kind: Literal["writer.opened"] = "writer.opened"
    schema_version: int
    writer: str
    segment: int
    pid: int
    host: str
    python: str
    argv: tuple[str, ...] = ()
    started: int
    boot_id: str | None = None
    pid_namespace: int | None = None
    unseen: bool | None = None


class WriterDropped(Event):
    """``count`` events could not be written since the last such event, for ``reason``, for example an errno name."""

    kind: Literal["writer.dropped"] = "writer.dropped"
    count: int
    reason: str


class SessionEvent(Event):
    """An event of one run (session) of an agent."""

    agent: str
    session: str


class SessionStarted(SessionEvent):
    """A run began. ``span`` is the root of its tree of spans."""

    kind: Literal["session.started"] = "session.started"
    span: str
    parent_session: str | None = None
    parent: str | None = None
    implicit: bool | None = None
    worker: bool | None = None
    spec: dict[str, Any] | None = None
    tags: dict[str, Any] | None = None


class SessionEnded(SessionEvent):
    """A run ended as ``completed``, ``failed`` or ``cancelled``. A crashed run has no such event."""

    kind: Literal["session.ended"] = "session.ended"
    span: str
    duration_ns: int
    status: str
    error: ErrorInfo | None = None


class WorkflowDeclared(SessionEvent):
    """The steps that a run plans, in order."""

    kind: Literal["workflow.declared"] = "workflow.declared"
    steps: tuple[str, ...]


class StepStarted(SessionEvent):
    """A named step of a run began."""

    kind: Literal["step.started"] = "step.started"
    step: str
    parent: str
    span: str


class StepEnded(SessionEvent):
    """A step ended as ``ok``, ``error`` or ``cancelled``."""

    kind: Literal["step.ended"] = "step.ended"
    step: str
    parent: str
    span: str
    duration_ns: int
    status: str
    error: ErrorInfo | None = None


class ToolStarted(SessionEvent):
    """A tool call began. Only slow calls have this event; every call has a ``tool.ended``."""

    kind: Literal["tool.started"] = "tool.started"
    tool: str
    parent: str
    span: str


class ToolEnded(SessionEvent):
    """A tool call ended as ``ok``, ``error`` or ``cancelled``.

    Generators have ``items``, the number of values yielded, and ``first_item_ns``, the time to the first. ``arguments``
    and ``result`` are there only if ``capture=`` names them.
    """

    kind: Literal["tool.ended"] = "tool.ended"
    tool: str
    parent: str
    span: str
    duration_ns: int
    status: str
    error: ErrorInfo | None = None
    items: int | None = None
    first_item_ns: int | None = None
    arguments: dict[str, Any] | None = None
    result: Any = None


class Activity(SessionEvent):
    """A line of the activity log that is not a tool call."""

    kind: Literal["activity"] = "activity"
    status: str
    tool: str | None = None


class Annotation(SessionEvent):
    """Attributes of a run. A later value of the same name replaces an earlier one."""

    kind: Literal["annotated"] = "annotated"
    span: str
    attributes: dict[str, Any]


class UnknownEvent(Event):
    """An event of a kind that this version does not know. All its fields are kept as extras."""


_KNOWN: dict[str, type[Event]] = {
    str(model.model_fields["kind"].default): model
    for model in (
        WriterOpened, WriterDropped, SessionStarted, SessionEnded, WorkflowDeclared, StepStarted, StepEnded,
        ToolStarted, ToolEnded, Activity, Annotation,
    )
}  # fmt: skip


def _tag(value: Any) -> str:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return kind if isinstance(kind, str) and kind in _KNOWN else "unknown"


AnyEvent: TypeAlias = Annotated[
    Annotated[WriterOpened, Tag("writer.opened")]
    | Annotated[WriterDropped, Tag("writer.dropped")]
    | Annotated[SessionStarted, Tag("session.started")]
    | Annotated[SessionEnded, Tag("session.ended")]
    | Annotated[WorkflowDeclared, Tag("workflow.declared")]
    | Annotated[StepStarted, Tag("step.started")]
    | Annotated[StepEnded, Tag("step.ended")]
    | Annotated[ToolStarted, Tag("tool.started")]
    | Annotated[ToolEnded, Tag("tool.ended")]
    | Annotated[Activity, Tag("activity")]
    | Annotated[Annotation, Tag("annotated")]
    | Annotated[UnknownEvent, Tag("unknown")],
    Discriminator(_tag),
]
"""Any event, discriminated on ``kind``."""

_ADAPTER: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)


def parse_event(record: dict[str, Any]) -> AnyEvent:
    """The typed event of a decoded journal line.

    Raises:
        pydantic.ValidationError: a field of a known kind is missing or has the wrong type.
    """
    return _ADAPTER.validate_python(record)


def parse_line(line: bytes | str) -> AnyEvent:
    """The typed event of one journal line.

    Raises:
        pydantic.ValidationError: the line is not JSON, or a known kind lacks a field.
    """
    return _ADAPTER.validate_json(line)


def to_json(event: Event) -> str:
    """The event as one JSON object, without the trailing newline and without fields that have no value."""
    return event.model_dump_json(exclude_none=True)
