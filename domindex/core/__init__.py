"""From what was seen of the host to what is true of it. No input or output.

table.py keeps what is true; reconcile.py decides what it is.
"""
