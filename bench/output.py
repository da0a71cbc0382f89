"""What a cell's processes printed, tracebacks included: what is kept in `output/CELL.txt`, the end in the record.

Of each process the supervisor keeps the last 64 KiB, whatever wrote it: Python, C, or another program. No escape
sequence of a terminal comes through.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence
from pathlib import Path

from bench.record import OUTPUT_CHARACTERS, OUTPUT_LINES
from bench.whole_file import make_folder, write_whole

FOLDER = "output"
MOST_CHARACTERS = 2**16
"""Of a traceback; of one of its entries, which may hold an array's text, a tenth."""
ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)?|\x1b[@-Z\\^_]")
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def plain(text: str) -> str:
    """Without what a terminal would obey, or a file could not hold; a line that was overwritten is one of its own."""
    text = ESCAPES.sub("", text.replace("\r\n", "\n")).replace("\r", "\n")
    return CONTROLS.sub("", text).encode("utf-8", "backslashreplace").decode()


def tail(text: str) -> str | None:
    """The last OUTPUT_LINES lines, of the last OUTPUT_CHARACTERS characters; None where nothing is said."""
    lines = [line.rstrip() for line in plain(text).strip().split("\n")]
    return "\n".join(lines[-OUTPUT_LINES:])[-OUTPUT_CHARACTERS:].strip() or None


def said(error: BaseException) -> str:
    """`KeyError: 'W'`: its type and its text on one line, whatever that text does when it is asked for."""
    try:
        text = str(error)
    except BaseException as another:
        text = f"its text cannot be had: {type(another).__name__}"
    return " ".join(plain(f"{type(error).__name__}: {text}").split())


def traceback_of(error: BaseException) -> str:
    """As Python prints it, an entry that is too long cut, the end kept."""
    most = MOST_CHARACTERS // 10
    entries = traceback.TracebackException.from_exception(error, compact=True).format()
    cut = (entry if len(entry) <= most else f"{entry[:most]} [...]\n" for entry in entries)
    return "".join(cut)[-MOST_CHARACTERS:]


def file_of(cell_id: str) -> Path:
    """In the run's folder."""
    return Path(FOLDER, f"{cell_id}.txt")


def keep(run: Path, cell_id: str, printed: Sequence[tuple[str, str]]) -> str | None:
    """Writes what the processes of a cell printed, each named by its role; returns the end.

    Where none has said anything there is no file.
    """
    texts = [(role, plain(text).strip("\n")) for role, text in printed if tail(text) is not None]
    path = run / file_of(cell_id)
    if not texts:
        path.unlink(missing_ok=True)
        return None
    make_folder(path.parent)
    write_whole(path, "\n".join(f"--- {role} ---\n{text}\n" for role, text in texts))
    return tail("\n".join(text for _, text in texts))


def read(run: Path, cell_id: str) -> str:
    """What `keep` wrote; empty where it wrote nothing."""
    path = run / file_of(cell_id)
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
