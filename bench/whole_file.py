"""A file that is there as a whole or not at all, whenever its writer is killed and whatever the disk has left.

Everything that takes the place of a file is written through here: beside it, under a name that no other process uses,
onto the disk, and only then renamed. What a failure leaves behind is removed.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

PART = ".part"
"""How the names of files end that are not whole yet."""
CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP)
"""What file systems say that keep no order of their folders' entries."""


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """The new file, to be written; when the block ends well it is on the disk, in place of what was there before.

    A link stays one: what it leads to is replaced. What is no file, such as `/dev/stdout`, is written into. Raises
    OSError, which names the path.
    """
    with naming(path):
        if _is_no_file(path):
            with open(path, "wb") as file:
                yield file
            return
        target = Path(os.path.realpath(path))
        partial = _beside(target)
        try:
            with open(partial, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise
        _sync(target.parent)


def write_whole(path: Path, text: str) -> None:
    """In place of what was there before; a reader sees the one or the other. Raises OSError."""
    with whole(path) as file:
        file.write(text.encode())


def copy_whole(source: Path, path: Path) -> None:
    """The same for a copy of a file. Raises OSError."""
    with open(source, "rb") as original, whole(path) as file:
        shutil.copyfileobj(original, file)


def make_folder(folder: Path) -> None:
    """With those above it, where they are not there yet. Raises OSError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        error.filename = str(folder)
        raise


def try_file(path: Path) -> None:
    """Raises the OSError that writing this file would raise; changes nothing."""
    with naming(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if _is_no_file(path):
            return
        partial = _beside(Path(os.path.realpath(path)))
        open(partial, "xb").close()
        partial.unlink()


def try_folder(folder: Path) -> None:
    """Raises the OSError that writing into this folder, made where it is not there, would raise; changes nothing."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        make_folder(folder)
        try_file(folder / "trial")
    finally:
        for one in missing:
            with suppress(OSError):
                one.rmdir()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError that comes out of the block says which file it was, by the name that it has in the end."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and (error.filename is None or str(error.filename).endswith(PART)):
            error.filename = str(path)
        raise


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.urandom(4).hex()}{PART}")


def _is_no_file(path: Path) -> bool:
    """A terminal, a pipe, or a name such as /dev/stdout, which only stands for another: there is nothing to rename."""
    if not path.exists():
        return False
    above = path.absolute().parent
    return not stat.S_ISREG(path.stat().st_mode) or above == Path("/dev") or above.parts[1:2] == ("proc",)


def _sync(folder: Path) -> None:
    """Without it a loss of power may undo the renaming."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)
