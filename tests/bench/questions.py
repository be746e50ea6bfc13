"""What is asked, and the floors that the answers are compared with: their names in every table.

Read first; next subject.py. The committed results contain these names.
"""

from __future__ import annotations

from typing import Final

FLOORS: Final = "floors"
BY_NAME: Final = "by name"
NO_NAME: Final = "by a name that no domain has"
BY_UUID: Final = "by uuid"
BY_ID: Final = "by domid"
OS_TYPE: Final = "type of a domain"
ALL: Final = "all of the host"

DRAWN: Final = (BY_NAME, NO_NAME, BY_UUID, BY_ID, OS_TYPE)
"""The questions that several ways can answer: each has a picture."""

DICT: Final = "a bare dict.get"
SUBSCRIPT: Final = "a bare dict subscript"
HYPERCALL: Final = "a bare hypercall for one domain"
ROUND_TRIP: Final = "a bare round trip to xenstored"
NAMES: Final = "a bare client: all names, pipelined"
WATCHES: Final = "a bare client: all watches and names, pipelined"
