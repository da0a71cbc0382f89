"""The studies: one file each, with a function `study(records) -> Study`."""
