"""Make the man page and the completions from the parser of the command line.

    python tools/manual.py DIRECTORY

writes them below DIRECTORY, where they are to be below /usr or another prefix: share/man/man1, and
one place for each shell. It needs sortedcontainers, which the package imports, argparse-manpage
and shtab. What one of these is too old for is left out, and it says so: in Debian 12 both are. The
shtab of Debian 13 does not know fish.

The result depends on the source, on these two and on SOURCE_DATE_EPOCH alone. Without that
variable the page has no date.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from domindex import __version__
from domindex.cli.arguments import Parser
from domindex.cli.parser import ABOUT, EXAMPLES, STATUSES, build_parser

PAGE: Final = "share/man/man1/domindex.1"
COMPLETIONS: Final = {
    "bash": "share/bash-completion/completions/domindex",
    "zsh": "share/zsh/site-functions/_domindex",
    "fish": "share/fish/vendor_completions.d/domindex.fish",
}


def main() -> int | str:
    if len(sys.argv) != 2:
        return "usage: python tools/manual.py DIRECTORY"
    for path in write(Path(sys.argv[1])):
        print(path)
    return 0


def write(directory: Path) -> list[Path]:
    """Write what can be made below `directory`. Returns the paths; says what is left out."""
    # argparse asks for both: neither the terminal of the build nor its colours may show.
    os.environ |= {"COLUMNS": "80", "PYTHON_COLORS": "0"}
    written = []
    for name, text in made():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def made() -> Iterator[tuple[str, str]]:
    """Where each file is to be, and its text."""
    try:
        yield PAGE, man_page()
    except ImportError as error:
        print(f"no man page: argparse-manpage 4.5 or newer is needed ({error})", file=sys.stderr)
    try:
        import shtab

        this = metadata.version("shtab")
        if tuple(map(int, this.split(".")[:2])) < (1, 7):
            raise ImportError(f"this is {this}")
    except ImportError as error:
        print(f"no completions: shtab 1.7 or newer is needed ({error})", file=sys.stderr)
        return
    for shell, name in COMPLETIONS.items():
        if shell in shtab.SUPPORTED_SHELLS:
            yield name, shtab.complete(build_parser(), shell=shell)
        else:
            print(f"no completion for {shell}: shtab {this} does not know it", file=sys.stderr)


class OnePage(Parser):
    """For a page with all commands: the usage of each is one line."""

    def format_usage(self) -> str:
        return " ".join(super().format_usage().split()[1:])


def man_page() -> str:
    """The man page. Raises ImportError."""
    from argparse_manpage.manpage import Manpage

    page = Manpage(build_parser(OnePage, brief=True), format="single-commands-section")
    page.description = ABOUT
    page.source, page.manual = f"domindex {__version__}", "User Commands"
    page.date = date()
    for title, items in (
        ("exit status", [(str(status), text) for status, text in STATUSES]),
        ("examples", [(command, text[0].upper() + text[1:] + ".") for command, text in EXAMPLES]),
    ):
        lines = [f".TP\n.B {roff(head)}\n{roff(text)}" for head, text in items]
        page.add_section(title, ">", "\n".join(lines))
    others = [f".BR {name} ({section})" for name, section in (("xl", 1), ("xenstore", 1))]
    page.add_section("see also", ">", ",\n".join(others))
    return str(page)


def date() -> str:
    """The day of SOURCE_DATE_EPOCH, in UTC as everywhere."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    return "" if epoch is None else datetime.fromtimestamp(int(epoch), UTC).date().isoformat()


def roff(text: str) -> str:
    """Text for a line of a man page: a hyphen is typed as one, a backslash is none of roff's."""
    return text.replace("\\", r"\e").replace("-", r"\-")


if __name__ == "__main__":
    sys.exit(main())
