"""The parser of the whole command line. Help, man page and completions are made from it.

Read after the commands; next program.py.
"""

from __future__ import annotations

from typing import Final

from domindex.cli import checking, getting, listing, waiting, watching
from domindex.cli.arguments import Commands, Parser, add_shared

ABOUT: Final = "find Xen domains by name, uuid or domid, and follow what happens to them"

_ADDERS: Final = (listing.add, getting.add, waiting.add, watching.add, checking.add)
"""In the order of the help. A file with further commands adds itself here."""

KEYS: Final = """\
KEY is what a person would type: a name, a domid or a uuid. Digits may be a name
or a domid, and a uuid may be a name. Where that leads to several domains the
command names them and ends with status 1. "name:7", "id:7" and "uuid:..." say
which one is meant."""

STATUSES: Final = (
    (0, "done; also if nobody reads the output any more"),
    (1, "no: there is no such domain, or several; it has no name that can be printed"),
    (1, "wait: it is gone for good; check: a part does not work"),
    (2, "wrong use"),
    (3, "cannot tell: this is no Xen control domain, there is no access, or the"),
    (3, "hypervisor or xenstore does not answer; also if the output cannot be written"),
    (124, "wait: the time is up"),
    (130, "interrupted by Ctrl-C"),
)
"""What each exit status means, in lines."""

EXAMPLES: Final = (
    ("domindex domid web", "the domid of the domain called web"),
    ("domindex name id:7", "the name of domain 7, whatever others are called"),
    ("domindex list -o wide --type pvh", "every PVH guest, with its memory and cpu time"),
    ("domindex wait web --ready --timeout 60", "wait until web runs, for a minute at most"),
    ("domindex watch --event Added Removed", "print each start and each end"),
    ("domindex watch --simulated", "see it at work without Xen"),
)


def build_parser() -> Parser:
    """Make the parser."""
    parser = Parser(prog="domindex", description=f"F{ABOUT[1:]}.", epilog=_epilog(), add_help=False)
    commands = Commands(parser)
    for add in _ADDERS:
        add(commands)
    options = parser.add_argument_group("options", "All but --version may follow the command, too.")
    add_shared(options)
    options.add_argument("--version", action="store_true", help="print the version")
    parser.set_defaults(run=None, json=False, transport=None, simulated=False)
    return parser


def _epilog() -> str:
    statuses, last = [], None
    for status, text in STATUSES:
        statuses.append(f"  {'' if status == last else status:<4} {text}")
        last = status
    examples = [f"  {command}\n      {text}" for command, text in EXAMPLES]
    return "\n".join([KEYS, "", "exit status:", *statuses, "", "examples:", *examples])
