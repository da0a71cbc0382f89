"""How far the slope of a least-squares line is known: what every fitted exponent and rate rests on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import stats

CONFIDENCE = 0.95


def slope(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Of the line through three points or more, and half of its 95 % interval."""
    fit = stats.linregress([x for x, _ in points], [y for _, y in points])
    quantile = stats.t.ppf(0.5 + CONFIDENCE / 2, len(points) - 2)
    stderr = fit.stderr if math.isfinite(fit.stderr) else 0.0  # scipy divides zero by zero for equal ys
    return float(fit.slope), float(quantile * stderr)
