"""`python -m bench`."""

import sys

from bench.cli import app
from bench.plain_text import spell_on

spell_on(sys.stdout, sys.stderr)
app()
