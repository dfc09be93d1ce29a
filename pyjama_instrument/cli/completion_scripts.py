"""The completion scripts for bash, zsh and fish, made from the arguments that the parser knows."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import NamedTuple

from pyjama_instrument.cli.arguments import STATUSES
from pyjama_instrument.cli.parser import make_parser

__all__ = ["script"]

_DIRECTORIES = ("DIR",)
_FILES = ("FILE", "PATH")
_RECORDED = {"agent": ("agents",), "tool": ("tools",), "run": ("agents", "runs")}  # by the argument's dest


class _Argument(NamedTuple):
    """One argument of a command."""

    spellings: list[str]  # empty for a positional argument
    takes: str  # "" for a flag, otherwise the metavar
    choices: list[str]
    recorded: tuple[str, ...]  # the kinds of recorded names that it takes
    summary: str


class _Command(NamedTuple):
    """A command with its arguments."""

    name: str
    summary: str
    arguments: list[_Argument]

    @property
    def options(self) -> list[_Argument]:
        return [each for each in self.arguments if each.spellings]

    @property
    def positionals(self) -> list[_Argument]:
        return [each for each in self.arguments if not each.spellings]

    @property
    def words(self) -> list[str]:
        """The options, and the choices of positional arguments."""
        options = [spelling for each in self.options for spelling in each.spellings]
        return options + [choice for each in self.positionals for choice in each.choices]


def script(shell: str) -> Iterator[str]:
    """The lines of the script for ``bash``, ``zsh`` or ``fish``."""
    parser = make_parser()
    everywhere, commands = _Command("", "", _arguments(parser)), list(_commands(parser))
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](everywhere, commands)


# argparse has no public way to list its arguments; these names are the same in every version.


def _commands(parser: argparse.ArgumentParser) -> Iterator[_Command]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            summaries = {each.dest: each.help or "" for each in action._choices_actions}
            for name, command in action.choices.items():
                yield _Command(name, summaries[name], _arguments(command))


def _arguments(parser: argparse.ArgumentParser) -> list[_Argument]:
    return [
        _Argument(
            list(action.option_strings),
            "" if action.nargs == 0 else str(action.metavar or action.dest.upper()),
            [str(choice) for choice in action.choices or (STATUSES if action.dest == "status" else ())]
            + ["latest"] * (action.dest == "run"),
            _RECORDED.get(action.dest, ()),
            action.help or "",
        )
        for action in parser._actions
        if not isinstance(action, argparse._SubParsersAction)
    ]


# -- bash

_BASH = r"""
# bash completion for pyjama. If a function below finds nothing, bash completes file names.

# Adds the recorded names that begin with $word. They are never expanded: they may contain any characters.
_pyjama_recorded() {
    local name quoted
    while IFS=$'\t' read -r name _; do
        printf -v quoted %q "$name"
        [[ $name == "$word"* || $quoted == "$word"* ]] && COMPREPLY+=("$quoted")
    done < <(pyjama ${home:+--home "$home"} completion --values "$1" 2>/dev/null)
}

# Completes the program at that index of COMP_WORDS, with its own completion if there is one.
_pyjama_program() {
    if declare -F _command_offset >/dev/null; then
        _command_offset "$1"
    elif [[ $1 == "$COMP_CWORD" ]]; then
        COMPREPLY=($(compgen -c -- "$word"))
    fi
}

_pyjama() {
    local words=() starts=() glued="" part word before="" command="" home="" choices="" recorded="" i
    COMPREPLY=()
    # bash splits words at : and =. This joins names that contain a colon, and drops the = after an option.
    for ((i = 1; i <= COMP_CWORD; i++)); do
        part=${COMP_WORDS[i]}
        if [[ $part == "=" ]]; then
            ((i == COMP_CWORD)) && { words+=(""); starts+=("$i"); }
        elif [[ ${#words[@]} -gt 0 && ($part == :* || -n $glued) ]]; then
            words[${#words[@]} - 1]+=$part
        else
            words+=("$part")
            starts+=("$i")
        fi
        glued=""
        [[ $part == *: ]] && glued=1
    done
    word=${words[${#words[@]} - 1]}
    ((${#words[@]} > 1)) && before=${words[${#words[@]} - 2]}
    for ((i = 0; i < ${#words[@]} - 1; i++)); do
        case "${words[i]}" in
            --) [[ $command == run ]] && _pyjama_program $((starts[i] + 1)); return ;;
            --home) home=${words[++i]/#\~/$HOME} ;;
            --agent) ((i++)) ;;
            -*) ;;
            *) [[ $command == run ]] && { _pyjama_program "${starts[i]}"; return; }
               [[ -n $command ]] || command=${words[i]} ;;
        esac
    done
"""

_BASH_END = r"""
    [[ -n $choices ]] && COMPREPLY+=($(compgen -W "$choices" -- "$word"))
    if [[ $word != -* ]]; then
        for part in $recorded; do _pyjama_recorded "$part"; done
    fi
    if [[ $word == *:* && $COMP_WORDBREAKS == *:* ]]; then
        part=${word%"${word##*:}"}
        for i in "${!COMPREPLY[@]}"; do COMPREPLY[i]=${COMPREPLY[i]#"$part"}; done
    fi
}
complete -o bashdefault -o default -F _pyjama pyjama
"""


def _bash(everywhere: _Command, commands: list[_Command]) -> Iterator[str]:
    yield from _BASH.strip("\n").split("\n")
    yield '    case "$command $before" in'
    for command in (everywhere, *commands):
        for option in (each for each in command.options if each.takes):
            patterns = "|".join(f'"{command.name} {spelling}"' for spelling in option.spellings)
            yield f"        {patterns}) {_bash_values(option.choices, option.recorded)} ;;"
    yield '        *) case "$command" in'
    yield f"            '') {_bash_values([*(each.name for each in commands), *everywhere.words], ())} ;;"
    for command in commands:
        recorded = tuple(kind for each in command.positionals for kind in each.recorded)
        program = '; [[ $word == -* ]] || _pyjama_program "$COMP_CWORD"' if command.name == "run" else ""
        yield f"            {command.name}) {_bash_values(command.words, recorded)}{program} ;;"
    yield "        esac ;;"
    yield "    esac"
    yield from _BASH_END.strip("\n").split("\n")


def _bash_values(choices: list[str], recorded: tuple[str, ...]) -> str:
    return f"choices='{' '.join(choices)}' recorded='{' '.join(recorded)}'"


# -- zsh

_ZSH = r"""
#compdef pyjama

# Offers the recorded names of that kind, each with its description.
_pyjama_recorded() {
    local name text kind
    local -a names texts
    for kind in "$@"; do
        pyjama $pyjama_home completion --values $kind 2>/dev/null | while IFS=$'\t' read -r name text; do
            names+=("$name")
            texts+=("$name${text:+  ($text)}")
        done
    done
    compadd -l -d texts -a names
}

_pyjama() {
    local context state state_descr line
    local -a subcommands pyjama_home  # not "commands": that is what zsh completes programs from
    typeset -A opt_args
    integer at=${words[(i)--home]}
    ((at < CURRENT - 1)) && pyjama_home=(--home "${(Q)words[at + 1]}")
    # Completes the program after "pyjama run --agent NAME --" as if it stood alone.
    integer dashes=${words[(i)--]}
    if ((dashes < CURRENT && ${words[(i)run]} < dashes)); then
        words=("${(@)words[dashes + 1,-1]}")
        ((CURRENT -= dashes))
        _normal
        return
    fi
    subcommands=(
"""


def _zsh(everywhere: _Command, commands: list[_Command]) -> Iterator[str]:
    yield from _ZSH.strip("\n").split("\n")
    for command in commands:
        yield f"        {_quoted(command.name + ':' + command.summary)}"
    yield "    )"
    yield "    _arguments -C \\"
    for option in everywhere.options:
        yield from (f"        {spec} \\" for spec in _zsh_specs(option))
    yield "        '1: :->command' '*:: :->rest'"
    yield "    case $state in"
    yield "        command) _describe -t commands command subcommands ;;"
    yield "        rest) case $line[1] in"
    for command in commands:
        specs = [spec for each in command.arguments for spec in _zsh_specs(each)]
        yield f"            {command.name}) _arguments -S {' '.join(specs)} ;;"
    yield "        esac ;;"
    yield "    esac"
    yield "}"
    yield 'if [ "$funcstack[1]" = _pyjama ]; then _pyjama "$@"; else compdef _pyjama pyjama; fi'


def _zsh_specs(argument: _Argument) -> Iterator[str]:
    if argument.takes == "CMD":
        yield from ("'(-)1:program:_command_names -e'", "'*::arguments:_normal'")
        return
    takes = f":{argument.takes.lower()}:{_zsh_values(argument)}" if argument.takes else ""
    summary = argument.summary.replace("[", "(").replace("]", ")").replace(":", ",")
    for spelling in argument.spellings:
        yield _quoted(f"{spelling}[{summary}]{takes}")
    if not argument.spellings:
        yield _quoted(f"1{takes}")


def _zsh_values(argument: _Argument) -> str:
    choices = f"({' '.join(argument.choices)})"
    recorded = f"_pyjama_recorded {' '.join(argument.recorded)}"
    if argument.recorded and argument.choices:
        return f"{{compadd {choices[1:-1]}; {recorded}}}"
    if argument.recorded or argument.choices:
        return recorded if argument.recorded else choices
    return "_files -/" if argument.takes in _DIRECTORIES else "_files" if argument.takes in _FILES else " "


# -- fish

_FISH = r"""
# fish completion for pyjama
complete -c pyjama -f

# Prints the recorded names of that kind, each with its description.
function __pyjama_recorded
    command -q pyjama; or return
    set -l tokens (commandline -opc)
    set -l home
    if set -l at (contains -i -- --home $tokens)
        set home --home $tokens[(math $at + 1)]
    end
    for kind in $argv
        pyjama $home completion --values $kind 2>/dev/null
    end
end

# Prints the words before the cursor of the program after "pyjama run". Fails if the cursor is not in it.
function __pyjama_program_words
    set -l tokens (commandline -opc)
    set -l run 0
    set -e tokens[1]
    while set -q tokens[1]
        switch $tokens[1]
            case --home --agent
                set -e tokens[1]
                set -q tokens[1]; or return 1
            case --
                test $run = 1; or return 1
                set -e tokens[1]
                string join \n -- $tokens
                return 0
            case '-*'
            case '*'
                if test $run = 1
                    string join \n -- $tokens
                    return 0
                end
                test $tokens[1] = run; or return 1
                set run 1
        end
        set -e tokens[1]
    end
    test $run = 1; and not string match -q -- '-*' (commandline -ct)
end

function __pyjama_in_program
    __pyjama_program_words >/dev/null
end

# Completes the program as if it stood alone.
function __pyjama_program
    complete -C (string join ' ' -- (string escape -- (__pyjama_program_words)) (commandline -ct))
end
complete -c pyjama -n __pyjama_in_program -x -a '(__pyjama_program)'
"""


def _fish(everywhere: _Command, commands: list[_Command]) -> Iterator[str]:
    yield from _FISH.strip("\n").split("\n")
    for option in everywhere.options:
        yield f"complete -c pyjama {_fish_option(option)}"
    for command in commands:
        yield f"complete -c pyjama -n __fish_use_subcommand -a {command.name} -d {_quoted(command.summary)}"
    for command in commands:
        condition = f"-n '__fish_seen_subcommand_from {command.name}; and not __pyjama_in_program'"
        for each in command.arguments:
            if each.spellings:
                yield f"complete -c pyjama {condition} {_fish_option(each)}"
            elif each.choices or each.recorded:
                yield f"complete -c pyjama {condition} -a {_fish_values(each)}"
            elif each.takes in _FILES:
                yield f"complete -c pyjama {condition} -F"


def _fish_option(argument: _Argument) -> str:
    parts = [f"-l {each[2:]}" if each.startswith("--") else f"-s {each[1:]}" for each in argument.spellings]
    if argument.choices or argument.recorded:
        parts.append(f"-x -a {_fish_values(argument)}")
    elif argument.takes:
        parts.append("-r -F" if argument.takes in (*_FILES, *_DIRECTORIES) else "-x")
    return " ".join([*parts, f"-d {_quoted(argument.summary)}"])


def _fish_values(argument: _Argument) -> str:
    recorded = [f"(__pyjama_recorded {' '.join(argument.recorded)})"] if argument.recorded else []
    return _quoted(" ".join([*argument.choices, *recorded]))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
