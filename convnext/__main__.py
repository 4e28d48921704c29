"""`python -m convnext` is the convnext command."""

import sys

from .cli import main

sys.exit(main())
