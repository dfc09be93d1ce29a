"""Every command with its arguments and help texts."""

from __future__ import annotations

import argparse
from typing import Any

from pyjama_instrument.cli.arguments import FORMATS, SHELLS, SORTS, STATUSES, VALUES, count, port, seconds

__all__ = ["HelpFormatter", "add_commands"]


class HelpFormatter(argparse.HelpFormatter):
    """Fills descriptions to the width of the terminal, and leaves the lines of examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


def add_commands(commands: Any) -> None:
    """Add each command to the subparsers, in the order in which the help lists them."""
    _add_dashboard(commands)
    _add_demo(commands)
    _add_status(commands)
    _add_top(commands)
    _add_show(commands)
    _add_tail(commands)
    _add_export(commands)
    _add_clear(commands)
    _add_doctor(commands)
    _add_run(commands)
    _add_completion(commands)
    _add_help(commands)


def _add_dashboard(commands: Any) -> None:
    dashboard = _add(
        commands,
        "dashboard",
        "serve the dashboard on this machine until Ctrl-C",
        ["", "--port 9000", "--host 0.0.0.0", "--allowed-host agents.example"],
        "Only this machine can open it. With --host or --allowed-host, other machines can open it with a token. A new "
        "token is made at each start and is part of the printed address, unless you set PYJAMA_TOKEN. The connection "
        "is not encrypted: prefer ssh -L or a reverse proxy.",
    )
    _add_port(dashboard)
    dashboard.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="listen on this address of the machine (default: 127.0.0.1)",
    )
    dashboard.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="also accept requests for this host name, for a reverse proxy; repeat it for more names",
    )
    dashboard.add_argument(
        "--trust-proxy", action="store_true", help="require no token: the proxy decides who may open the page"
    )
    dashboard.add_argument(
        "--root-path", default="", metavar="PATH", help="the path prefix, if the proxy does not remove it"
    )


def _add_demo(commands: Any) -> None:
    demo = _add(
        commands,
        "demo",
        "start the dashboard and some example agents",
        ["", "~/projects/shop", "--once"],
        "The agents look for the versions of languages and dependencies in PATH, each in its own process. One fails "
        "and one is killed, on purpose. They are recorded in the store like any other agents.",
    )
    demo.add_argument("path", nargs="?", metavar="PATH", help="the directory to analyse (default: this package)")
    demo.add_argument("--once", action="store_true", help="exit when the agents have finished; 1 if one went wrong")
    _add_port(demo)


def _add_status(commands: Any) -> None:
    status = _add(
        commands,
        "status",
        "show agents and tools on one screen",
        ["", "--json | jq .agents", "|| echo 'something went wrong'"],
        "Crashed and failed agents come first. The exit code is 1 if the last finished run of any agent failed or "
        "crashed.",
    )
    status.add_argument("--json", action="store_true", help="print all dashboard data as JSON")


def _add_top(commands: Any) -> None:
    top = _add(
        commands,
        "top",
        "watch agents and tools in the terminal",
        ["", "--sort errors --interval 0.5", "--once"],
        f"Press q to exit and ? for the keys. The arrow keys scroll; {', '.join(name[0] for name in SORTS)} sort by "
        f"{', '.join(SORTS)}. If the output is not a terminal, it prints one snapshot as plain text and exits.",
    )
    top.add_argument(
        "--sort", choices=SORTS, default=SORTS[0], metavar="ORDER", help=f"{', '.join(SORTS)} (default: {SORTS[0]})"
    )
    top.add_argument("--reverse", action="store_true", help="reverse the order")
    how_often = top.add_mutually_exclusive_group()
    how_often.add_argument(
        "--interval", type=seconds, default=1.0, metavar="S", help="seconds between two updates (default: 1)"
    )
    how_often.add_argument("--once", action="store_true", help="print one snapshot as plain text and exit")


def _add_show(commands: Any) -> None:
    show = _add(
        commands,
        "show",
        "show one run as a tree, with times and errors",
        ["", "crawler", "5e5510", "latest --all --values", "crawler --json | jq .root"],
        "If a tool was called many times in a row without an error, only some of the calls are shown.",
    )
    _add_run_argument(show)
    show.add_argument("--all", action="store_true", help="show every call")
    show.add_argument("--values", action="store_true", help="show captured arguments and results, and tracebacks")
    show.add_argument("--json", action="store_true", help="print the tree as JSON, with every call and value")


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
        "-n", "--lines", type=count, default=20, metavar="N", help="the number of past events (default: 20)"
    )
    tail.add_argument("--agent", action="append", metavar="NAME", help="only events of this agent")
    tail.add_argument("--tool", action="append", metavar="NAME", help="only calls of this tool")
    tail.add_argument(
        "--status",
        action="append",
        metavar="STATUS",
        help=f"only this status: {', '.join(STATUSES)} or one of your own",
    )
    tail.add_argument("--grep", metavar="REGEX", help="only lines that match this regular expression")
    tail.add_argument("--json", action="store_true", help="print one JSON object per line, as recorded")


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
        "A run includes its child runs. Open chrome-trace files in ui.perfetto.dev; html is one page you can mail.",
    )
    _add_run_argument(export)
    export.add_argument("--all", action="store_true", help="export everything; not together with RUN")
    export.add_argument(
        "--format",
        choices=FORMATS,
        metavar="FORMAT",
        help=f"{', '.join(FORMATS)} (default: by the ending of FILE, otherwise jsonl)",
    )
    export.add_argument("-o", "--output", metavar="FILE", help="the file to write (default: standard output)")


def _add_clear(commands: Any) -> None:
    clear = _add(
        commands,
        "clear",
        "delete the recorded totals and finished runs",
        ["", "--yes"],
        "Agents that are still running stay listed and count from zero. Removing metrics.json does the same.",
    )
    clear.add_argument("--yes", "-y", action="store_true", help="do not ask for confirmation")


def _add_doctor(commands: Any) -> None:
    _add(
        commands,
        "doctor",
        "check the store, the file system under it, and the installation",
        [""],
        "Prints one line per finding: ok, warn or fail. The exit code is 1 if a check fails.",
    )


def _add_run(commands: Any) -> None:
    run = _add(
        commands,
        "run",
        "record any program as one run of an agent",
        ["--agent nightly -- make report", "--agent crawler -- node crawl.js --depth 3"],
        "Signals are passed on to the program. The exit code is the program's, or 128+N if signal N killed it. Python "
        "programs that use this package join the run.",
        usage="pyjama run [-h] [--home DIR]\n       [--verbose] --agent NAME [--] CMD...",
    )
    # Not required=True: then argparse would report a misspelt --agent as a missing one.
    run.add_argument("--agent", metavar="NAME", help="the name of the agent (required)")
    run.add_argument(
        "--verbose",
        "-v",
        action="store_true",
        help="print the run's id and where to see it, even if standard error is not a terminal",
    )
    run.add_argument("command_line", nargs=argparse.REMAINDER, metavar="CMD", help="the program and its arguments")


def _add_completion(commands: Any) -> None:
    completion = _add(
        commands,
        "completion",
        "print a shell completion script",
        ["bash > ~/.local/share/bash-completion/completions/pyjama", "zsh > ~/.zfunc/_pyjama", "fish | source"],
        "The script completes commands, options, and the names of recorded agents, tools and runs.",
    )
    completion.add_argument("shell", nargs="?", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    completion.add_argument(
        "--values",
        choices=VALUES,
        metavar="KIND",
        help=f"print the recorded names that the script offers: {', '.join(VALUES)}",
    )


def _add_help(commands: Any) -> None:
    topics = _add(commands, "help", "show the help of a command", ["", "tail"])
    topics.add_argument(
        "topic", nargs="?", choices=list(commands.choices), metavar="COMMAND", help="the command (default: all of them)"
    )


def _add(
    commands: Any, name: str, summary: str, examples: list[str], details: str = "", usage: str | None = None
) -> argparse.ArgumentParser:
    lines = "\n".join(f"  pyjama {name} {example}".rstrip() for example in examples)
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}. {details}".rstrip(),
        epilog=f"examples:\n{lines}",
        usage=usage,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    # SUPPRESS: without its own --home, the command keeps the one given before its name.
    parser.add_argument("--home", metavar="DIR", default=argparse.SUPPRESS, help="the store")
    parser.set_defaults(parser=parser)
    return parser


def _add_port(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port",
        type=port,
        default=None,
        metavar="N",
        help="use exactly this port (default: 8080 or the next free one)",
    )


def _add_run_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run",
        nargs="?",
        metavar="RUN",
        help="an agent (its latest run), a run's id or its beginning, or latest (the default)",
    )
