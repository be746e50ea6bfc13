"""`check`: whether each part works on this host, and if not, why and what to do.

Read after waiting.py; next parser.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple, TextIO

from domindex.cli.arguments import PATIENCE, Commands
from domindex.cli.as_json import print_json
from domindex.domain import fit_for_terminal
from domindex.errors import DomindexError
from domindex.index import Index
from domindex.opening import connect
from domindex.ports import Host

_PARTS = """\
It opens the hypervisor, then xenstore, then an index of all domains, and changes
nothing. The status is 1 if a part does not work, or if a name cannot be read."""


def add(commands: Commands) -> None:
    """Add the command."""
    commands.add("check", check, "test each part on this host", _PARTS)


class _Finding(NamedTuple):
    what: str
    works: bool
    detail: str


def check(host: Host, args: argparse.Namespace, out: TextIO) -> int:
    """Test each part by itself. The index is only tried where both others work."""
    findings: list[_Finding] = []

    def attempt(what: str, run: Callable[[], str]) -> None:
        try:
            detail = run()
        except DomindexError as error:
            findings.append(_Finding(what, False, str(error)))
        else:
            findings.append(_Finding(what, True, detail))

    attempt("hypervisor", lambda: _hypervisor(host))
    attempt("xenstore", lambda: _xenstore(host))
    if all(finding.works for finding in findings):
        parts: list[_Finding] = []
        attempt("index", lambda: _index(host, parts))
        findings += parts
    if args.json:
        print_json([finding._asdict() for finding in findings], out)
    else:
        for what, works, detail in findings:
            print(f"{what:<11} {'ok ' if works else 'NO '} {fit_for_terminal(detail)}", file=out)
    return 0 if all(finding.works for finding in findings) else 1


def _hypervisor(host: Host) -> str:
    opened = host.open_hypervisor()
    try:
        ids = (
            "unique ids tell lives of one domid apart"
            if opened.has_unique_ids
            else "no unique ids before Xen 4.21: uuid and cpu time tell lives of one domid apart"
        )
        return f"{opened.version}, {len(opened.list())} domains; {ids}"
    finally:
        opened.close()


def _xenstore(host: Host) -> str:
    line = host.open_store(PATIENCE)
    try:
        line.barrier()
        return "answers"
    finally:
        line.close()


def _index(host: Host, findings: list[_Finding]) -> str:
    """Open an index. What there is to say of its parts is added to `findings`."""
    with connect(host, timeout=PATIENCE) as index:
        index.refresh()
        offers = index.capabilities
        findings.append(_events(index))
        for domid, error in sorted(index.unreadable.items()):
            detail = (
                f"the name of domain {domid} cannot be read: {error}; until it can, a name that no "
                "other domain has cannot be told to be absent"
            )
            findings.append(_Finding("name", False, detail))
        names = (
            "watch depth: one watch for all names"
            if offers.one_watch
            else "no watch depth: a watch for each name"
        )
        births = (
            "; events say which domain started or ended"
            if offers.watch_depth
            else "; domains are listed when one starts or ends"
        )
        return f"live with {len(index)} domains; {names}{births}"


def _events(index: Index) -> _Finding:
    """Whether xenstored tells of starts and ends. Without one, only a refusal can be seen."""
    if not index.stats.deaf:
        detail = "watches on starts and ends are set; that they fire shows when a domain starts"
        return _Finding("events", True, detail)
    detail = (
        "xenstored does not tell this process when domains start and end, as it is not privileged; "
        f"they are found every {index.timing.probe:.0f} s instead. Run it in the control domain, "
        "as root"
    )
    return _Finding("events", False, detail)
