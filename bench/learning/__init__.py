"""Upper-level learning: `python -m bench learn CONFIG`."""
