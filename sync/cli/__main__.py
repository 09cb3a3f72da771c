"""`python -m segue.sync.cli`: the `segue` command for who knows the interpreter and not the script's place."""

import sys

from . import main

sys.exit(main())
