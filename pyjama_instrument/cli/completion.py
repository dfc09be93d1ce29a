"""``pyjama completion SHELL``: what makes a shell complete this command, made from what the parser understands."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import NamedTuple

from pyjama_instrument.cli._parser import make_parser
from pyjama_instrument.cli._terminal import say

__all__ = ["completion"]

_DIRECTORIES = ("DIR",)
_FILES = ("FILE", "PATH", "CMD")


class _Said(NamedTuple):
    """One argument of a command: its spellings (none for a positional one), what it takes, and what it is for."""

    spellings: list[str]
    takes: str  # "" for nothing, else a metavar
    choices: list[str]
    summary: str


class _Command(NamedTuple):
    """A command as a shell needs to know it."""

    name: str
    summary: str
    said: list[_Said]

    @property
    def options(self) -> list[_Said]:
        return [each for each in self.said if each.spellings]

    @property
    def words(self) -> list[str]:
        """What may be said anywhere after the command's name, apart from values and files."""
        options = [spelling for each in self.options for spelling in each.spellings]
        return options + [choice for each in self.said if not each.spellings for choice in each.choices]


def completion(options: argparse.Namespace) -> int:
    """Print the script for that shell."""
    parser = make_parser()
    everywhere, commands = _Command("", "", _said(parser)), list(_commands(parser))
    for line in {"bash": _bash, "zsh": _zsh, "fish": _fish}[options.shell](everywhere, commands):
        say(line)
    return 0


# argparse says what it knows to its own help only; these names have been the same since it exists.


def _commands(parser: argparse.ArgumentParser) -> Iterator[_Command]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            summaries = {each.dest: each.help or "" for each in action._choices_actions}
            for name, command in action.choices.items():
                yield _Command(name, summaries[name], _said(command))


def _said(parser: argparse.ArgumentParser) -> list[_Said]:
    return [
        _Said(
            list(action.option_strings),
            "" if action.nargs == 0 else str(action.metavar or action.dest.upper()),
            [str(choice) for choice in action.choices or ()],
            action.help or "",
        )
        for action in parser._actions
        if not isinstance(action, argparse._SubParsersAction)
    ]


# -- bash


def _bash(everywhere: _Command, commands: list[_Command]) -> Iterator[str]:
    yield "# bash completion for pyjama. Where an answer is empty, bash completes file names."
    yield "_pyjama() {"
    yield '    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command="" words="" i'
    yield "    COMPREPLY=()"
    yield "    for ((i = 1; i < COMP_CWORD; i++)); do"
    yield '        case "${COMP_WORDS[i]}" in'
    yield "            --) return ;;"
    yield "            --home) ((i++)) ;;"
    yield "            -*) ;;"
    yield "            *) [[ -n $command ]] || command=${COMP_WORDS[i]} ;;"
    yield "        esac"
    yield "    done"
    yield '    case "$command $before" in'
    for command in (everywhere, *commands):
        for option in (each for each in command.options if each.takes):
            patterns = "|".join(f'"{command.name} {spelling}"' for spelling in option.spellings)
            yield f'        {patterns}) words="{" ".join(option.choices)}" ;;'
    yield '        *) case "$command" in'
    yield f'            "") words="{" ".join([*(each.name for each in commands), *everywhere.words])}" ;;'
    for command in commands:
        yield f'            {command.name}) words="{" ".join(command.words)}" ;;'
    yield "        esac ;;"
    yield "    esac"
    yield '    [[ -n $words ]] && COMPREPLY=($(compgen -W "$words" -- "$word"))'
    yield "}"
    yield "complete -o bashdefault -o default -F _pyjama pyjama"


# -- zsh


def _zsh(everywhere: _Command, commands: list[_Command]) -> Iterator[str]:
    yield "#compdef pyjama"
    yield "_pyjama() {"
    yield "    local context state state_descr line"
    yield "    typeset -A opt_args"
    yield "    local -a commands"
    yield "    commands=("
    for command in commands:
        yield f"        {_quoted(command.name + ':' + command.summary)}"
    yield "    )"
    yield "    _arguments -C \\"
    for option in everywhere.options:
        yield from (f"        {spec} \\" for spec in _zsh_specs(option))
    yield "        '1: :->command' '*:: :->rest'"
    yield "    case $state in"
    yield "        command) _describe -t commands command commands ;;"
    yield "        rest) case $line[1] in"
    for command in commands:
        specs = [spec for each in command.said for spec in _zsh_specs(each)]
        yield f"            {command.name}) _arguments {' '.join(specs)} ;;"
    yield "        esac ;;"
    yield "    esac"
    yield "}"
    yield 'if [ "$funcstack[1]" = _pyjama ]; then _pyjama "$@"; else compdef _pyjama pyjama; fi'


def _zsh_specs(said: _Said) -> Iterator[str]:
    what = f":{said.takes.lower()}:{_zsh_values(said)}" if said.takes else ""
    summary = said.summary.replace("[", "(").replace("]", ")").replace(":", ",")
    for spelling in said.spellings:
        yield _quoted(f"{spelling}[{summary}]{what}")
    if not said.spellings:
        yield _quoted(f"*{what}")


def _zsh_values(said: _Said) -> str:
    if said.choices:
        return f"({' '.join(said.choices)})"
    return "_files -/" if said.takes in _DIRECTORIES else "_files" if said.takes in _FILES else " "


# -- fish


def _fish(everywhere: _Command, commands: list[_Command]) -> Iterator[str]:
    yield "# fish completion for pyjama"
    yield "complete -c pyjama -f"
    for option in everywhere.options:
        yield f"complete -c pyjama {_fish_option(option)}"
    for command in commands:
        yield f"complete -c pyjama -n __fish_use_subcommand -a {command.name} -d {_quoted(command.summary)}"
    for command in commands:
        condition = f"-n '__fish_seen_subcommand_from {command.name}'"
        for each in command.said:
            if each.spellings:
                yield f"complete -c pyjama {condition} {_fish_option(each)}"
            elif each.choices:
                yield f"complete -c pyjama {condition} -a '{' '.join(each.choices)}'"
            elif each.takes in _FILES:
                yield f"complete -c pyjama {condition} -F"


def _fish_option(said: _Said) -> str:
    parts = [f"-l {each[2:]}" if each.startswith("--") else f"-s {each[1:]}" for each in said.spellings]
    if said.choices:
        parts.append(f"-x -a '{' '.join(said.choices)}'")
    elif said.takes:
        parts.append("-r -F" if said.takes in (*_FILES, *_DIRECTORIES) else "-x")
    return " ".join([*parts, f"-d {_quoted(said.summary)}"])


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
