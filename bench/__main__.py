"""`python -m bench`."""

import sys

from bench.cli import app
from bench.plain_text import spell_on
from bench.streams import heard_or_not

sys.stdout, sys.stderr = heard_or_not(sys.stdout), heard_or_not(sys.stderr)
spell_on(sys.stdout, sys.stderr)
app()
