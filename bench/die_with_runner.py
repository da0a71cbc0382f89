"""Imported by the fork server before all else: it ends with its runner even while it still loads torch."""

from __future__ import annotations

import os

from bench.process_tree import die_with

RUNNER = "HYPERGRAD_RUNNER"
"""The environment's name for the runner's process."""

if RUNNER in os.environ:  # not so in whoever else imports this
    die_with(int(os.environ.pop(RUNNER)))
