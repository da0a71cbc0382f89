"""The records as data: one row each, every field unrounded, the run folder first."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from bench.record import to_frame
from bench.whole_file import whole, write_whole
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


def write_frame(frame: pd.DataFrame, folder: Path, stem: str) -> list[Path]:
    """CSV for a spreadsheet too, where a text that it would read as a formula has an apostrophe before it; Parquet with
    types, and text as it was recorded."""
    csv, parquet = folder / f"{stem}.csv", folder / f"{stem}.parquet"
    with whole(parquet) as file:
        frame.to_parquet(file, index=False)
    inert = {name: frame[name].map(_inert) for name in frame.columns if not is_numeric_dtype(frame[name])}
    write_whole(csv, frame.assign(**inert).to_csv(index=False))
    return [csv, parquet]


def _inert(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value
