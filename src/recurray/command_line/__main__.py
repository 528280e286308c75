"""The command line as ``python -m recurray.command_line``."""

import sys

from recurray.command_line import main

sys.exit(main())
