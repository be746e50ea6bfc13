"""What the Python half costs, in instructions: `make counts`.

A clock tells nothing of a few per cent on a machine that does other things beside. So the same
work runs under valgrind, which counts what the processor would execute: the same number each
time. What counts is the ratio to a bare dict look-up in the same run.
"""
