"""What the operating system refuses, as the one line that a command says of it: the path, what is wrong, the remedy."""

from __future__ import annotations

import errno

ANOTHER = "choose another path"
REMEDIES = {
    errno.ENOENT: "make its folder first, or choose another path",
    errno.EACCES: f"this user may not: {ANOTHER}, or change its permissions",
    errno.EPERM: f"this user may not: {ANOTHER}, or change its permissions",
    errno.EROFS: ANOTHER,
    errno.EEXIST: f"a file is in the way: {ANOTHER}",
    errno.ENOTDIR: f"a part of the path is a file: {ANOTHER}",
    errno.EISDIR: "name a file",
    errno.ENOTEMPTY: ANOTHER,
    errno.ENAMETOOLONG: "choose a shorter one",
    errno.ELOOP: "its links lead in a circle: choose another path",
    errno.ENOSPC: "free some space, and give the same command again",
    errno.EDQUOT: "free some space, and give the same command again",
    errno.EFBIG: "raise the limit (ulimit -f), and give the same command again",
    errno.EMFILE: "raise the limit (ulimit -n), or use fewer --jobs",
    errno.ENFILE: "end other programs, or use fewer --jobs",
    errno.EIO: "the disk is at fault: use another, and give the same command again",
    errno.ESTALE: "its server has lost it: give the same command again",
}


def in_one_line(error: OSError) -> str:
    """`runs/a/journal.jsonl: no space left on device: free some space, and give the same command again`."""
    if error.errno is None or error.strerror is None:
        return " ".join(str(error).split()) or type(error).__name__
    what = error.strerror[:1].lower() + error.strerror[1:]
    parts = [*([str(error.filename)] if error.filename is not None else []), what]
    return ": ".join([*parts, *([REMEDIES[error.errno]] if error.errno in REMEDIES else [])])
