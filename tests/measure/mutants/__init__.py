"""Small faults put into the package, and which of them the tests notice.

`python -m tests.measure.mutants` makes them from the syntax tree, one at a time, runs the tests
that reach the changed line, and lists the faults that no test noticed. Nothing is written into
the package: a child process imports the changed module in place of the real one.

Read kinds.py (which faults there are), then children.py (one process for each), reach.py (which
tests reach which line), trial.py (one fault, its tests, what came of it), report.py and
__main__.py (the sample, the results).
"""
