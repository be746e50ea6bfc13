"""python tools/recording.py: what `make run` shows in a terminal, as docs/recording.svg.

The program runs in a terminal of its own, on a simulated host, and takes about five seconds.
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

PROJECT = Path(__file__).resolve().parent.parent
PROGRAM = PROJECT / "examples" / "tour.py"
RECORDING = PROJECT / "docs" / "recording.svg"
COLUMNS = 92
FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""What rich would have a browser fetch from the network: its own fonts will do."""


def main() -> int:
    RECORDING.write_text(picture(output()), encoding="utf-8")
    print(f"{RECORDING.relative_to(PROJECT)} is made")
    return 0


def output() -> str:
    """What the program prints, as it does to a person."""
    ours, its = pty.openpty()
    with subprocess.Popen(
        [sys.executable, PROGRAM], stdin=its, stdout=its, stderr=its, cwd=PROJECT
    ) as program:
        os.close(its)
        said = b""
        while chunk := read(ours):
            said += chunk
    os.close(ours)
    if program.returncode:
        sys.exit(said.decode())
    return said.decode().replace("\r\n", "\n")


def read(terminal: int) -> bytes:
    """Some of it; nothing at the end, which Linux reports as an error."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


def picture(text: str) -> str:
    """As SVG, with letters that stay letters."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi("$ make run\n" + text.rstrip()), soft_wrap=False)
    made = console.export_svg(title="domindex", theme=SVG_EXPORT_THEME, unique_id="recording")
    return FONTS.sub("", made)


if __name__ == "__main__":
    sys.exit(main())
