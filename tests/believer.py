"""What a listener knows that gets nothing but events. For native tests and for those in dom0."""

from __future__ import annotations

from dataclasses import replace

from domindex.domain import Domain, Life
from domindex.events import (
    Added,
    Changed,
    Event,
    Lost,
    Ready,
    Recovered,
    Removed,
    Renamed,
    Resync,
    ShutDown,
)


class Believer:
    """What a listener knows that hears nothing but events. Fails on one that does not fit.

    strict: also on Lost or Recovered told twice or alone. A listener that subscribes just as
        the line goes or comes may hear that today; see test_faults.
    """

    def __init__(self, *, strict: bool = True) -> None:
        self._strict = strict
        self.domains: dict[int, Domain] = {}
        self.was_ready: set[Life] = set()
        self.live = True

    def hear(self, event: Event) -> None:
        """Take one event in. AssertionError if it contradicts those before."""
        match event:
            case Added(domain):
                assert domain.domid not in self.domains, f"{event} while that domid is held"
                self.domains[domain.domid] = domain
            case Ready(domain):
                assert self.domains.get(domain.domid) == domain, f"{event} is not held so"
                assert domain.ready, f"{event} of a domain that is not"
                again = event.ceased > 0
                assert again or domain.life not in self.was_ready, f"{event} twice in a life"
                self.was_ready.add(domain.life)
            case Renamed(old, new):
                self._replace(event, old, new)
                assert new == replace(old, name=new.name), f"{event} changes more than the name"
            case ShutDown(domain, reason):
                old = self.domains[domain.domid]
                assert old.shutdown is None, f"{event} of a domain that is down"
                assert domain == replace(old, shutdown=reason), f"{event} after {old}"
                self.domains[domain.domid] = domain
            case Changed(old, new, fields):
                self._replace(event, old, new)
                differ = [f for f in ("uuid", "type", "shutdown") if _differs(f, old, new)]
                assert list(fields) == differ, f"{event} changes {differ}"
                assert new.name == old.name, f"{event} renames"
            case Removed(domain, reason, _):
                held = self.domains.pop(domain.domid, None)
                if held is not None and held.name is None:  # it is told under its last name
                    held = replace(held, name=domain.name)
                assert held == domain, f"{event} is not held so"
                assert reason == domain.shutdown, f"{event} gives another reason"
            case Resync(domains):
                self.domains = {domain.domid: domain for domain in domains}
                self.live = True  # unless Lost comes next
            case Lost():
                assert self.live or not self._strict, "Lost told twice"
                self.live = False
            case Recovered():
                assert not (self.live and self._strict), "Recovered without Lost"
                self.live = True

    def _replace(self, event: Event, old: Domain, new: Domain) -> None:
        assert self.domains.get(old.domid) == old, f"{event} does not start where the last ended"
        assert old.life == new.life, f"{event} joins two lives"
        assert old != new, f"{event} changes nothing"
        self.domains[new.domid] = new


def _differs(field: str, old: Domain, new: Domain) -> bool:
    return bool(getattr(old, field) != getattr(new, field))
