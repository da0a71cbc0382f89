"""The scores as plots of the page: picture by picture, and what a decibel costs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import plotly.graph_objects as go

from bench.denoising.score import NOISY, Denoised, Score, best
from reports.denoised import labelled
from reports.log_axis import limits
from reports.plots import theme
from reports.plots.theme import Plot

PIXELS_EACH = 34
"""Of height, for each picture."""
SYMBOLS = tuple(theme.SYMBOLS.values())

Measure = Callable[[Score], float | None]


def plots(denoised: Denoised) -> list[Plot]:
    """Those that have a point; the choice among several sigma is the page's."""
    chosen = best(denoised.scores)
    by_sigma = {
        f"sigma = {sigma:g} of 255": [score for score in chosen if score.sigma == sigma]
        for sigma in dict.fromkeys(score.sigma for score in chosen)
    }
    read = "Mean over the seeds, bars: their standard deviation."
    drawn = [
        ("psnr-pictures", "PSNR by picture", read, _by_picture, "PSNR", "dB", lambda score: score.psnr_db),
        ("ssim-pictures", "SSIM by picture", read, _by_picture, "SSIM", "", lambda score: score.ssim),
    ]
    found = []
    for stem, title, remarks, draw, axis, unit, measure in drawn:
        figures = {name: figure for name, own in by_sigma.items() if (figure := draw(own, axis, unit, measure))}
        if figures:
            found.append(Plot(stem, title, remarks, figures))
    costs = {name: figure for name, own in by_sigma.items() if (figure := _cost(own))}
    if costs:
        remarks = "Gained over the noisy input: means over pictures and seeds, of denoisers that did them all."
        found.append(Plot("gain-seconds", "PSNR gained against time", remarks, costs))
    return found


def _marker(number: int, key: str) -> dict[str, object]:
    if key == NOISY:
        return theme.grey("x-thin", line={"width": 2, "color": theme.NEUTRAL})
    colour = theme.numbered(number)["color"]
    return {"color": colour, "symbol": SYMBOLS[number % len(SYMBOLS)], "size": theme.MARKER_PIXELS}


def _by_picture(scores: Sequence[Score], title: str, unit: str, measure: Measure) -> go.Figure | None:
    pictures = list(dict.fromkeys(score.picture for score in scores))
    figure = theme.new_figure(max(theme.HEIGHT, 150 + PIXELS_EACH * len(pictures)))
    for number, (label, own) in enumerate(labelled(scores).items()):
        values = {
            picture: [value for score in own if score.picture == picture and (value := measure(score)) is not None]
            for picture in pictures
        }
        known = [picture for picture in pictures if values[picture]]
        if not known:
            continue
        figure.add_scatter(
            x=[statistics.fmean(values[picture]) for picture in known],
            y=[theme.escape(picture) for picture in known],
            error_x={
                "type": "data",
                "array": [statistics.stdev(values[p]) if len(values[p]) > 1 else 0.0 for p in known],
                "thickness": 1.2,
                "width": 3,
            },
            mode="markers",
            name=theme.name(label),
            marker=_marker(number, own[0].key),
            hovertemplate=f"{theme.escape(label)}<br>%{{y}}: %{{x:.4g}} {unit}<extra></extra>",
        )
    if not figure.data:
        return None
    figure.update_xaxes(theme.axis(title, unit))
    names = [theme.escape(picture) for picture in reversed(pictures)]
    figure.update_yaxes(
        theme.axis("picture", type="category", categoryorder="array", categoryarray=names, showgrid=True)
    )
    return figure


def _cost(scores: Sequence[Score]) -> go.Figure | None:
    noisy = {(score.picture, score.seed): score.psnr_db for score in scores if score.key == NOISY}
    figure, seconds = theme.new_figure(), []
    for number, (label, own) in enumerate(labelled(scores).items()):
        gains = [
            score.psnr_db - before
            for score in own
            if score.psnr_db is not None and (before := noisy.get((score.picture, score.seed))) is not None
        ]
        time = statistics.fmean(score.seconds for score in own)
        if own[0].key == NOISY or len(gains) < len(own) or time <= 0:
            continue
        seconds.append(time)
        figure.add_scatter(
            x=[time],
            y=[statistics.fmean(gains)],
            mode="markers",
            name=theme.name(label),
            marker=_marker(number, own[0].key),
            hovertemplate=f"{theme.escape(label)}<br>%{{x:.3g}} s, %{{y:+.2f}} dB<extra></extra>",
        )
    if not seconds:
        return None
    figure.update_xaxes(theme.log_axis("time of a picture", "s", *limits(seconds)))
    figure.update_yaxes(theme.axis("PSNR gained", "dB"))
    return figure
