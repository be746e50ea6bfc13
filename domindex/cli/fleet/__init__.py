"""The commands of a fleet: `domindex publish`, and those after `domindex fleet`.

Only `commands.py` is imported by the program itself. It makes the parsers, and imports the file
of a command when that runs: so no other command pays for the fleet, or needs its packages.

Read after the other commands; next commands.py.
"""
