"""Standard output and standard error whose reader may go away, as `| head` does: a command goes on to its end."""

from __future__ import annotations

import io
import os
from typing import TextIO


class _Descriptor(io.FileIO):
    """What can no longer be written is dropped: without a word where nobody reads, with its OSError where it is lost.

    After the first such write the descriptor leads nowhere, so that neither later ones nor Python's own last flush
    fail again.
    """

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if isinstance(error, BrokenPipeError):
                return memoryview(data).nbytes  # type: ignore[arg-type]
            error.filename = {1: "standard output", 2: "standard error"}.get(self.fileno())
            raise


def heard_or_not(stream: TextIO) -> TextIO:
    """The same stream as before in every other respect."""
    if not isinstance(stream, io.TextIOWrapper):  # closed by whoever started this process, or replaced
        return stream
    stream.flush()
    raw = _Descriptor(stream.fileno(), "wb", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
