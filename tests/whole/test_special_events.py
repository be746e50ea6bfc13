"""What the special watches say of one domid, where nothing else tells of it.

Only xenstoreds that know watch depth name the domid. These hosts leave the nodes as they are, as
toolstacks do that clear none, so that the watch of the name is silent whatever happens.
"""

from __future__ import annotations

from uuid import UUID

import pytest

from domindex.events import Added, Changed, Removed
from domindex.testing import SimulatedHost
from tests.whole.helpers import CALM, LIMIT, Ear

ONE, TWO = UUID(int=1), UUID(int=2)


@pytest.mark.parametrize("uuid", [ONE, TWO], ids=["same uuid", "another uuid"])
@pytest.mark.parametrize("unique_ids", [True, False], ids=["ids", "no ids"])
def test_a_domid_that_was_born_again_is_another_life(uuid: UUID, unique_ids: bool) -> None:
    """P3: though its row and its name are what they were. (Before Xen 4.21 the same uuid with the
    same name is the same life to whoever did not look in between: nothing tells them apart.)"""
    host = SimulatedHost(unique_ids=unique_ids, watch_depth=True, idle=True)
    web = host.create("web", uuid=ONE, type="hvm")
    with host.connect(timing=CALM) as index:
        ear = Ear(index)
        with index.subscribe(ear) as subscription:
            assert subscription.wait_synced(LIMIT)
            present = len(ear.events)
            before = index.by_id(web)
            with host._lock:  # seen as one
                host.destroy(web, order="xapi")
                host.build(uuid=uuid, type="hvm", domid=web)
                host.introduce(web)
            if unique_ids or uuid != ONE:  # by the event alone: a refresh looks at all anew
                ear.until(lambda: len(ear.events) >= present + 2)
            index.refresh()
            assert subscription.drain(LIMIT)
            now = index.by_id(web)
            assert (now.uuid, now.name) == (uuid, "web")
            if unique_ids or uuid != ONE:
                assert ear.events[present:] == [Removed(before), Added(now)]
            else:
                assert ear.events[present:] == []


def test_an_event_of_a_domid_counts_for_what_is_seen_next() -> None:
    """P3: a life goes on under another handle, however lately its birth was told."""
    host = SimulatedHost(watch_depth=True, idle=True)
    web = host.create("web", uuid=ONE)
    with host.connect(timing=CALM) as index:
        ear = Ear(index)
        with index.subscribe(ear) as subscription:
            assert subscription.wait_synced(LIMIT)
            present = len(ear.events)
            host.introduce(web)
            index.refresh()
            before = index.by_id(web)
            other = host.create("other", uuid=TWO)
            index.refresh()
            added = index.by_id(other)
            for domid in (web, other):
                host.change_handle(domid, UUID(int=10 + domid))
            index.refresh()
            assert subscription.drain(LIMIT)
            assert ear.events[present:] == [
                Added(added),
                Changed(before, index.by_id(web), ("uuid",)),
                Changed(added, index.by_id(other), ("uuid",)),
            ]
