"""Peak memory of one call against n, with the fitted exponent of each method."""

from __future__ import annotations

from reports.cells import MEBIBYTE, RESOLUTION_BYTES
from reports.content import Content
from reports.plots import _scaling
from reports.plots.theme import Plot
from reports.scaling import peak_bytes
from reports.style import Look

ORDER = 42


def plot(content: Content, look: Look) -> Plot | None:
    """None with fewer than three sizes."""
    return _scaling.plot(
        content,
        look,
        stem="memory_against_size",
        title="Peak memory against n",
        axis=("peak memory", "MiB"),
        point=lambda record: (peak_bytes(record), RESOLUTION_BYTES),
        unit=MEBIBYTE,
        exponent=lambda series: series.memory_exponent,
        marks=lambda shown: [],
        remarks="Bars: the 40 kB that the measurement resolves.",
    )
