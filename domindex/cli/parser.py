"""The parser of the whole command line. Help, man page and completions are made from it.

Read after the commands; next program.py.
"""

from __future__ import annotations

import textwrap
from typing import Final

from domindex.cli import checking, getting, listing, waiting, watching
from domindex.cli.arguments import Commands, Parser, add_shared
from domindex.cli.fleet import commands as fleet

ABOUT: Final = "find Xen domains by name, uuid or domid, and follow what happens to them"

_ADDERS: Final = (listing.add, getting.add, waiting.add, watching.add, checking.add, fleet.add)
"""In the order of the help. A file with further commands adds itself here."""

WHERE: Final = """\
It runs in the control domain (dom0), usually as root, and changes nothing there.
watch, wait and publish follow the host for as long as they run; all others ask
it once. The commands of a fleet ask many hosts, from any machine."""

KEYS: Final = """\
KEY is what a person would type: a name, a domid or a uuid. Digits may be a name
or a domid, and a uuid may be a name. Where that leads to several domains the
command names them and ends with status 1. "name:7", "id:7" and "uuid:..." say
which one is meant."""

STATUSES: Final = (
    (0, "Done. Also if nobody reads the output any more, as in domindex list | head -2."),
    (
        1,
        "No: there is no such domain or host, several have KEY, or its name cannot be printed; of "
        "wait: it is gone for good; of check: a part does not work; of publish: it is published by "
        "somebody else; of fleet forget and offline: somebody publishes it.",
    ),
    (2, "Wrong use."),
    (
        3,
        "Cannot tell: this is no Xen control domain, there is no access, or the hypervisor, "
        "xenstore or the store of the fleet does not answer; of fleet get: hosts that may have it "
        "are silent. Also if the output cannot be written.",
    ),
    (4, "Of publish: another publisher of this machine has taken over."),
    (124, "The time of wait is up; of a fleet: that of --timeout, and nobody says why."),
    (130, "Interrupted by Ctrl-C."),
)
"""Each exit status, and what it means."""

EXAMPLES: Final = (
    ("domindex domid web", "the domid of the domain called web"),
    ("domindex name id:7", "the name of domain 7, whatever others are called"),
    ("domindex list -o wide --type pvh", "every PVH guest, with its memory and cpu time"),
    ("domindex wait web --ready --timeout 60", "wait until web runs, for a minute at most"),
    ("domindex watch --event Added Removed", "print each start and each end"),
    ("domindex fleet get web", "on which host web runs; DOMINDEX_FLEET names the store"),
    ("domindex watch --simulated", "see it at work without Xen"),
)


def build_parser(kind: type[Parser] = Parser, *, brief: bool = False) -> Parser:
    """Make the parser.

    Args:
        kind: Its class.
        brief: As for `Commands`, and without the examples and statuses at the end of the help.
    """
    about = f"F{ABOUT[1:]}.\n\n{WHERE}"
    parser = kind(
        prog="domindex",
        description=f"{about}\n\n{KEYS}" if brief else about,
        epilog=None if brief else _epilog(),
        add_help=False,
    )
    commands = Commands(parser, brief=brief)
    for add in _ADDERS:
        add(commands)
    options = parser.add_argument_group(
        "options", "All of them but --version may also be given after the command."
    )
    add_shared(options)
    options.add_argument("--version", action="store_true", help="print the version")
    parser.set_defaults(run=None, json=False, transport=None, simulated=False)
    return parser


def _epilog() -> str:
    statuses = [
        textwrap.fill(f"{status:<4} {text}", 79, initial_indent="  ", subsequent_indent=" " * 7)
        for status, text in STATUSES
    ]
    examples = [f"  {command}\n      {text}" for command, text in EXAMPLES]
    return "\n".join([KEYS, "", "exit status:", *statuses, "", "examples:", *examples])
