"""Parses the command line, and answers a wrong one with the usage of its command and the nearest right word."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from pyjama_instrument.cli.commands import HelpFormatter, add_commands

__all__ = ["Parser", "make_parser", "nearest", "parse"]

_WRONG = 2

_EXAMPLES = """
examples:
  pyjama demo                          a dashboard with example agents
  pyjama dashboard                     watch your own agents in the browser
  pyjama status                        one screen; exit code 1 if a run failed or crashed
  pyjama top                           agents and tools, live
  pyjama show crawler                  the latest run of an agent as a tree, with times and errors
  pyjama tail -f --status error        errors as they happen
  pyjama export -o run.html            the latest run as one page you can mail
  pyjama run --agent nightly -- make   record any program as a run of an agent
  pyjama help tail                     the options of one command
"""


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` whose errors name the wrong word, the nearest right one, and where to read more."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message on standard error, and exit with 2."""
        self.print_usage(sys.stderr)
        self.exit(_WRONG, f"\n{self.prog}: {message}\nFor help, run: {self.prog} --help\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # argparse's own message differs from version to version and suggests nothing.
        if action.choices is None or value in action.choices:
            return
        if action.metavar == "COMMAND":
            raise argparse.ArgumentError(None, f"there is no command {value!r}{_hint(value, action.choices)}")
        name = "/".join(action.option_strings) or str(action.metavar)
        choices = ", ".join(map(str, action.choices))
        raise argparse.ArgumentError(
            None, f"{name}: {value!r} is not one of {choices}{_hint(value, map(str, action.choices))}"
        )


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The parsed command line; ``run`` gets its command as the list ``command_line``.

    Raises:
        SystemExit: help or the version was printed, or the command line is wrong.
    """
    # argparse treats "--" differently from one Python version to the next, so it never gets one.
    head, separator, rest = _split(argv)
    parser = make_parser()
    options, unknown = parser.parse_known_args(head)
    command: argparse.ArgumentParser = options.parser
    if unknown:
        command.error(_unknown(unknown[0], command, parser))
    if options.command is None or options.command == "help":
        (options.commands[options.topic] if options.command and options.topic else parser).print_help()
        parser.exit()
    if options.command == "run":
        given = options.command_line
        options.command_line = [*given, *separator, *rest] if given else rest
    elif rest:
        command.error(f"unexpected argument after --: {rest[0]!r}")
    if problem := _problem(options):
        command.error(problem)
    return options


def _split(argv: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    if "--" not in argv:
        return list(argv), [], []
    at = list(argv).index("--")
    return list(argv[:at]), ["--"], list(argv[at + 1 :])


def _unknown(word: str, command: argparse.ArgumentParser, parser: argparse.ArgumentParser) -> str:
    if not word.startswith("-"):
        return f"unexpected argument {word!r}"
    name = word.partition("=")[0]
    return f"there is no option {name}{_hint(name, [*option_names(command), *option_names(parser)])}"


def option_names(parser: argparse.ArgumentParser) -> list[str]:
    """Every spelling of every option."""
    return [name for action in parser._actions for name in action.option_strings]


def _problem(options: argparse.Namespace) -> str | None:
    """What is wrong with options that argparse has accepted one by one."""
    if options.command == "run" and options.agent is None:
        return "--agent is missing. For example: pyjama run --agent NAME -- python agent.py"
    if options.command == "run" and not options.command_line:
        return "the command to run is missing. For example: pyjama run --agent NAME -- python agent.py"
    if options.command == "export" and options.all and options.run is not None:
        return f"--all exports everything: remove {options.run!r}, or remove --all"
    if options.command == "completion":
        if options.shell is None and options.values is None:
            return "name a shell. For example: pyjama completion bash"
        if options.shell is not None and options.values is not None:
            return "--values prints names instead of a script: remove the shell, or remove --values"
        if options.shell is not None and options.home is not None:
            return "the script does not depend on a store: remove --home"
    return None


def make_parser() -> argparse.ArgumentParser:
    """The parser of every command, also for completion scripts."""
    parser = Parser(
        prog="pyjama",
        description="See what your agents are doing: a local dashboard, and commands for the terminal.",
        epilog=_EXAMPLES,
        formatter_class=_list_formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, help="show the version and exit")
    parser.add_argument(
        "--home", metavar="DIR", default=None, help="the store (default: $PYJAMA_HOME, otherwise ~/.pyjama)"
    )
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    add_commands(commands)
    parser.set_defaults(parser=parser, commands=commands.choices)  # each command sets its own parser instead
    return parser


def _list_formatter(prog: str) -> argparse.HelpFormatter:
    formatter = HelpFormatter(prog, max_help_position=18)
    formatter._action_max_length = 14  # argparse does not count the indent of commands
    return formatter


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The word that was probably meant: one that begins with this one, or one that differs little."""
    from difflib import get_close_matches

    words = list(words)
    begun = [each for each in words if len(word) > 2 and each.startswith(word)]
    return next(iter(begun or get_close_matches(word, words, n=1)), None)


def _hint(word: str, words: Iterable[str]) -> str:
    found = nearest(word, words)
    return f". Did you mean {found}?" if found else ""


class _Version(argparse.Action):
    """Prints the version and exits."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **settings)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from pyjama_instrument import __version__

        print(f"pyjama {__version__}")
        parser.exit()
