"""What each fenced ``python`` example of the documentation claims to do, by page and place on the page."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["CLAIMS", "Claim"]


@dataclass(frozen=True)
class Claim:
    """What an example prints and records when it is saved under ``file`` and run alone in an empty directory."""

    output: str = ""  # a regular expression for all of standard output
    agents: dict[str, str] = field(default_factory=dict)  # the status of each agent that is recorded afterwards
    tools: dict[str, int] = field(default_factory=dict)  # the number of calls of each tool
    file: str = "example.py"
    leaves: tuple[str, ...] = ()  # patterns of the files that it makes in the directory


_CRAWLER = {"crawler": "completed"}

CLAIMS: dict[str, list[Claim]] = {
    "README.md": [
        Claim(r"\['a page about pyjamas'\]\n", {"hello": "completed"}, {"search": 1}, "hello.py"),
        Claim("", {"researcher": "completed"}, {"search": 1}, "researcher.py"),
        Claim(),
    ],
    "docs/tutorial.md": [
        Claim("", {"greeter": "completed"}, {"greet": 3}, "greeter.py"),
        Claim("", {"reader": "completed"}, {"fetch": 2, "count-words": 2}, "reader.py"),
        Claim("still a ZeroDivisionError\n", {"calculator": "failed"}, {"divide": 1}, "calculator.py"),
        Claim(r"kill -9 \d+\n", {"thinker": "crashed"}, {}, "thinker.py"),
        Claim(),
    ],
    "docs/howto/control-flow.md": [
        Claim("", {"cleaner": "cancelled"}, {"delete": 1}),
        Claim(),
    ],
    "docs/howto/existing-code.md": [
        Claim("", {"importer": "completed"}, {"read-csv": 1}),
        Claim("read-csv 1\n", {"importer": "completed"}, {"read-csv": 1}),
    ],
    "docs/howto/export.md": [Claim("", _CRAWLER, {"fetch": 1}, leaves=("*crawler*.html",))],
    "docs/howto/hooks.md": [
        Claim("", {"example": "completed"}, {"write_file": 1}),
        Claim("refused\n", {"example": "completed"}, {"write_file": 2}),
        Claim(),
    ],
    "docs/howto/notebooks.md": [
        Claim("", _CRAWLER, {"fetch": 1}),
        Claim("", _CRAWLER, {"parse": 1}),
        Claim("", {"example": "completed"}, {"fetch": 1}),
    ],
    "docs/howto/read-a-run.md": [Claim("", {"planner": "completed", "worker": "completed"})],
    "docs/howto/redaction.md": [
        Claim("", {"secrets": "completed"}, {"connect": 1}),
        Claim("", {"example": "completed"}, {"charge": 1}),
        Claim(),
    ],
    "docs/howto/reverse-proxy.md": [Claim(r"http://127\.0\.0\.1:\d+\S*\n")],
    "docs/howto/testing.md": [
        Claim(r"(?s).*2 passed.*", file="test_example.py"),
        Claim(file="conftest.py"),
        Claim(),
    ],
    "docs/howto/threads-and-processes.md": [
        Claim("", _CRAWLER, {"fetch": 3, "parse": 1}),
        Claim("", _CRAWLER, {"parse": 2}),
        Claim(r"\[3, 5\]\n", _CRAWLER, {"parse": 2}),
        Claim("5\n", _CRAWLER, {"parse": 1}),
        Claim("hello from a child\n", {"parent": "completed"}, {"print": 1}),
    ],
    "docs/reference/api.md": [Claim(r"http://127\.0\.0\.1:\d+/ running\n")],
    "docs/reference/configuration.md": [Claim()],
    "docs/reference/events.md": [Claim(r"(.+ \d+\n)+tool\.ended \d+\n", {"example": "completed"}, {"look_up": 1})],
    "docs/explanation/crash-safety.md": [Claim("", {"thinker": "crashed"}, {"count": 1000})],
}
