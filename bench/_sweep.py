"""The differences that one slope was read off, step by step: what a reader needs to judge the plateau by eye."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Sweep:
    """Of L along one direction d; theta is moved by h d, and h falls. All but `plateau` in that order of the steps."""

    steps: tuple[float, ...]
    """h; those at which the pattern holds and the equations are solved to the certificate."""
    differences: tuple[float, ...]
    """Quotients, before any extrapolation."""
    extrapolated: tuple[float | None, ...]
    """From this step and those before it; None for the first, which have too few before them."""
    rounding: tuple[float, ...]
    """What rounding may have changed the quotient by."""
    plateau: tuple[float, float] | None
    """The largest and the smallest step whose extrapolated values agree; None where there are too few that do."""
    value: float
    bar: float
    """Infinite where there is no plateau."""

    @classmethod
    def of(
        cls,
        steps: Float[np.ndarray, " s"],
        differences: Float[np.ndarray, " s"],
        extrapolated: Float[np.ndarray, " s"],
        rounding: Float[np.ndarray, " s"],
        window: slice,
        value: float,
        bar: float,
    ) -> Self:
        """Steps that were not used are NaN in `differences`; `window` is the plateau's, and counts them."""
        plateau = (float(steps[window][0]), float(steps[window][-1])) if np.isfinite(bar) else None
        used = np.isfinite(differences)
        found = [None if np.isnan(entry) else float(entry) for entry in extrapolated[used]]
        h, quotients, roundings = (tuple(part[used].tolist()) for part in (steps, differences, rounding))
        return cls(h, quotients, tuple(found), roundings, plateau, value, bar)

    def to_json(self) -> dict[str, Any]:
        """For a file; it must have a plateau."""
        return asdict(self)

    @classmethod
    def from_json(cls, given: dict[str, Any]) -> Self:
        """Back again."""
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
        }
        return cls(**fields)
