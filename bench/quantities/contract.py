"""A quantity: named numbers that a study needs of a call of a method, and that no other field of the record holds.

A quantity is one file with one class, found by the file's name: `[measure] quantities = ["solution_error"]`. It is
measured in a process of its own, after all timings, so that its cost falls on nothing else.
"""

from __future__ import annotations

import abc

from methods.contract import Method, Prepared, Solution
from problems.contract import Problem, Theta


class Quantity(abc.ABC):
    """Numbers of one call; the record holds their medians over the calls of the cell."""

    @abc.abstractmethod
    def of(
        self, problem: Problem, method: Method, prepared: Prepared, theta: Theta, solution: Solution
    ) -> dict[str, float]:
        """Each number by its name, which says its unit; one that does not exist for this call is left out.

        `problem` is the call's pairs as the method had them, `solution` what `method.solve` returned. Neither may be
        changed. Raises ValueError, saying what would be right, where the quantity has no meaning for this problem.
        """
