"""python -m tests.measure.mutants: which faults of the package the tests do not notice.

--count 300 --seed 1   a sample at random; --count 0 takes all there are
--files GLOB ...       of these files only
--kinds KIND ...       of these kinds only, as `with` or `comparison`
--survivors            try again all that no test has noticed yet: after new tests, or with
                       --seconds 300, as a line that most tests reach is tried by some of them
--afresh               forget all outcomes
--report               try nothing: print what is known of all samples

Outcomes are kept in build/mutants, one by one, and a run that was ended goes on where it was. The
report is also written to build/mutants/REPORT.md. Read last in this folder.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import time
from collections.abc import Sequence
from typing import Final

from tests.measure.mutants.children import BUILD
from tests.measure.mutants.equivalent import why_equivalent
from tests.measure.mutants.kinds import NO_FAULT, PROJECT, Mutant, control, mutants, sample
from tests.measure.mutants.reach import recorded
from tests.measure.mutants.report import report
from tests.measure.mutants.trial import Outcome, outcomes

FILES: Final = [
    "domindex/core/*.py",
    "domindex/listening/*.py",
    *(
        f"domindex/{name}.py"
        for name in ("aio", "body", "conditions", "facts", "following", "index", "looks")
    ),
    *(f"domindex/{name}.py" for name in ("lookups", "picture", "requests", "watcher")),
    *(f"domindex/{name}.py" for name in ("liveness", "matching", "staleness")),
]

CONTROLS: Final = 40
"""For every so many faults there is one place without: there no test should notice anything."""

OUTCOMES: Final = BUILD / "outcomes.jsonl"
REPORT: Final = BUILD / "REPORT.md"


def main() -> int:
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # with the children
    BUILD.mkdir(parents=True, exist_ok=True)
    if args.afresh:
        OUTCOMES.unlink(missing_ok=True)
    files = sorted({str(p.relative_to(PROJECT)) for g in args.files for p in PROJECT.glob(g)})
    made = [
        m
        for file in files
        for m in mutants(file)
        if (not args.kinds or m.kind in args.kinds) and why_equivalent(m) is None
    ]
    chosen = sample(made, args.count or len(made), args.seed)
    for at in range(0, len(chosen), CONTROLS):
        chosen.insert(at, control(chosen[at]))
    known = known_outcomes()
    if args.survivors or args.report:
        # Of those there still are: where the code has changed, its faults are others.
        chosen = [m for m in (*made, *map(control, made)) if m.key in known]
        chosen = [*{m.key: m for m in chosen}.values()]
    todo = [
        m
        for m in chosen
        if (outcome := known.get(m.key)) is None
        or outcome.error
        or (args.survivors and outcome.survived and m.kind != NO_FAULT)
    ]
    print(f"{len(made)} faults in {len(files)} files; to try: {len(todo)} of {len(chosen)}")
    if todo and not args.report:
        known |= tried(todo, args.at_once, args.seconds)
    text = report([known[m.key] for m in chosen if m.key in known])
    REPORT.write_text(text, encoding="utf-8")
    print(text)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.measure.mutants", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--files", nargs="+", default=FILES, metavar="GLOB")
    parser.add_argument("--kinds", nargs="+", metavar="KIND")
    parser.add_argument("--survivors", action="store_true")
    parser.add_argument("--afresh", action="store_true")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--at-once", type=int, default=2, help="children at a time")
    parser.add_argument(
        "--seconds", type=float, default=40.0, help="of tests for one fault, at most"
    )
    return parser.parse_args()


def known_outcomes() -> dict[str, Outcome]:
    """Those of earlier runs, the last of each fault."""
    known = {}
    if OUTCOMES.exists():
        for line in OUTCOMES.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):  # a run was ended amid the last one
                mutant, *rest = json.loads(line)
                known[Mutant(*mutant).key] = Outcome(Mutant(*mutant), *rest)
    return known


def tried(todo: Sequence[Mutant], at_once: int, seconds: float) -> dict[str, Outcome]:
    """What becomes of them now; kept one by one."""
    reach = recorded(at_once)
    began = time.monotonic()
    done: dict[str, Outcome] = {}
    with OUTCOMES.open("a", encoding="utf-8") as kept:
        for outcome in outcomes(todo, reach, at_once, seconds):
            mutant = outcome.mutant
            done[mutant.key] = outcome
            print(json.dumps(outcome), file=kept, flush=True)
            pace = len(done) * 60 / (time.monotonic() - began)
            print(
                f"{len(done)}/{len(todo)} {pace:.0f}/min {mutant.file}:{mutant.line} "
                f"{mutant.kind}: {outcome.noticed or outcome.error or 'NOT NOTICED'}",
                file=sys.stderr,
                flush=True,
            )
    return done


if __name__ == "__main__":
    sys.exit(main())
