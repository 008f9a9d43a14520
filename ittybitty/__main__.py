"""`python -m ittybitty` is the command `ittybitty`."""

import sys

from .cli import main

sys.exit(main())
