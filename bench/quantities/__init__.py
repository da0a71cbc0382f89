"""What else a study measures of a cell beside its gradient: one file each, found by its name."""
