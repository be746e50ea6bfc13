"""What toolstacks do, in steps as small as theirs: each is complete before the next begins.

Sources: libxl_domain.c (domain_destroy_domid_cb) removes the nodes, then the domain; xenopsd's
domain.ml removes them afterwards; XenD's XendDomainInfo.py introduces before it names.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.orders.play import IDLE, ONE, THREE, TWO, Script, Step

NIL = type(ONE)(int=0)
REUSED = "a domid that is reused with the same uuid within one look is taken for the same life"
NAMELESS = "a handle that changes while there is no name is taken for another life"
UNPROVEN = "so is one that changes while something happens to the name, or others come and go"
UNWATCHED = "so is one that changes while the line is lost"


class _Do:
    """`do.rename(1, "b")` is that step."""

    def __getattr__(self, name: str) -> Callable[..., Step]:
        return lambda *args, **options: Step(name, args, options)


do = _Do()
CLEAR, DIE = do.clear_node(1), do.destroy(1, order="xapi")
LIBXL, XAPI = [CLEAR, DIE], [DIE, CLEAR]


def born(uuid: object = TWO, name: str = "b", domid: int = 1) -> list[Step]:
    return [
        do.create(uuid=uuid, type="hvm", domid=domid, introduce=False),
        do.rename(domid, name),
        do.introduce(domid),
    ]


NEXT, AGAIN, BESIDE = born(), born(ONE, "a"), born(domid=2)
SCRIPTS = {
    # names
    "renames": Script([do.rename(1, name) for name in "bcab"]),
    "no name, then one": Script([do.rename(1, None), do.rename(1, "a"), do.rename(1, None)]),
    "a birth beside": Script([*BESIDE, do.rename(2, "c"), do.destroy(2)]),
    "names swapped": Script(
        [*BESIDE[:2], do.rename(1, "t"), do.rename(2, "a"), do.rename(1, "b"), BESIDE[2]]
    ),
    # a domid reused
    "reused by libxl": Script([*LIBXL, *NEXT]),
    "reused by XAPI": Script([*XAPI, *NEXT]),
    "reused before XAPI clears": Script(
        [DIE, do.build(uuid=TWO, type="hvm", domid=1), CLEAR, *NEXT[1:]]
    ),
    "reused by XenD": Script([*XAPI, NEXT[0], NEXT[2], NEXT[1]]),
    "reused twice": Script([*LIBXL, NEXT[0], DIE, do.create("c", uuid=THREE, domid=1)]),
    "same uuid by libxl": Script([*LIBXL, *AGAIN], unsure=REUSED),
    "same uuid by XAPI": Script([*XAPI, *AGAIN], unsure=REUSED),
    "same uuid, nameless": Script([*LIBXL, AGAIN[0], AGAIN[2]], unsure=REUSED),
    "nameless, replaced": Script([*LIBXL, NEXT[0], NEXT[2], DIE, *NEXT], unsure=REUSED),
    "shut down, then reborn": Script([do.shutdown(1, 1), *LIBXL, *AGAIN], unsure=REUSED),
    "reborn, then shut down": Script([*LIBXL, *AGAIN, do.shutdown(1)], unsure=REUSED),
    "reborn to stop, by XAPI": Script(
        [*XAPI, AGAIN[0], do.shutdown(1)], silent=True, unsure=REUSED
    ),
    # a handle changed
    "a handle": Script([do.change_handle(1, TWO)], silent=True),
    "handles and names by turns": Script(
        [
            *[do.change_handle(1, TWO), do.probe(), IDLE, do.rename(1, "b"), IDLE],
            *[do.change_handle(1, ONE), do.refresh(), do.change_handle(1, THREE)],
        ],
        silent=True,
    ),
    "a handle, then a name": Script(
        [do.change_handle(1, TWO), do.rename(1, "b")], silent=True, unsure=UNPROVEN
    ),
    "names about a handle": Script(
        [do.rename(1, "b"), do.change_handle(1, TWO), do.rename(1, "c")],
        silent=True,
        unsure=UNPROVEN,
    ),
    "names about two handles": Script(
        [
            *[do.change_handle(1, TWO), do.probe(), do.rename(1, "b")],
            *[do.change_handle(1, THREE), do.rename(1, "c")],
        ],
        silent=True,
        unsure=UNPROVEN,
    ),
    "two handles": Script(
        [do.change_handle(1, TWO), do.rename(1, "b"), do.change_handle(1, ONE)],
        silent=True,
        unsure=UNPROVEN,
    ),
    "a handle of one being born": Script(
        [*LIBXL, born(NIL)[0], do.change_handle(1, TWO), *NEXT[1:]], unsure=NAMELESS
    ),
    "a handle, then the end": Script([do.change_handle(1, THREE), *XAPI, *NEXT]),
    "a handle, and another beside": Script(
        [do.change_handle(1, TWO), *born(THREE, "b", 2), do.destroy(2)],
        silent=True,
        unsure=UNPROVEN,
    ),
    # a node followed
    "a node": Script(
        [do.follow(1, "x"), *[do.write(1, "x", value) for value in (b"1", b"2", None)]]
    ),
    "a node of the next life": Script(
        [do.follow(1, "x"), *LIBXL, NEXT[0], do.write(1, "x", b"2"), NEXT[2]]
    ),
    "a node of the next, same uuid": Script(
        [do.follow(1, "x"), *LIBXL, AGAIN[0], do.write(1, "x", b"2"), AGAIN[2]], unsure=REUSED
    ),
    "a node and a handle": Script(
        [do.follow(1, "x"), do.write(1, "x", b"1"), do.change_handle(1, TWO), do.probe()],
        silent=True,
    ),
    # a node read once
    "a read": Script([do.write(1, "x", b"1"), do.read(1, "x"), do.write(1, "x", b"2")]),
    "a read of the next life": Script(
        [do.read(1, "x"), *LIBXL, NEXT[0], do.write(1, "x", b"2"), NEXT[2]]
    ),
    "a read of the next, same uuid": Script(
        [do.read(1, "x"), *LIBXL, AGAIN[0], do.write(1, "x", b"2"), AGAIN[2]], unsure=REUSED
    ),
    "a read and a handle": Script(
        [do.read(1, "x"), do.write(1, "x", b"1"), do.change_handle(1, TWO)], silent=True
    ),
    # nothing tells
    "a silent birth": Script([BESIDE[0], do.probe(), BESIDE[1]], silent=True),
    "a silent end": Script([*BESIDE[:2], do.probe(), do.destroy(2)], silent=True),
    "an end after a release": Script([CLEAR, do.release(1), DIE], silent=True),
    "reused after a release": Script([do.release(1), *LIBXL, *NEXT]),
    "a resume": Script([do.shutdown(1, 2), do.resume(1)], silent=True),
    # a name refused
    "a refusal": Script(
        [
            do.refuse_node(1, "name", "EIO"),
            do.rename(1, "b"),
            do.allow_node(1, "name"),
            do.rename(1, "c"),
        ]
    ),
    # the line
    "a cut": Script([do.rename(1, "b"), do.cut_line(), do.rename(1, "c")]),
    "a cut as one is replaced": Script([*LIBXL, do.cut_line(), *NEXT]),
    "a cut before one is replaced": Script([do.cut_line(), *LIBXL, *NEXT]),
    "a cut, same uuid": Script([do.cut_line(), *LIBXL, *AGAIN], unsure=REUSED),
    "a cut and a handle": Script(
        [do.cut_line(), do.rename(1, "b"), do.change_handle(1, TWO)], silent=True, unsure=UNWATCHED
    ),
    "a list cut in half": Script([*BESIDE, do.halve_lists(), do.shutdown(2)], silent=True),
    # asked for
    "refresh": Script([do.rename(1, "b"), do.refresh(), do.rename(1, "c"), do.refresh()]),
    "refresh of what is silent": Script(
        [BESIDE[0], do.refresh(), do.destroy(2), do.refresh()], silent=True
    ),
    "refresh as one is replaced": Script([*LIBXL, do.refresh(), *NEXT, do.refresh()]),
    "refresh of a handle": Script(
        [do.change_handle(1, TWO), do.refresh(), IDLE, do.rename(1, "b")], silent=True
    ),
    "refresh of a handle, another beside": Script(
        [do.change_handle(1, TWO), do.refresh(), *born(THREE, domid=2)], unsure=UNPROVEN
    ),
}
