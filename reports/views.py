"""The figures of a report's views: profiles, phases, spread, knobs, sizes, devices, precisions, maps and references."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from reports import (
    device_dtype_figure,
    gradient_maps,
    gradient_maps_figure,
    phases_figure,
    profiles_figure,
    reference_quality,
    reference_quality_figure,
    scaling_figure,
    spread_figure,
    work_precision_figure,
)
from reports.content import Content
from reports.crossovers import crossovers
from reports.device_dtype import TITLES as PAIR_TITLES
from reports.device_dtype import grouped
from reports.device_dtype import remarks as said_of_pairs
from reports.phases import REMARKS as PHASES_REMARKS
from reports.phases import breakdowns
from reports.profiles import TITLES as PROFILE_TITLES
from reports.profiles import Profile, profile, rosters
from reports.profiles import remarks as said_of_profiles
from reports.rows import Panel, pages
from reports.scaling import all_series
from reports.spread import REMARKS as SPREAD_REMARKS
from reports.spread import Suites
from reports.style import Look
from reports.work_precision import REMARKS as WORK_PRECISION_REMARKS
from reports.work_precision import panels

MOST_ROSTERS = 3
MOST_PANELS = 3
MOST_PANEL_ROWS = 150
"""Of a panel on paper: more are no longer read, and take a minute to draw."""


@dataclass(frozen=True)
class View:
    """A drawn figure: the files' name without suffix, what it shows, how to read it."""

    stem: str
    title: str
    remarks: str
    figure: Figure


def views(content: Content, look: Look) -> Iterator[View]:
    """Those that the runs have something for, one after the other, as each is large."""
    yield from _work_precision(content, look)
    yield from _profiles(content, look)
    yield from _phases(content, look)
    yield from _spread(content, look)
    yield from _sizes(content, look)
    yield from _pairs(content, look)
    if (maps := gradient_maps.gradient_maps(content)) is not None:
        said = gradient_maps.remarks(maps)
        yield View("gradient_maps", gradient_maps.title(maps), said, gradient_maps_figure.draw(maps))
    if (quality := reference_quality.reference_quality(content)) is not None:
        said, figure = reference_quality.remarks(quality), reference_quality_figure.draw(quality)
        yield View("reference_quality", reference_quality.TITLE, said, figure)


def _work_precision(content: Content, look: Look) -> Iterator[View]:
    found = panels(content.groups)
    for number, shown in enumerate(_parts(found, MOST_PANELS), 1):
        figure = work_precision_figure.draw(shown, look)
        stem = _numbered("work_precision", number, len(found) > MOST_PANELS)
        yield View(stem, "Work-precision: error against time over each method's knob.", WORK_PRECISION_REMARKS, figure)


def _profiles(content: Content, look: Look) -> Iterator[View]:
    found = rosters(content.groups)
    for quantity in PROFILE_TITLES:
        profiles = [own for roster in found if (own := profile(roster, quantity))]
        if profiles:
            shown = profiles[:MOST_ROSTERS]
            figure = profiles_figure.draw(shown, look)
            said = " ".join([said_of_profiles(shown), *_left_out(len(profiles) - len(shown), shown)])
            yield View(f"profile_{quantity}", f"{PROFILE_TITLES[quantity]}.", said, figure)


def _left_out(smaller: int, shown: Sequence[Profile]) -> Iterator[str]:
    if variants := profiles_figure.left_out(shown):
        yield f"Of each method the variant that solved most is drawn, then the cheapest; {variants} others are not."
    if smaller:
        yield f"Smaller sets of instances with other methods, not drawn: {smaller}."


def _phases(content: Content, look: Look) -> Iterator[View]:
    found = [Panel(group, tuple(cells)) for group in content.groups if (cells := breakdowns(group))]
    divided, left = _readable(found)
    for number, page in enumerate(divided, 1):
        stem = _numbered("phases", number, len(divided) > 1)
        said = f"{PHASES_REMARKS}{left}"
        yield View(stem, "Where the time goes: solve, gradient, prepare.", said, phases_figure.draw(page, look))


def _spread(content: Content, look: Look) -> Iterator[View]:
    suites = Suites.of(content.runs)
    found = [Panel(group, tuple(cells)) for group in content.groups if (cells := suites.samples(group, "total"))]
    divided, left = _readable(found)
    for number, page in enumerate(divided, 1):
        stem = _numbered("spread", number, len(divided) > 1)
        yield View(stem, "The values behind each median.", f"{SPREAD_REMARKS}{left}", spread_figure.draw(page, look))


def _sizes(content: Content, look: Look) -> Iterator[View]:
    series = all_series(content.groups)
    crossed = crossovers(series)
    titles: dict[scaling_figure.Quantity, tuple[str, str]] = {
        "time": ("Time of solve and gradient against n.", "Rings: crossovers, as in the table. "),
        "memory": ("Peak memory against n.", "Bars: the 40 kB that are resolved; smaller peaks stand there. "),
    }
    for quantity, (title, said) in titles.items():
        figure = scaling_figure.draw(series, quantity, crossed, look)
        if figure is not None:
            remarks = f"{said if crossed or quantity == 'memory' else ''}Exponents are in the table."
            yield View(f"{quantity}_against_size", title, remarks, figure)


def _pairs(content: Content, look: Look) -> Iterator[View]:
    for axis, title in PAIR_TITLES.items():
        divided = pages(grouped(content.groups, axis))
        for number, page in enumerate(divided, 1):
            stem = _numbered(f"{axis}_pairs", number, len(divided) > 1)
            yield View(stem, f"{title}.", said_of_pairs(axis), device_dtype_figure.draw(page, look))


def _readable(found: Sequence[Panel]) -> tuple[list[list[Panel]], str]:
    """The pages of the panels that a page on paper has room for, and what is said of the others."""
    small = [panel for panel in found if len(panel.rows) <= MOST_PANEL_ROWS]
    left = len(found) - len(small)
    words = f" Instances with more than {MOST_PANEL_ROWS} rows, drawn on the page alone: {left}." if left else ""
    return pages(small), words


def _parts(found: Sequence, most: int) -> Iterator[Sequence]:
    for start in range(0, len(found), most):
        yield found[start : start + most]


def _numbered(stem: str, number: int, several: bool) -> str:
    return f"{stem}_{number}" if several else stem
