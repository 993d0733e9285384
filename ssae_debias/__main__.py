"""`python -m ssae_debias` is `ssae-debias`."""

import sys

from ssae_debias.cli import main

sys.exit(main())
