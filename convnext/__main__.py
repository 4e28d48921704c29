"""`python -m convnext` is `convnext`, as torchrun needs it."""

import os
import sys

from .commands.main import main

if __name__ == "__main__":  # loader processes import this file again where they are spawned
    code = main()
    if "RANK" in os.environ:
        # Everything is written. The threads of torch's communication have aborted an interpreter on its way out
        # ("terminate called without an active exception"), which looked like a failed run.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
