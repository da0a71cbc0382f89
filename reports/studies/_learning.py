"""What the studies of trainings share: means over seeds, rows put beside a known transform, tables and figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import seaborn as sns
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from scipy.fft import dct
from scipy.optimize import linear_sum_assignment

from bench.aligned import Column, Table
from bench.learning.curves import Point
from bench.learning.outcome import NOISY
from reports import log_axis
from reports.rounding import ABSENT, plain
from reports.study import StudyFigure
from reports.style import PAGE_INCHES, Look, legend_below, literal, wrapped
from reports.trainings import Group, Training, Transform
from reports.trainings_table import NAMES, test_names

CLOSE = 0.9
"""Median |correlation| of the rows from which on W counts as close to a transform; the identity has 0.71 with first
differences and 0.18 or less with the cosines."""

PAPERS_EPOCHS = 750

FEWEST_SEEDS = 5
"""From which on a spread over seeds says something."""

ERRORS = 2.0
"""Standard errors within which two means count as one."""


@dataclass(frozen=True)
class Mean:
    """Over seeds; `error` is the standard error of the mean, over the test signals where there is one seed."""

    value: float
    deviation: float | None
    """Over the seeds; None for one seed."""
    error: float | None
    count: int

    @property
    def text(self) -> str:
        """`26.31 ± 0.05`, the standard deviation over the seeds."""
        return f"{self.value:.2f}" + (f" ± {self.deviation:.2f}" if self.deviation is not None else "")


def mean_db(group: Group, name: str) -> Mean | None:
    """The PSNR of this over the group's seeds; None where it has none that is finite."""
    own = [one for one in group.psnr(name) if one.mean_db is not None]
    return _mean([one.mean_db for one in own if one.mean_db is not None], None)


def gain_db(group: Group, name: str) -> Mean | None:
    """By which the learned W is above this, signal by signal."""
    found = [
        (one.outcome.psnr[name], (one.outcome.config.get("test") or {}).get("pairs", 0))
        for one in group.finished
        if name in one.outcome.psnr
    ]
    values = [psnr.gain_db for psnr, _ in found if psnr.gain_db is not None]
    spread = [psnr.gain_deviation_db / math.sqrt(pairs) for psnr, pairs in found if psnr.gain_deviation_db and pairs]
    return _mean(values, spread[0] if spread else None)


def _mean(values: Sequence[float], alone: float | None) -> Mean | None:
    if not values:
        return None
    if len(values) == 1:
        return Mean(values[0], None, alone, 1)
    deviation = float(np.std(values, ddof=1))
    return Mean(float(np.mean(values)), deviation, deviation / math.sqrt(len(values)), len(values))


def signed(mean: Mean) -> str:
    """`+0.31 ± 0.02`, the standard error of the mean."""
    return f"{mean.value:+.2f}" + (f" ± {mean.error:.2f}" if mean.error is not None else "")


def by_group(found: Sequence[tuple[Group, str]], unit: str = "") -> str:
    """`as printed: 26.31 ± 0.05 dB; Adam: 26.40 ± 0.03 dB. Seeds: 5 each`."""
    shown = "; ".join(f"{group.label}: {words}{f' {unit}' if unit else ''}" for group, words in found)
    counts = list(dict.fromkeys(group.seeds for group, _ in found))
    alike = f"{counts[0]}{' each' if len(found) > 1 else ''}"
    return f"{shown}. Seeds: {alike if len(counts) == 1 else ', '.join(group.seeds for group, _ in found)}"


def conditions(groups: Sequence[Group], learned: bool = True) -> str:
    """` (after 40 or 100 epochs; the paper has 750; Adam has 4 of 5 seeds)`: what a verdict on these holds for.

    Empty for the paper's own number of epochs, which matters to what is `learned` alone, and FEWEST_SEEDS or more.
    """
    counts = list(dict.fromkeys(one.outcome.epochs for group in groups for one in group.finished))
    said = [f"after {' or '.join(map(str, counts))} epochs; the paper has {PAPERS_EPOCHS}"]
    said = said if learned and counts and counts != [PAPERS_EPOCHS] else []
    said += [f"{group.label} has {group.seeds} seeds" for group in groups if not group.is_whole]
    if min((len(group.finished) for group in groups if group.finished), default=FEWEST_SEEDS) < FEWEST_SEEDS:
        said.append(f"fewer than {FEWEST_SEEDS} seeds")
    return f" ({'; '.join(said)})" if said else ""


# --- rows beside a known transform ------------------------------------------------------------------------------------


def differences(n: int) -> Transform:
    """First differences, one row less than samples."""
    return np.diff(np.eye(n), axis=0)


def cosines(n: int) -> Transform:
    """The orthonormal DCT-II."""
    return np.asarray(dct(np.eye(n), norm="ortho", axis=0))


@dataclass(frozen=True)
class Aligned:
    """The rows of W in the order, and with the sign, of the rows that they resemble; what is left over comes last."""

    W: Transform
    correlations: Float[np.ndarray, " matched"]
    """|<w, r>| / (||w|| ||r||) of each pair, in the order of the transform's rows."""

    @property
    def median(self) -> float:
        return float(np.median(self.correlations))


def aligned(W: Transform, reference: Transform) -> Aligned:
    """One row for each of the reference's, so that the sum of |correlation| is largest (the Hungarian method)."""
    unit = W / np.linalg.norm(W, axis=1, keepdims=True).clip(min=np.finfo(W.dtype).tiny)
    correlation = unit @ (reference / np.linalg.norm(reference, axis=1, keepdims=True)).T
    rows, places = linear_sum_assignment(-np.abs(correlation))
    by_place = np.argsort(places)
    rows, places = rows[by_place], places[by_place]
    found = correlation[rows, places]
    left = [row for row in range(len(W)) if row not in set(rows.tolist())]
    signed = np.where(found < 0, -1.0, 1.0)[:, None] * W[rows]
    return Aligned(np.concatenate([signed, W[left]]), np.abs(found))


def closeness(group: Group, transform: Callable[[int], Transform]) -> Mean | None:
    """The median |correlation| of each seed's W with the transform; None where there is no W."""
    own = [aligned(one.W, transform(one.W.shape[1])).median for one in group.finished if one.W is not None]
    return _mean(own, None)


# --- tables -----------------------------------------------------------------------------------------------------------


def psnr_table(groups: Sequence[Group]) -> Table:
    """A row per group; mean and standard deviation over the seeds."""
    names = test_names(groups)
    columns = (
        Column("training", numeric=False),
        Column("epochs"),
        Column("seeds"),
        Column("time", "s"),
        Column("training loss"),
        Column("validation loss"),
        *(Column(NAMES.get(name, name), "dB") for name in names),
    )
    finished = [one.outcome for group in groups for one in group.finished]
    pairs = {(one.config.get("test") or {}).get("pairs") for one in finished}
    peaks = sorted({one.config.get("readings", {}).get("psnr_peak", 1.0) for one in finished if one.psnr})
    others = sorted({one.measurement for one in finished} - {"", NOISY})
    return Table(
        "PSNR on held-out signals, losses and times",
        columns,
        tuple(_row(group, names) for group in groups),
        (
            f"PSNR of what is reconstructed, at peak {' and '.join(f'{peak:g}' for peak in peaks) or 1}: mean over the "
            "test signals; ± is the standard deviation over seeds of the data, where there are "
            f"several. Test signals for each seed: {', '.join(str(count) for count in pairs if count) or 'none'}.",
            "Denoisers are fitted to training pairs, the first 1000 at most; learned W is as it is after the last "
            "epoch. Time: of one training, on the machine below, its validation included.",
            *(f"Where y is {other}, no PSNR is given of it." for other in others),
        ),
    )


def _row(group: Group, names: Sequence[str]) -> tuple[str, ...]:
    def average(values: Sequence[float | None]) -> str:
        known = [value for value in values if value is not None]
        return plain(float(np.mean(known)), 4) if known else ABSENT

    own = [one.outcome for one in group.finished]
    if not own:
        return (group.label, "failed", group.seeds, *["failed"] * (3 + len(names)))
    means = [mean_db(group, name) for name in names]
    return (
        group.label,
        ", ".join(dict.fromkeys(str(one.epochs) for one in own)),
        group.seeds,
        average([one.seconds for one in own]),
        average([one.training_loss for one in own]),
        average([one.validation_loss for one in own]),
        *(mean.text if mean else ABSENT for mean in means),
    )


# --- figures ----------------------------------------------------------------------------------------------------------

DASHES = ("-", "--", ":", "-.")


def curves_figure(groups: Sequence[Group], beside: str | None) -> StudyFigure:
    """Loss against epochs and seconds, PSNR against epochs; `beside` is a denoiser to draw with it."""
    grey = f" Grey: {NAMES.get(beside, beside)}, on the test signals of the first training." if beside else ""
    return StudyFigure(
        "learning_curves",
        "Loss against epochs and against seconds, and PSNR.",
        "Thick: validation pairs; thin: training pairs, each at the W that it met in that epoch. Every seed is a line."
        f"{grey}",
        lambda look: _draw_curves(groups, beside, look),
    )


def _draw_curves(groups: Sequence[Group], beside: str | None, look: Look) -> Figure:
    del look
    figure = Figure(figsize=(PAGE_INCHES, 2.5), layout="constrained")
    by_epoch, by_second, decibel = figure.subplots(1, 3)
    drawn = [(number, group) for number, group in enumerate(groups) if any(one.points for one in group.trainings)]
    for number, group in drawn:
        for training in group.trainings:
            epochs, seconds = [point.epoch for point in training.points], [point.seconds for point in training.points]
            for axes, xs in ((by_epoch, epochs), (by_second, seconds)):
                _line(axes, xs, training.points, lambda point: point.validation_loss, number, 1.1)
                _line(axes, xs, training.points, lambda point: point.training_loss, number, 0.4)
            _line(decibel, epochs, training.points, lambda point: point.validation_psnr_db, number, 1.1)
            _line(decibel, epochs, training.points, lambda point: point.training_psnr_db, number, 0.4)
    for axes, x in ((by_epoch, "epochs"), (by_second, "time (s)"), (decibel, "epochs")):
        axes.set_xlabel(x)
        _logarithmic(axes, "x")
    for axes in (by_epoch, by_second):
        axes.set_ylabel("mean loss of a pair")
        _logarithmic(axes, "y")
    decibel.set_ylabel("PSNR (dB)")
    level = next((mean.value for group in groups if beside and (mean := mean_db(group, beside))), None)
    handles: list[object] = [
        Line2D([], [], label=literal(group.label), **_look(number, 1.1)) for number, group in drawn
    ]
    if beside is not None and level is not None:
        decibel.axhline(level, color="0.45", linewidth=0.9, linestyle=(0, (1, 1)))
        label = NAMES.get(beside, beside)
        handles.append(Line2D([], [], color="0.45", linewidth=0.9, linestyle=(0, (1, 1)), label=label))
    if handles:
        legend_below(figure, handles)
    return figure


def _logarithmic(axes: Axes, which: Literal["x", "y"]) -> None:
    """Limits at what is drawn, plain numbers at the ticks."""
    drawn = [np.asarray(line.get_xdata() if which == "x" else line.get_ydata(), dtype=float) for line in axes.lines]
    positive = [float(value) for values in drawn for value in values if value > 0]
    if positive:
        log_axis.draw(axes, which, *log_axis.limits(positive), most=4)


def _look(number: int, width: float) -> dict[str, Any]:
    colour = sns.color_palette("colorblind", 10)[number % 10]
    return {"color": colour, "linestyle": DASHES[number // 10 % len(DASHES)], "linewidth": width}


def _line(
    axes: Axes,
    xs: Sequence[float],
    points: Sequence[Point],
    value: Callable[[Point], float | None],
    number: int,
    width: float,
) -> None:
    known = [(x, y) for x, point in zip(xs, points, strict=True) if (y := value(point)) is not None]
    axes.plot([x for x, _ in known], [y for _, y in known], **_look(number, width))


def transform_figure(
    groups: Sequence[Group], name: str, transform: Callable[[int], Transform], stem: str = "learned_transforms"
) -> StudyFigure:
    """The learned W of each group's first seed, rows in the order of the transform that `name` names."""
    return StudyFigure(
        stem,
        f"The learned W, its rows beside those of {name}.",
        f"First panel: {name}. Rows are reordered, and their signs chosen, for the largest sum of |correlation|; the "
        "number is the median of these. Colours: each panel's own largest entry is 1.",
        lambda look: _draw_transforms(groups, name, transform, look),
    )


PANEL_INCHES, LINE_INCHES = 1.65, 0.13
"""Of height: a square with its labels, and each line of its title."""


def _draw_transforms(groups: Sequence[Group], name: str, transform: Callable[[int], Transform], look: Look) -> Figure:
    del look
    shown = [(group.label, first.W) for group in groups if (first := group.first) is not None and first.W is not None]
    if not shown:
        figure = Figure(figsize=(PAGE_INCHES, 1.2), layout="constrained")
        figure.text(0.5, 0.5, "not measured", ha="center", va="center", color="0.5")
        return figure
    reference = transform(shown[0][1].shape[1])
    panels = [(name, reference)]
    for label, W in shown:
        found = aligned(W, transform(W.shape[1]))
        panels.append((f"{label}: {found.median:.2f}", found.W))
    columns = min(4, len(panels))
    rows = math.ceil(len(panels) / columns)
    titles = [wrapped(title, 22) for title, _ in panels]
    lines = 1 + max(title.count("\n") for title in titles)
    figure = Figure(figsize=(PAGE_INCHES, (PANEL_INCHES + LINE_INCHES * lines) * rows), layout="constrained")
    all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, title, (_, W) in zip(all_axes, titles, panels, strict=False):
        image = axes.imshow(W / (np.abs(W).max() or 1.0), cmap="PuOr", vmin=-1, vmax=1, interpolation="nearest")
        axes.set_title(title, loc="left")
        axes.grid(visible=False)
        axes.set(xlabel="sample", ylabel="row")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    for axes in all_axes[len(panels) :]:
        axes.remove()
    figure.colorbar(image, ax=list(all_axes[: len(panels)]), label="entry / largest", shrink=0.8, aspect=40, pad=0.02)
    return figure


def losses(training: Training) -> list[tuple[float, float]]:
    """Seconds and training loss, epoch by epoch."""
    return [(point.seconds, point.training_loss) for point in training.points if point.training_loss is not None]
