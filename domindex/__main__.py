"""python -m domindex"""

import sys

from domindex.cli import main

sys.exit(main())
