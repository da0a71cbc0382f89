"""A module with one kernel, which compiles in a moment."""

from numba import float64, njit


@njit(nogil=True)
def twice(x):
    return 2.0 * x


SIGNATURES = {"twice": (float64,)}
