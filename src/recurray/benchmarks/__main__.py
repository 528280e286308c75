"""The benchmarks as ``python -m recurray.benchmarks``, the same as ``recurray bench``."""

import sys

from recurray.command_line import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
