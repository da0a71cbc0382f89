"""BLORC's pictures (journal, Section 5.2, Tables 2 and 3; readings.md J.18 to J.21) and ours, denoiser by denoiser."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from bench.aligned import Column, Table
from bench.denoising.score import NOISY, Denoised, Score, best, mean_psnr
from reports import filters
from reports.filters import directions, has_direction
from reports.published import published_rows
from reports.rounding import ABSENT
from reports.study import Claim, Study, Verdict
from reports.tables import assignments

TABLE_2 = "blorc_table2_images_sigma38.csv"
PAPER = "BLORC (journal)"
OURS = {"BLORC": "patch_transform", "Analysis K-SVD": "analysis_ksvd", "BM3D": "bm3d", "noisy input": NOISY}
"""The paper's name of each method, and the key of ours."""
GREY = 255.0
FILES = ("files", "W_sha256")
FEWEST = 3
"""Pictures from which their spread says anything."""
UNNAMED = "the paper names none of its four test pictures (U.12)"


@dataclass(frozen=True)
class Difference:
    """Of two methods over the same pictures, seeds averaged: its mean and two standard errors, in dB."""

    mean: float
    bar: float
    pictures: int


def study(denoised: Denoised) -> Study:
    """Order and values of the paper's tables, beside ours."""
    scores = _representatives(best(denoised.scores))
    return Study(
        title="Pictures: learned transforms against BM3D and Analysis K-SVD",
        question=(
            "Is the stack of three learned transforms better than BM3D and Analysis K-SVD, and where? Each method's "
            "entry with the highest mean PSNR stands for it. Order: a method is better where the mean over pictures of "
            "its PSNR's difference, seeds averaged, is beyond two standard errors over the pictures; within them "
            f"these pictures cannot decide, as fewer than {FEWEST} never can."
        ),
        claims=(*_order(scores), *_arithmetic(), *_noisy(scores), *_values_of_table_3(scores), *_values_of_table_2()),
        tables=(_entries(scores), _orientations(denoised)),
        figures=(filters.figure(denoised.learned),),
    )


def _representatives(scores: list[Score]) -> list[Score]:
    """Of several entries of one key the one with the highest mean PSNR, at each sigma."""
    entries: dict[tuple[str, float], dict[str, list[Score]]] = {}
    for score in scores:
        entries.setdefault((score.key, score.sigma), {}).setdefault(score.label, []).append(score)
    return [score for labels in entries.values() for score in max(labels.values(), key=mean_psnr)]


def _order(scores: list[Score]) -> list[Claim]:
    claims = []
    for sigma, values in _table_3().items():
        for one, other in combinations(sorted(values.keys() - {"noisy input"}, key=lambda name: -values[name]), 2):
            gap = values[one] - values[other]
            published = f"{one} is above {other} by {gap:.2f} dB at sigma {sigma:g}"
            found = _difference(scores, OURS[one], OURS[other], sigma)
            judged = _judged(found) if found else (ABSENT, Verdict.NOT_MEASURED, _why_not(scores, (one, other), sigma))
            claims.append(Claim(f"{PAPER}, Table 3: order", published, *judged))
    return claims


def _why_not(scores: list[Score], methods: Sequence[str], sigma: float) -> str:
    """What each of them lacks."""
    said = []
    for method in methods:
        own = [score for score in scores if (score.key, score.sigma) == (OURS[method], sigma)]
        lost = [score for score in own if score.psnr_db is None]
        if not own:
            said.append(f"{method} is not in this run")
        elif lost:
            said.append(f"{method}: {len(lost)} of {len(own)} scores {lost[0].message or 'not taken yet'}")
    return "; ".join(said) or "the two were not given the same pictures"


def _judged(found: Difference) -> tuple[str, Verdict, str]:
    ours = f"by {found.mean:+.2f} ± {found.bar:.2f} dB on {found.pictures} pictures"
    if found.pictures < FEWEST:
        return ours, Verdict.NOT_TESTABLE, "too few pictures"
    if abs(found.mean) <= found.bar:
        return ours, Verdict.NOT_TESTABLE, "within two standard errors: these pictures cannot decide"
    verdict = Verdict.REPRODUCED if found.mean > 0 else Verdict.NOT_REPRODUCED
    return ours, verdict, "the same order on our pictures" if found.mean > 0 else "the other way round on our pictures"


def _difference(scores: list[Score], one: str, other: str, sigma: float) -> Difference | None:
    psnr = {key: _by_picture(scores, key, sigma) for key in (one, other)}
    if not psnr[one] or psnr[one].keys() != psnr[other].keys():
        return None
    gaps = [psnr[one][picture] - psnr[other][picture] for picture in psnr[one]]
    bar = 2 * statistics.stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else math.inf
    return Difference(statistics.fmean(gaps), bar, len(gaps))


def _by_picture(scores: list[Score], key: str, sigma: float) -> dict[str, float]:
    """The mean over the seeds; empty where one of them failed."""
    own = [score for score in scores if score.key == key and score.sigma == sigma]
    values: dict[str, list[float]] = {}
    for score in own:
        if score.psnr_db is None:
            return {}
        values.setdefault(score.picture, []).append(score.psnr_db)
    return {picture: statistics.fmean(of_seeds) for picture, of_seeds in values.items()}


def _table_3() -> dict[float, dict[str, float]]:
    found: dict[float, dict[str, float]] = {}
    for row in published_rows("blorc_table3_denoising.csv"):
        found.setdefault(float(row["noise_sigma_of_255"]), {})[row["method"]] = float(row["psnr_db"])
    return found


def _arithmetic() -> list[Claim]:
    """Whether Table 3 is the mean of Table 2 (X.12)."""
    claims = []
    table_2 = published_rows(TABLE_2)
    for method in dict.fromkeys(row["method"] for row in table_2):
        rows = [row for row in table_2 if row["method"] == method]
        sigma = float(rows[0]["noise_sigma_of_255"])
        printed, mean = _table_3()[sigma][method], statistics.fmean(float(row["psnr_db"]) for row in rows)
        agrees = abs(printed - mean) <= 0.01  # half a unit of either table's last digit
        claims.append(
            Claim(
                f"{PAPER}, Table 3 against Table 2",
                f"{method} has {printed:.2f} dB at sigma {sigma:g}",
                f"the mean of Table 2's {len(rows)} values is {mean:.4f} dB",
                Verdict.REPRODUCED if agrees else Verdict.NOT_REPRODUCED,
                "arithmetic on the printed numbers, equal to their rounding" if agrees else "readings.md X.12",
            )
        )
    return claims


def _noisy(scores: list[Score]) -> list[Claim]:
    """That of the noise alone does not depend on the picture (X.13)."""
    claims = []
    for sigma, values in _table_3().items():
        found = _by_picture(scores, NOISY, sigma)
        published = f"the noisy input has {values['noisy input']:g} dB at sigma {sigma:g}"
        if not found:
            why = _why_not(scores, ("noisy input",), sigma)
            claims.append(Claim(f"{PAPER}, Table 3", published, ABSENT, Verdict.NOT_MEASURED, why))
            continue
        ours, expected = statistics.fmean(found.values()), 20 * math.log10(GREY / sigma)
        near = abs(ours - values["noisy input"]) <= 0.5
        why = f"20 log10(255/sigma) is {expected:.2f} dB, 10 log10(255/sigma) is {expected / 2:.2f} dB (X.13)"
        claims.append(
            Claim(
                f"{PAPER}, Table 3",
                published,
                f"{ours:.2f} dB",
                Verdict.REPRODUCED if near else Verdict.NOT_REPRODUCED,
                why,
            )
        )
    return claims


def _values_of_table_3(scores: list[Score]) -> list[Claim]:
    claims = []
    for sigma, values in _table_3().items():
        for method in values.keys() - {"noisy input"}:
            found = _by_picture(scores, OURS[method], sigma)
            ours = f"{statistics.fmean(found.values()):.2f} dB on {len(found)} other pictures" if found else ABSENT
            published = f"{method} has a mean of {values[method]:.2f} dB at sigma {sigma:g}"
            claims.append(Claim(f"{PAPER}, Table 3", published, ours, Verdict.NOT_TESTABLE, UNNAMED))
    return sorted(claims, key=lambda claim: claim.published)


def _values_of_table_2() -> list[Claim]:
    return [
        Claim(
            f"{PAPER}, Table 2",
            f"{row['method']} has {row['psnr_db']} dB on {row['image']} at sigma {float(row['noise_sigma_of_255']):g}",
            ABSENT,
            Verdict.NOT_TESTABLE,
            UNNAMED,
        )
        for row in published_rows(TABLE_2)
    ]


def _entries(scores: list[Score]) -> Table:
    """What stands for each of the paper's methods, with all that it could have been given more of."""
    columns = tuple(Column(title, numeric=False) for title in ("method", "sigma", "entry", "parameters"))
    rows = []
    for method, key in OURS.items():
        for sigma in dict.fromkeys(score.sigma for score in scores):
            own = next((score for score in scores if (score.key, score.sigma) == (key, sigma)), None)
            if own is not None and own.parameters:
                shown = {name: value for name, value in own.parameters.items() if name not in FILES}
                rows.append((method, f"{sigma:g}", own.label, assignments(shown)))
    return Table("What stands for each method", columns, tuple(rows), ())


def _orientations(denoised: Denoised) -> Table:
    """How many filters of each W lie in each of four directions (Figure 5 shows oriented ones)."""
    titles = ("filters that count", "with a direction", "along rows", "falling", "down columns", "rising")
    columns = (Column("W", numeric=False), *(Column(title) for title in titles))
    rows = []
    for learned in denoised.learned:
        found = directions(learned.W)
        sectors = [0, 0, 0, 0]
        for each in filter(has_direction, found):
            sectors[round(each.degrees / 45.0) % 4] += 1
        rows.append((learned.name, *map(str, (len(found), sum(sectors), *sectors))))
    note = f"The direction is that in which a filter varies most: its lines are at right angles to it. {filters.RULE}"
    return Table("Directions of the filters", columns, tuple(rows), (note,))
