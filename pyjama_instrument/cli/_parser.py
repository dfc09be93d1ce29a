"""What can be said on the command line."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

__all__ = ["FORMATS", "SHELLS", "SORTS", "make_parser", "parse"]

SHELLS = ("bash", "zsh", "fish")
"""The shells that commands can be completed in."""

FORMATS = ("jsonl", "csv", "chrome-trace", "html")
"""The formats of ``export``, without loading what writes them."""

SORTS = ("calls", "errors", "rate", "p95", "time", "name")
"""What ``top`` may be ordered by; the first letter of each is its key."""

_EXAMPLES = """
examples:
  pyjama demo                          a dashboard with some agents to look at
  pyjama dashboard                     watch your own agents in the browser
  pyjama status                        one screen; exit code 1 when a run failed or crashed
  pyjama top                           the same, live
  pyjama show crawler                  the latest run of an agent as a tree, with times and errors
  pyjama tail -f --status error        what goes wrong, as it happens
  pyjama export -o run.html            the latest run as one page to mail
  pyjama run --agent nightly -- make   any program, in any language, as an agent's run
"""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The parsed command line; ``run`` gets its command as the list ``command_line``.

    Raises:
        SystemExit: help or version was asked for, or the command line is wrong.
    """
    # argparse's treatment of "--" differs between Python versions, so it never gets to see one.
    head, separator, rest = _split(argv)
    parser = make_parser()
    options, unknown = parser.parse_known_args(head)
    parser = options.parser  # that of the command: it shows its own usage
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if options.command == "run":
        given = options.command_line
        options.command_line = [*given, *separator, *rest] if given else rest
        if not options.command_line:
            parser.error("which command? For example:  pyjama run --agent NAME -- python agent.py")
    elif options.command == "export" and options.all and options.session is not None:
        parser.error(f"--all exports everything: leave out {options.session}, or leave out --all")
    elif options.command == "completion" and options.home is not None:
        parser.error("completion reads no store: leave out --home")
    elif rest:
        parser.error(f"unexpected arguments after --: {' '.join(rest)}")
    return options


def _split(argv: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    if "--" not in argv:
        return list(argv), [], []
    at = list(argv).index("--")
    return list(argv[:at]), ["--"], list(argv[at + 1 :])


def make_parser() -> argparse.ArgumentParser:
    """All that can be said, for parsing it and for completing it."""
    parser = argparse.ArgumentParser(
        prog="pyjama",
        description="See what your agents are doing: a local dashboard and a few commands over one directory.",
        epilog=_EXAMPLES,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=18),
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, help="show the version and exit")
    parser.add_argument(
        "--home", metavar="DIR", default=None, help="the store (default: $PYJAMA_HOME, otherwise ~/.pyjama)"
    )
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    _add_watching(commands)
    _add_reading(commands)
    _add_keeping(commands)
    _add_running(commands)
    _add_completion(commands)
    return parser


def _add_watching(commands: Any) -> None:
    dashboard = _add(
        commands,
        "dashboard",
        "serve the dashboard on this machine until Ctrl-C",
        ["", "--port 9000", "--host 0.0.0.0", "--allowed-host agents.example"],
        "Only this machine can open it. With --host or --allowed-host others can too, if they know the token. It is "
        "new at each start and part of the printed address, unless you set PYJAMA_TOKEN. The connection is not "
        "encrypted: prefer ssh -L or a reverse proxy.",
    )
    _add_port(dashboard)
    dashboard.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="listen on this address of the machine (127.0.0.1)"
    )
    dashboard.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="also answer to this name, under which a reverse proxy serves the page; repeat it for more names",
    )
    dashboard.add_argument("--trust-proxy", action="store_true", help="ask for no token: the proxy decides who gets in")
    dashboard.add_argument(
        "--root-path", default="", metavar="PATH", help="the path prefix of a proxy that does not strip it"
    )
    demo = _add(
        commands,
        "demo",
        "start the dashboard and some agents to look at",
        ["", "~/projects/shop", "--once"],
        "Several agents look for the versions of languages and dependencies in PATH, each in its own process. "
        "One fails and one is killed, on purpose. They appear in the store like any others.",
    )
    demo.add_argument("path", nargs="?", metavar="PATH", help="a directory to analyse (default: this package)")
    demo.add_argument("--once", action="store_true", help="end when the agents are through, and check what they did")
    _add_port(demo)


def _add_reading(commands: Any) -> None:
    status = _add(
        commands,
        "status",
        "show agents and tools on one screen",
        ["", "--json | jq .agents", "|| echo 'something went wrong'"],
        "The exit code is 1 if the last finished run of any agent failed or crashed.",
    )
    status.add_argument("--json", action="store_true", help="print all dashboard data as JSON")
    _add_top(commands)
    _add_show(commands)
    _add_tail(commands)
    _add_export(commands)


def _add_top(commands: Any) -> None:
    top = _add(
        commands,
        "top",
        "watch agents and tools on the whole terminal",
        ["", "--sort errors", "--once | head -20"],
        "Press q or Ctrl-C to exit, or the first letter of an order to sort by it. If the output is not a terminal, it "
        "prints one snapshot as plain text and exits.",
    )
    top.add_argument("--sort", choices=SORTS, default=SORTS[0], help="what to sort by (calls)")
    top.add_argument("--reverse", action="store_true", help="reverse the order")
    how_often = top.add_mutually_exclusive_group()
    how_often.add_argument(
        "--interval", type=_seconds, default=1.0, metavar="S", help="seconds between two updates (1)"
    )
    how_often.add_argument("--once", action="store_true", help="print one snapshot as plain text and exit")


def _add_show(commands: Any) -> None:
    show = _add(
        commands,
        "show",
        "show one run as a tree, with times and errors",
        ["", "crawler", "5e5510", "latest --all --values", "crawler --json | jq .root"],
        "Of many successful calls of one tool in a row, some are shown and the rest are counted.",
    )
    _add_session(show)
    show.add_argument("--all", action="store_true", help="show every call")
    show.add_argument("--values", action="store_true", help="captured arguments and results, and tracebacks")
    show.add_argument("--json", action="store_true", help="the tree as JSON")


def _add_tail(commands: Any) -> None:
    tail = _add(
        commands,
        "tail",
        "show the latest events",
        [
            "-n 50",
            "-f --agent 'crawl*' --status error",
            "-f --grep 'Timeout|refused'",
            "-f --json --tool fetch | jq '.duration_ns // empty'",
        ],
        "Repeat a filter to match any of its values; different filters are combined with AND. Names accept the "
        "wildcards * and ?.",
    )
    tail.add_argument("-f", "--follow", action="store_true", help="keep printing new events until Ctrl-C")
    tail.add_argument(
        "-n", "--lines", type=_count, default=20, metavar="N", help="how many events to show at first (20)"
    )
    tail.add_argument("--agent", action="append", metavar="NAME", help="events of this agent")
    tail.add_argument("--tool", action="append", metavar="NAME", help="calls of this tool")
    tail.add_argument("--status", action="append", metavar="STATUS", help="ok, error, cancelled, completed or failed")
    tail.add_argument("--grep", metavar="REGEX", help="lines that match this regular expression")
    tail.add_argument("--json", action="store_true", help="one JSON object a line, as recorded")


def _add_export(commands: Any) -> None:
    export = _add(
        commands,
        "export",
        "write a run, or everything, for other tools",
        [
            "-o run.html",
            "crawler --format chrome-trace -o crawler.json",
            "--all --format csv -o events.csv",
            "--all | gzip > events.jsonl.gz",
        ],
        "A run comes with the runs inside it. chrome-trace opens in ui.perfetto.dev, html is one page to mail.",
    )
    _add_session(export)
    export.add_argument("--all", action="store_true", help="everything that is recorded; not together with RUN")
    export.add_argument(
        "--format", choices=FORMATS, help="by default the format of FILE's ending, or jsonl if it has none"
    )
    export.add_argument("-o", "--output", metavar="FILE", help="the file to write (default: standard output)")


def _add_session(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "session",
        nargs="?",
        metavar="RUN",
        help="an agent's name for its latest run, a run's id or the beginning of one, or latest (the default)",
    )


def _add_keeping(commands: Any) -> None:
    clear = _add(
        commands,
        "clear",
        "set all totals to zero",
        ["", "--yes"],
        "Finished runs disappear; agents that are running stay listed and count from zero. Removing metrics.json does "
        "the same.",
    )
    clear.add_argument("--yes", "-y", action="store_true", help="do not ask")
    _add(
        commands,
        "doctor",
        "check the store, the file system under it, and the installation",
        [""],
        "One line per check: ok, warn or fail. The exit code is 1 when one fails.",
    )


def _add_running(commands: Any) -> None:
    run = _add(
        commands,
        "run",
        "run any program as one run of an agent",
        ["--agent nightly -- make report", "--agent crawler -- node crawl.js --depth 3"],
        "Signals are passed on to the program, and its exit code becomes that of this command (128+N when signal N "
        "killed it). Python programs that use this package join the run.",
        usage="pyjama run [-h] [--home DIR] [--verbose] --agent NAME [--] CMD...",
    )
    run.add_argument("--agent", required=True, metavar="NAME", help="the agent's name on the dashboard")
    run.add_argument(
        "--verbose",
        "-v",
        action="store_true",
        help="print where to see the run, even if standard error is not a terminal",
    )
    run.add_argument("command_line", nargs=argparse.REMAINDER, metavar="CMD", help="the program and its arguments")


def _add_completion(commands: Any) -> None:
    completion = _add(
        commands,
        "completion",
        "print a shell completion script",
        ["bash > ~/.local/share/bash-completion/completions/pyjama", "zsh > ~/.zfunc/_pyjama", "fish | source"],
    )
    completion.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))


def _add(
    commands: Any, name: str, summary: str, examples: list[str], details: str = "", usage: str | None = None
) -> argparse.ArgumentParser:
    shown = "\n".join(f"  pyjama {name} {example}".rstrip() for example in examples)
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=textwrap.fill(f"{summary[0].upper()}{summary[1:]}. {details}", 100),
        epilog=f"examples:\n{shown}",
        usage=usage,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    # SUPPRESS: without a --home of its own the subcommand keeps the one given before it.
    parser.add_argument("--home", metavar="DIR", default=argparse.SUPPRESS, help="the store")
    parser.set_defaults(parser=parser)
    return parser


def _add_port(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port", type=_port, default=None, metavar="N", help="this port and no other (default: 8080 or the next free)"
    )


def _port(text: str) -> int:
    port = _number(text, int)
    if port is None or not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: give a number from 0 (any free one) to 65535")
    return port


def _seconds(text: str) -> float:
    seconds = _number(text, float)
    if seconds is None or not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 3600")
    return seconds


def _count(text: str) -> int:
    count = _number(text, int)
    if count is None or count < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return count


_Number = TypeVar("_Number", int, float)


def _number(text: str, kind: Callable[[str], _Number]) -> _Number | None:
    # argparse would name the function that raised a ValueError, which means nothing to a user.
    try:
        return kind(text)
    except ValueError:
        return None


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **settings)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("pyjama_instrument")
        except PackageNotFoundError:
            found = "(not installed)"
        print(f"pyjama {found}")
        parser.exit()
