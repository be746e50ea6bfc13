"""What the commands share: how one is added, its options, and what a user may give for a value.

Read after cli/__init__.py; next as_text.py and as_json.py, then the commands.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
from collections.abc import Callable
from typing import Any, Final, NoReturn, Protocol, TextIO, TypeAlias

from domindex.domain import Domain, OSType, fit_for_terminal
from domindex.errors import InvalidKey
from domindex.keys import as_typed
from domindex.ports import Host

Run: TypeAlias = Callable[[Host, argparse.Namespace, TextIO], int]
"""A command: it prints its answer to the stream and returns the exit status."""

PATIENCE: Final = 5.0
"""Seconds in which a command must be able to open the index."""


class Adds(Protocol):
    """A parser, or a group of arguments in one."""

    def add_argument(self, *names: str, **options: Any) -> Any: ...


class Failure(Exception):
    """A command ends without an answer.

    Attributes:
        status: The exit status.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Parser(argparse.ArgumentParser):
    """argparse without abbreviations, and with messages that cannot control a terminal."""

    def __init__(self, **options: Any) -> None:
        raw = argparse.RawDescriptionHelpFormatter  # descriptions are broken into lines by hand
        super().__init__(allow_abbrev=False, formatter_class=raw, **options)

    def print_help(self, file: Any = None) -> None:
        """Print it at once: argparse takes no notice of an output that cannot be written."""
        print(self.format_help(), end="", file=file, flush=True)

    def error(self, message: str) -> NoReturn:
        """Print the usage and what is wrong, and exit with 2."""
        super().error(fit_for_terminal(message))


class Commands:
    """Where each file of commands adds its own.

    Args:
        parser: The parser of the program.
        brief: Leave out of each command what it has in common with the others, as in a manual
            that has them all on one page.
    """

    def __init__(self, parser: Parser, *, brief: bool = False) -> None:
        self._commands = parser.add_subparsers(title="commands", metavar="COMMAND")
        self.brief = brief

    def add(
        self, name: str, run: Run, summary: str, description: str = "", *, on_host: bool = True
    ) -> Parser:
        """Add a command with the options that all commands have.

        Args:
            name: The word that calls it.
            run: What it does.
            summary: One line for the list of commands.
            description: What its own help says after that.
            on_host: It asks the host on which it runs. What does not needs no --transport.

        Returns:
            Its parser, for its arguments and options.
        """
        whole = f"{summary[0].upper()}{summary[1:]}.\n\n{description}".strip()
        added: Parser = self._commands.add_parser(
            name,
            help=summary,
            description=description if self.brief else whole,
            add_help=False,
        )
        if not self.brief:
            add_shared(added.add_argument_group("options of every command"), on_host=on_host)
        added.set_defaults(run=run)
        return added

    def group(self, name: str, summary: str, description: str = "") -> Parser:
        """Add a word that other commands follow, for a `Commands` of its own. Alone it helps.

        Args:
            name: As for `add`.
            summary: As for `add`.
            description: As for `add`.
        """

        def print_help(host: Host, args: argparse.Namespace, out: TextIO) -> int:
            added.print_help(out)
            return 0

        added = self.add(name, print_help, summary, description, on_host=False)
        return added


def add_shared(group: Adds, *, on_host: bool = True) -> None:
    """Add the options that may be given before or after the command.

    They have no default here: that of a command would replace what was given before it.
    """
    absent: dict[str, Any] = {"default": argparse.SUPPRESS}
    group.add_argument("-h", "--help", action="help", help="print this help", **absent)
    group.add_argument(
        "--json",
        action="store_true",
        help="print JSON instead of text: one document; of watch, one object a line",
        **absent,
    )
    if on_host:
        group.add_argument(
            "--transport",
            choices=("socket", "xenbus"),
            help="how to reach xenstored (default: the socket if there is one, else the xenbus)",
            **absent,
        )
    group.add_argument(
        "--simulated",
        action="store_true",
        help="use a simulated host with four guests, to try the commands",
        **absent,
    )


def add_reboot_grace(parser: argparse.ArgumentParser) -> None:
    """The option of commands that print events."""
    parser.add_argument(
        "--reboot-grace",
        metavar="SECONDS",
        type=seconds,
        default=0.0,
        help="print one Rebooted for a guest that ends and is there again within this time",
    )


def reboot_grace(args: argparse.Namespace) -> float:
    """What was given with it. Raises Failure where nothing would ever be printed without."""
    if "Rebooted" in (args.event or ()) and not args.reboot_grace:
        raise Failure(2, "Rebooted needs --reboot-grace: without it each reboot is a Removed")
    grace: float = args.reboot_grace
    return grace


def add_key(parser: Adds, **options: Any) -> None:
    """Add the argument KEY, as the attribute `key`."""
    parser.add_argument(
        "key",
        metavar="KEY",
        type=key,
        help="a name, a domid or a uuid; name:..., id:... and uuid:... say which it is",
        **options,
    )


def add_filters(parser: Parser) -> None:
    """Add --name and --type, which `wanted` reads."""
    parser.add_argument(
        "--name",
        metavar="GLOB",
        type=typed_text,
        help="only domains whose name matches; quote the *, as in --name 'web-*'",
    )
    parser.add_argument(
        "--type", choices=[str(kind) for kind in OSType], help="only domains of this type"
    )


def wanted(args: argparse.Namespace) -> Callable[[Domain], bool] | None:
    """Which domains --name and --type let through. None if neither was given."""
    if args.name is None and args.type is None:
        return None

    def holds(domain: Domain) -> bool:
        if args.type is not None and domain.type != args.type:
            return False
        return args.name is None or (
            domain.name is not None and fnmatch.fnmatchcase(domain.name, args.name)
        )

    return holds


# -- what a user may give for a value ------------------------------------------------------------


def typed_text(text: str) -> str:
    """An argument as names are kept: its bytes, as UTF-8. The locale may have decoded it as else.

    Raises:
        argparse.ArgumentTypeError: It has no bytes, which no shell can pass.
    """
    try:
        return os.fsencode(text).decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{text!r} is no text") from None


def key(text: str) -> str:
    """A KEY that can be one, so that a mistake in it is told before the host is asked."""
    text = typed_text(text)
    try:
        as_typed(text)
    except InvalidKey as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def seconds(text: str) -> float:
    """A number of seconds from 0. `inf` is without a limit."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not number >= 0:  # NaN is no number of seconds either
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0")
    return number
