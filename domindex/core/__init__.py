"""From what was seen of the host to what is true of it. No input or output.

table.py is where the truth is kept, reconcile.py decides what it is.
"""
