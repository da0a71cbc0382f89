"""BLORC's striped pictures (journal, Section 5.2, Figure 4; readings.md J.17): the filters that are learned on them."""

from __future__ import annotations

import math
import statistics

import numpy as np

from bench.aligned import Column, Table
from bench.denoising.score import Denoised
from reports import filters
from reports.filters import Transform, directions, has_direction, is_near
from reports.rounding import ABSENT
from reports.study import Claim, Study, Verdict

SOURCE = "BLORC (journal), Section 5.2 and Figure 4"
PUBLISHED = "trained on a picture of {kind} stripes, the filters are at right angles to the stripes"
ACROSS = {"stripes_vertical": (0, 1), "stripes_diagonal": (1, 1)}
"""By how far a row and a column lead across the stripes, by the names of problems/images.py."""
ALONG_DEGREES = {"stripes_vertical": 90.0, "stripes_diagonal": 135.0}
"""The direction of the stripes themselves: a filter whose lines are at right angles to the stripes varies along it."""
ORTHOGONAL = 0.25
"""Of the share of a filter without preference."""


def study(denoised: Denoised) -> Study:
    """Two readings of the sentence, for each of the two pictures."""
    learned = {each.picture: each.W for each in denoised.learned if each.picture in ACROSS}
    claims = [claim(picture, learned.get(picture)) for claim in (_lines, _vectors) for picture in ACROSS]
    return Study(
        title="Filters of striped pictures",
        question=(
            "Which way do the filters lie that Algorithm 4.1's gradients learn on patches of striped pictures? 256 x "
            "256 pixels, 8 x 8 patches at a stride of 7, sigma = 0.1; stripes of 5 pixels, black and white, are ours, "
            "as are the optimiser and the number of epochs (the paper gives none of these, U.11). Read as lines that "
            "one sees in a filter, or as vectors: the share of a filter's squared norm that lies in the patches which "
            "are constant along the stripes, 0 for a filter that is orthogonal to all of them. " + filters.RULE
        ),
        claims=tuple(claims),
        tables=(_table(learned),),
        figures=(filters.figure(denoised.learned),),
    )


def _lines(picture: str, W: Transform | None) -> Claim:
    published = f"{_published(picture)}: seen as lines"
    if W is None:
        return _not_measured(picture, published)
    found, along = directions(W), ALONG_DEGREES[picture]
    at_right_angles = sum(is_near(each, along) for each in found)
    parallel = sum(is_near(each, along + 90.0) for each in found)
    ours = f"of {len(found)} filters {at_right_angles} lie at right angles to the stripes, {parallel} along them"
    verdict = Verdict.REPRODUCED if 2 * at_right_angles > len(found) else Verdict.NOT_REPRODUCED
    return Claim(SOURCE, published, ours, verdict, "more than half of the filters that count must")


def _vectors(picture: str, W: Transform | None) -> Claim:
    published = f"{_published(picture)}: as vectors"
    if W is None:
        return _not_measured(picture, published)
    shares, chance = striped_shares(W, picture), chance_share(W, picture)
    median = statistics.median(shares)
    ours = f"median share {median:.1%}, where a filter without preference has {chance:.1%}"
    verdict = Verdict.REPRODUCED if median <= ORTHOGONAL * chance else Verdict.NOT_REPRODUCED
    return Claim(SOURCE, published, ours, verdict, "at most a quarter of that of a filter without preference")


def _published(picture: str) -> str:
    return PUBLISHED.format(kind=picture.removeprefix("stripes_"))


def _not_measured(picture: str, published: str) -> Claim:
    return Claim(SOURCE, published, ABSENT, Verdict.NOT_MEASURED, f"no W of this run was learned on {picture}")


def striped_shares(W: Transform, picture: str) -> list[float]:
    """Of the squared norm of each row that counts: what its projection on patches constant along the stripes has."""
    stripes, sizes = _stripes(W, picture)
    sums = np.stack([np.bincount(stripes, row) for row in W])
    norms = (W**2).sum(1)
    counted = (norms > 0) & (norms >= filters.NEGLIGIBLE**2 * norms.max())
    return [float(share) for share in ((sums**2 / sizes).sum(1)[counted] / norms[counted])]


def chance_share(W: Transform, picture: str) -> float:
    """Of a random row: the dimension of those patches, of all."""
    return len(_stripes(W, picture)[1]) / W.shape[1]


def _stripes(W: Transform, picture: str) -> tuple[np.ndarray, np.ndarray]:
    """The number of the line along the stripes that each pixel of a patch is on, and how many pixels each has."""
    down, along = ACROSS[picture]
    row, column = np.indices((math.isqrt(W.shape[1]),) * 2)
    lines = (down * row + along * column).ravel()
    return lines, np.bincount(lines)


def _table(learned: dict[str, Transform]) -> Table:
    titles = ("filters that count", "with a direction", "at right angles to the stripes", "along the stripes", "else")
    columns = (Column("learned on", numeric=False), *(Column(title) for title in titles), Column("share", "median"))
    rows = []
    for picture, W in learned.items():
        own, along = directions(W), ALONG_DEGREES[picture]
        across, parallel = (sum(is_near(each, angle) for each in own) for angle in (along, along + 90.0))
        directed = sum(map(has_direction, own))
        share = f"{statistics.median(striped_shares(W, picture)):.1%}"
        counts = (len(own), directed, across, parallel, directed - across - parallel)
        rows.append((picture, *map(str, counts), share))
    return Table("Directions of the filters", columns, tuple(rows), ())
