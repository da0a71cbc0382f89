"""The upper level's algorithms, one file each; the file's name is the key of `[learner]`."""
