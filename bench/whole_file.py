"""A file that is there as a whole or not at all, whenever its writer is killed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """In place of what was there before; a reader sees the one or the other."""
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def copy_whole(source: Path, path: Path) -> None:
    """The same for a copy of a file."""
    partial = path.with_name(f"{path.name}.part")
    shutil.copyfile(source, partial)
    os.replace(partial, path)
