"""The curves of trainings for the page: loss against epochs and against seconds, PSNR against epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import plotly.graph_objects as go

from bench.learning.curves import Point
from reports.log_axis import limits
from reports.plots import theme
from reports.plots.theme import Plot
from reports.trainings import Group, seed_of
from reports.trainings_table import NAMES

WIDTHS = {"validation pairs": 2.2, "training pairs": 0.9}

Coordinate = Callable[[Point], float | None]


def plots(groups: Sequence[Group], beside: tuple[str, float] | None) -> list[Plot]:
    """Those of the three that have a value; `beside` is a denoiser's name and its PSNR."""
    loss = ("mean loss of a pair", "", lambda point: point.validation_loss, lambda point: point.training_loss)
    psnr = ("PSNR", "dB", lambda point: point.validation_psnr_db, lambda point: point.training_psnr_db)
    grey = f"Dashed, grey: {NAMES.get(beside[0], beside[0])}, on test signals." if beside else ""
    seconds = "Seconds of work on the training, its validation included."
    drawn = [
        ("loss-epochs", "Loss against epochs", "", _curves(groups, "epochs", "", _epoch, *loss)),
        ("loss-seconds", "Loss against seconds", seconds, _curves(groups, "time", "s", _seconds, *loss)),
        ("psnr-epochs", "PSNR against epochs", grey, _curves(groups, "epochs", "", _epoch, *psnr, beside)),
    ]
    return [Plot(stem, title, remarks, figure) for stem, title, remarks, figure in drawn if figure is not None]


def _epoch(point: Point) -> float:
    return point.epoch


def _seconds(point: Point) -> float:
    return point.seconds


def _curves(
    groups: Sequence[Group],
    x_title: str,
    x_unit: str,
    x: Coordinate,
    y_title: str,
    y_unit: str,
    validation: Coordinate,
    training: Coordinate,
    beside: tuple[str, float] | None = None,
) -> go.Figure | None:
    figure = theme.new_figure()
    xs: list[float] = []
    ys: list[float] = []
    for number, group in enumerate(groups):
        entry = True
        for one in group.trainings:
            axes = f"%{{y:.4g}} {y_unit}<br>{x_title}: %{{x:.4g}} {x_unit}<extra></extra>"
            words = theme.escape(", seed ".join(filter(None, (group.label, seed_of(one.outcome.settings)))))
            for (what, width), y in zip(WIDTHS.items(), (validation, training), strict=True):
                known = [(a, b) for point in one.points if (a := x(point)) and (b := y(point)) is not None]
                if not known:
                    continue
                xs += [a for a, _ in known]
                ys += [b for _, b in known]
                figure.add_scatter(
                    x=[a for a, _ in known],
                    y=[b for _, b in known],
                    mode="lines" if len(known) > 1 else "markers",
                    name=theme.name(group.label),
                    legendgroup=str(number),
                    showlegend=entry,
                    line={**theme.numbered(number), "width": width},
                    marker={"color": theme.numbered(number)["color"], "size": 3 * width},
                    hovertemplate=f"{words}<br>{what}: {axes}",
                )
                entry = False
    if not xs:
        return None
    for what, width in WIDTHS.items():
        figure.add_trace(theme.key(what, mode="lines", line={"color": theme.NEUTRAL, "width": width}))
    if beside is not None:
        figure.add_hline(y=beside[1], line={"color": theme.NEUTRAL, "width": 1.5, "dash": "dash"})
        figure.add_trace(
            theme.key(
                theme.name(NAMES.get(beside[0], beside[0])),
                mode="lines",
                line={"color": theme.NEUTRAL, "width": 1.5, "dash": "dash"},
            )
        )
    figure.update_xaxes(theme.log_axis(x_title, x_unit, *limits(xs)))
    positive = not y_unit and all(value > 0 for value in ys)  # a PSNR is a logarithm already
    figure.update_yaxes(theme.log_axis(y_title, y_unit, *limits(ys)) if positive else theme.axis(y_title, y_unit))
    return figure
