"""`python -m convnext` is `convnext`, as torchrun needs it."""

import sys

from .cli import main

if __name__ == "__main__":  # loader processes import this file again where they are spawned
    sys.exit(main())
