"""The records as data: one row each, every field unrounded, the run folder first."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from bench.record import to_frame
from reports.content import Content

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def records_frame(content: Content) -> pd.DataFrame:
    """Of all runs, one under the other."""
    frames = []
    for run in content.runs:
        frame = to_frame(run.records)
        frame.insert(0, "run", str(run.folder))
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def write_parquet(content: Content, path: Path) -> Path:
    """With types; text as it was recorded."""
    records_frame(content).to_parquet(path, index=False)
    return path


def write_csv(content: Content, path: Path) -> Path:
    """For a spreadsheet too: a text that it would read as a formula has an apostrophe before it."""
    frame = records_frame(content)
    for name in frame.columns:
        if not is_numeric_dtype(frame[name]):
            frame[name] = frame[name].map(_inert)
    frame.to_csv(path, index=False)
    return path


def _inert(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value
