"""The command line: one file for each kind of command, and two for how things look.

`main` is the program `domindex`. Its commands call the library, print, and end with a status.
A further command is a file with a function `add`, and a line in parser.py.

Read after direct.py and index.py; next arguments.py.
"""

from domindex.cli.as_text import event_line, print_table
from domindex.cli.program import main

__all__ = ["event_line", "main", "print_table"]
