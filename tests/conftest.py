"""Hypothesis profiles. `daily` is the default; HYPOTHESIS_PROFILE=long digs ten times deeper."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_SHARED = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow]}

settings.register_profile("daily", max_examples=100, **_SHARED)  # type: ignore[arg-type]
settings.register_profile("long", max_examples=1000, **_SHARED)  # type: ignore[arg-type]
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "daily"))

# These run in the dom0 of a real host; `tests/real/outside` takes them there.
collect_ignore = [] if os.environ.get("DOMINDEX_DOM0") else ["real/inside"]
