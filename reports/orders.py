"""Orders of growth as the papers print them: `O(T*N + N^3)`."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

FACTOR = re.compile(r"(?P<letter>[A-Za-z]\w*)(?:\^(?P<power>\d+))?")


@dataclass(frozen=True)
class Order:
    """A sum of products of powers; each term maps a letter to its power. No term at all is 0, an empty one is 1."""

    terms: tuple[dict[str, int], ...]

    @classmethod
    def parse(cls, text: str) -> Order:
        """Of `O(T*N + N^3)`, `N*R`, `1` or `0`. Raises ValueError."""
        inside = re.sub(r"^O\((.*)\)$", r"\1", text.strip())
        return cls(tuple(_term(term, text) for term in inside.split("+") if term.strip() != "0"))

    def __add__(self, other: Order) -> Order:
        return Order(self.terms + other.terms)

    def __mul__(self, other: Order) -> Order:
        return Order(tuple(dict(Counter(one) + Counter(two)) for one in self.terms for two in other.terms))

    def exponent(self, letter: str) -> int:
        """p of the growth ~ letter^p where all other letters are fixed: the largest power in a term."""
        return max((term.get(letter, 0) for term in self.terms), default=0)


def _term(term: str, text: str) -> dict[str, int]:
    powers: Counter[str] = Counter()
    for factor in (factor.strip() for factor in term.split("*")):
        if factor == "1":
            continue
        match = FACTOR.fullmatch(factor)
        if match is None:
            raise ValueError(f"order '{text}': '{factor}' is no power of a letter: write N, N^3 or 1")
        powers[match["letter"]] += int(match["power"] or 1)
    return dict(powers)
