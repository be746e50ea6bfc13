"""The command `python -m domindex`. See cli.py."""

import sys

from domindex.cli import main

sys.exit(main())
