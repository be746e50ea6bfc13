"""What the index costs on this host, beside every other way to the same answers.

`domindex bench` runs it; nothing else in the package imports it. It reads only, unless it is told
to write, and then writes one node of its own and below it.

Reading order: ways.py (what is timed and how), ours.py and peers.py (what there is to time),
measures.py (what is no matter of one call), run.py (all of it, once), report.py and plot.py (what
comes of it).
"""
