"""Play one order again, as a failing test names it: `python -m tests.orders SCRIPT KIND ORDER`."""

from __future__ import annotations

import sys

from tests.orders.choices import Choices
from tests.orders.play import Play
from tests.orders.scripts import SCRIPTS

script, kind, order = sys.argv[1:]
play = Play(SCRIPTS[script], kind, Choices([int(n) for n in order.split(",") if n]))
print(play.fault() or "every promise is kept")
