"""What the index costs on a host, beside every other way to the same answers.

`python -m tests.bench` measures on the host it runs on: any control domain with a checkout and what
the package needs. It only reads; with `--write` it also writes one node of its own and below it.
`python -m tests.bench.on_hosts` (`make bench`) boots real Xen hosts of many sizes and measures
there; its results are in results/.

Reading order: questions.py (what is asked), subject.py (of which host), ways.py (what is timed, and
how), bare.py and floors.py (the least that an answer can cost), ours.py and peers.py (the index and
the others), measures.py (what is not the time of one call), run.py (one run of everything),
report.py and plot.py (tables and pictures), __main__.py (the command), on_hosts/.
"""
