"""The command line's reference, from the parsers themselves. Imports r2star.cli."""

from __future__ import annotations

import argparse
from importlib import import_module

from markdown_table import cell, table

#: command → module that has its ``build_parser``
COMMANDS = {
    "r2star": "r2star.cli.options",
    "r2star-fit": "r2star.cli.fit",
    "r2star-simulate": "r2star.cli.simulate",
    "r2star-submit": "r2star.cli.submit",
    "r2star-verify": "r2star.cli.verify",
}


def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser of one of `COMMANDS`."""
    parser: argparse.ArgumentParser = import_module(COMMANDS[command]).build_parser()
    return parser


def command(name: str) -> str:
    """Usage, description and every option of a command, and of its subcommands."""
    return _describe(parser_of(name))


def _describe(parser: argparse.ArgumentParser) -> str:
    parts = [parser.description or "", f"```text\n{_usage(parser)}\n```"]
    for group in parser._action_groups:
        actions = [
            action
            for action in group._group_actions
            if action.help is not argparse.SUPPRESS and not isinstance(action, argparse._SubParsersAction)
        ]
        if actions:
            rows = [(_names(action), _help(parser, action)) for action in actions]
            parts += [f"**{cell(_capital(group.title or ''))}**", table(("option", ""), rows)]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            parts += [
                f"### `{child.prog}`\n\n{_describe(child)}"
                for child in dict.fromkeys(action.choices.values())
            ]
    if parser.epilog:
        parts.append(f"```text\n{parser.epilog.strip()}\n```")
    return "\n\n".join(part for part in parts if part)


def _usage(parser: argparse.ArgumentParser) -> str:
    """The usage lines, at one width whatever the terminal's."""
    formatter = argparse.HelpFormatter(prog=parser.prog, width=84)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups)
    return formatter.format_help().strip().removeprefix("usage: ")


def _names(action: argparse.Action) -> str:
    formatter = argparse.HelpFormatter(prog="", width=1000)
    told = formatter._format_action_invocation(action).replace("|", "\\|")
    return ", ".join(f"`{name}`" for name in told.split(", "))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    values = {**vars(action), "prog": parser.prog}
    text = (action.help or "") % values
    choices = action.choices if action.choices and not isinstance(action.choices, range) else ()
    shown = text + _names(action)
    if any(str(choice) not in shown for choice in choices):
        text += f"; one of {', '.join(map(str, choices))}"
    return cell(text)
