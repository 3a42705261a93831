"""What all commands share: the parser's manners, error lines, exit codes. Imports errors only."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from r2star.errors import NO_THREAD, EnvironmentFault, Notice, R2starError, UsageError


class Parser(argparse.ArgumentParser):
    """A parser whose complaints look like every other error of the program (exit code 2)."""

    def error(self, message: str) -> NoReturn:
        """Turn argparse's complaint into a `UsageError`."""
        raise UsageError("E520", message, fix=f"see {self.prog} --help")


def say_error(error: R2starError) -> None:
    """One line on the standard error stream."""
    print(f"ERROR {error}", file=sys.stderr, flush=True)  # noqa: T201


def say_notice(notice: Notice, unit: str = "") -> None:
    """One warning line on the standard error stream."""
    where = f" {unit}:" if unit else ":"
    path = f" {notice.path}:" if notice.path else ""
    fix = f" Fix: {notice.fix.rstrip('.')}." if notice.fix else ""
    print(  # noqa: T201
        f"WARNING R2S-{notice.code}{where}{path} {notice.message.rstrip('.')}.{fix}",
        file=sys.stderr,
        flush=True,
    )


def say(text: str) -> None:
    """One line on the standard output stream."""
    print(text, flush=True)  # noqa: T201


def run_command(command: Callable[[list[str]], int], argv: list[str] | None) -> int:
    """Run a command; errors become one line and their exit code, a traceback only with ``--debug``."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        return command(arguments)
    except R2starError as error:
        say_error(error)
        if "--debug" in arguments:
            traceback.print_exc()
        return error.exit_code
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and NO_THREAD not in str(error):
            raise
        say_error(
            EnvironmentFault(
                "E603", "memory ran out", "more of it is needed", "use a larger machine or fewer processes"
            )
        )
        return EnvironmentFault.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left; not our error
        return 1
