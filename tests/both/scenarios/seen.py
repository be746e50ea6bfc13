"""What scenes of listening and asking share: changes seen whole, listeners with wishes, waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import domindex
from tests.delivery_log import DeliveryLog
from tests.stage import PATIENCE, Heard, Stage


def made(stage: Stage, *names: str, **particulars: Any) -> list[int]:
    """Domains of these names, which the index first sees when all of them have theirs."""
    with stage.unseen():
        return [stage.toolstack.create(name, **particulars) for name in names]


def ended(stage: Stage, *domids: int) -> None:
    """End these, so that the index sees their end and not how their nodes are removed before."""
    with stage.unseen():
        for domid in domids:
            stage.toolstack.destroy(domid)


def hears(index: domindex.Index, **wanted: Any) -> Heard:
    """A listener with these wishes, that has heard of what there was."""
    heard = Heard(log=None if wanted else DeliveryLog(index))
    heard.subscription = index.subscribe(heard, **wanted)
    assert heard.subscription.wait_synced(PATIENCE)
    return heard


class Waiting:
    """A call that waits, in a thread of its own."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._result: Any = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._call()
        except Exception as error:
            self._result = error

    def end(self) -> Any:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        if isinstance(self._result, Exception):
            raise self._result
        return self._result
