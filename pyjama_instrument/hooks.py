"""Hooks: code of yours that runs before or after tool calls.

A *pre-hook* gets a :class:`ToolCall` before the tool runs. It may return a new ``(args, kwargs)`` pair to replace the
arguments, or raise an exception to cancel the call: the caller of the tool gets this exception, and the call is
recorded as ``cancelled``. Any other return value is ignored, and reported once on stderr. A *post-hook* gets the
ToolCall after the tool has run, with ``event``, ``result`` and ``error`` set. An exception that it raises is reported
once on stderr.

A tool that a hook calls is recorded and runs hooks too, except hooks that are already running.
The tool name ``"*"`` matches every tool. Hooks belong to the process that registers them.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias

from pyjama_instrument import _guard, _platform
from pyjama_instrument._hooked_tools import hooked, when_changed
from pyjama_instrument.config import check_name
from pyjama_instrument.errors import ConfigError
from pyjama_instrument.threads.bounded_lock import BoundedLock

if TYPE_CHECKING:
    from pyjama_instrument.events import ToolEnded

__all__ = [
    "EVERY_TOOL",
    "PostHook",
    "PreHook",
    "ToolCall",
    "clear_hooks",
    "get_hooks",
    "get_pre_hooks",
    "register_hook",
    "register_pre_hook",
    "registered",
    "run_post_hooks",
    "run_pre_hooks",
    "unregister_hook",
    "unregister_pre_hook",
]

EVERY_TOOL = "*"


@dataclasses.dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool: the argument of a hook.

    ``event``, ``result`` and ``error`` are None in a pre-hook. ``result`` of a generator is None.
    """

    tool: str
    agent: str
    session: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    event: ToolEnded | None = None
    result: Any = None
    error: BaseException | None = None


Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
PreHook: TypeAlias = Callable[[ToolCall], "Arguments | None"]
PostHook: TypeAlias = Callable[[ToolCall], Any]


_ByTool: TypeAlias = dict[str, tuple[Callable[..., Any], ...]]


class _Registry:
    """Hooks by tool. Reading takes no lock: the dictionaries are replaced and never changed."""

    def __init__(self) -> None:
        self.by_tool: _ByTool = {}

    def add(self, tool: str, hook: Callable[..., Any]) -> None:
        name = check_name(tool, "tool name")
        if not callable(hook):
            raise ConfigError(f"a hook must be callable, not {type(hook).__name__}")
        if inspect.iscoroutinefunction(hook) or inspect.isgeneratorfunction(hook) or inspect.isasyncgenfunction(hook):
            raise ConfigError("a hook must be a plain function, not a coroutine function or a generator")
        self._change(lambda by_tool: {**by_tool, name: (*by_tool.get(name, ()), hook)})

    def remove(self, tool: str, hook: Callable[..., Any] | None) -> bool:
        _check_text(tool)

        def without(by_tool: _ByTool) -> _ByTool:
            old = by_tool.get(tool, ())
            new = () if hook is None else tuple(other for other in old if other is not hook and other != hook)
            return {key: value for key, value in {**by_tool, tool: new}.items() if value}

        before, after = self._change(without)
        return len(after.get(tool, ())) < len(before.get(tool, ()))

    def clear(self) -> None:
        self._change(lambda by_tool: {})

    def _change(self, change: Callable[[_ByTool], _ByTool]) -> tuple[_ByTool, _ByTool]:
        """Replace the dictionary with a changed one; returns both.

        A change may run the host's code, for example to compare two hooks, so it holds no lock.
        """
        while True:
            before = self.by_tool
            after = change(before)
            replaced: list[bool] = []
            _lock.run(self._replace, before, after, replaced)
            if replaced:
                return before, after

    def _replace(self, before: _ByTool, after: _ByTool, replaced: list[bool]) -> None:
        if self.by_tool is before:
            self.by_tool = after
            replaced.append(True)
            names = {*pre_registry.by_tool, *post_registry.by_tool}
            hooked.update(names)
            hooked.intersection_update(names)
            for notify in when_changed:
                notify()

    def matching(self, tool: str) -> tuple[Callable[..., Any], ...]:
        _check_text(tool)
        if not self.by_tool:
            return ()
        return self.by_tool.get(tool, ()) + (self.by_tool.get(EVERY_TOOL, ()) if tool != EVERY_TOOL else ())


def _check_text(tool: object) -> None:
    if not isinstance(tool, str):
        raise ConfigError(f"tool name must be a string, not {type(tool).__name__}")


_lock = BoundedLock()
_running: ContextVar[tuple[Callable[..., Any], ...]] = ContextVar("pyjama_hooks_running", default=())
pre_registry = _Registry()
post_registry = _Registry()


def _replace_lock() -> None:
    """In a forked child: the thread that may hold the lock does not exist there."""
    global _lock
    _lock = BoundedLock()


_platform.after_fork_in_child(_replace_lock)


def register_hook(tool: str, hook: PostHook) -> None:
    """Run ``hook`` after each call of ``tool``. Hooks run in the order of registration.

    Raises:
        ConfigError: the name is not usable, or ``hook`` is not a plain callable.
    """
    post_registry.add(tool, hook)


def register_pre_hook(tool: str, hook: PreHook) -> None:
    """Run ``hook`` before each call of ``tool``. Hooks run in the order of registration.

    Raises:
        ConfigError: the name is not usable, or ``hook`` is not a plain callable.
    """
    pre_registry.add(tool, hook)


def unregister_hook(tool: str, hook: PostHook | None = None) -> bool:
    """Remove one post-hook of ``tool``, or all of them. Returns whether there was one.

    Raises:
        ConfigError: ``tool`` is not a string.
    """
    return post_registry.remove(tool, hook)


def unregister_pre_hook(tool: str, hook: PreHook | None = None) -> bool:
    """Remove one pre-hook of ``tool``, or all of them. Returns whether there was one.

    Raises:
        ConfigError: ``tool`` is not a string.
    """
    return pre_registry.remove(tool, hook)


def get_hooks(tool: str) -> tuple[PostHook, ...]:
    """The post-hooks that a call of ``tool`` runs: its own, then those for ``"*"``.

    Raises:
        ConfigError: ``tool`` is not a string.
    """
    return post_registry.matching(tool)


def get_pre_hooks(tool: str) -> tuple[PreHook, ...]:
    """The pre-hooks that a call of ``tool`` runs: its own, then those for ``"*"``.

    Raises:
        ConfigError: ``tool`` is not a string.
    """
    return pre_registry.matching(tool)


def clear_hooks(tool: str | None = None) -> None:
    """Remove all hooks, or all hooks of one tool.

    Raises:
        ConfigError: ``tool`` is not a string.
    """
    for registry in (pre_registry, post_registry):
        if tool is None:
            registry.clear()
        else:
            registry.remove(tool, None)


def registered() -> dict[str, int]:
    """The number of hooks in this process, by tool name."""
    names = {**pre_registry.by_tool, **post_registry.by_tool}
    return {name: len(pre_registry.by_tool.get(name, ())) + len(post_registry.by_tool.get(name, ())) for name in names}


def run_pre_hooks(call: ToolCall) -> Arguments:
    """Run the pre-hooks. Returns the arguments to call the tool with. Raises what a pre-hook raises."""
    for hook in _hooks_to_run(get_pre_hooks(call.tool)):
        match _run(hook, call):
            case None:
                pass
            case (tuple() | list() as args, dict() as kwargs):
                call = dataclasses.replace(call, args=tuple(args), kwargs=kwargs)
            case other:
                fault = ConfigError(f"a pre-hook returns None or (args, kwargs), not {type(other).__name__}")
                _guard.swallow(fault, f"pre-hook of {call.tool}")
    return call.args, call.kwargs


def _run(hook: Callable[[ToolCall], Any], call: ToolCall) -> Any:
    token = _running.set((*_running.get(), hook))
    try:
        return hook(call)
    finally:
        _running.reset(token)


def _hooks_to_run(hooks: tuple[Callable[..., Any], ...]) -> tuple[Callable[..., Any], ...]:
    running = _running.get()
    return tuple(hook for hook in hooks if not any(hook is other for other in running)) if running else hooks


def run_post_hooks(call: ToolCall) -> None:
    """Run the post-hooks. An exception in one of them reaches neither the others nor the caller."""
    for hook in _hooks_to_run(get_hooks(call.tool)):
        try:
            _run(hook, call)
        except Exception as error:
            _guard.swallow(error, f"hook of {call.tool}")
