"""How a method and a size look in every figure: a colour and an edge per method, a marker per n."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.short_names import cut

COLUMN_INCHES = 3.4
PAGE_INCHES = 7.0
MARKER_POINTS = 5.5
LEGEND_POINTS = 7.0

Dash = Literal["-", "--", ":", "-."] | tuple[int, tuple[int, ...]]
DASHES: tuple[Dash, ...] = ("-", "--", ":", "-.", (0, (9, 2)), (0, (4, 1, 1, 1, 1, 1)), (0, (1, 4)), (0, (2, 1)))

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")

SETTLED = (
    "blorc",
    "cvxpy_layer",
    "torch_closed_form",
    "smoothed_implicit",
    "unrolled_reverse",
    "active_set_adjoint",
    "unrolled_forward",
    "finite_differences",
    "equilibrium",
    "unrolled_truncated",
)
"""Methods whose place in the palette never changes; the others follow by name."""


@dataclass(frozen=True)
class Look:
    """The palette of one report: the same method and the same n look alike in all of its figures."""

    methods: tuple[str, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, methods: Iterable[str], sizes: Iterable[int]) -> Look:
        return cls((*SETTLED, *sorted(set(methods) - set(SETTLED))), tuple(sorted(set(sizes))))

    def colour(self, method: str) -> tuple[float, float, float]:
        palette = sns.color_palette("colorblind", 10)
        return palette[self.methods.index(method) % len(palette)]

    def edge(self, method: str) -> str:
        """White for the first ten methods, black for those that take a colour a second time."""
        return "white" if self.methods.index(method) < 10 else "black"

    def marker(self, n: int) -> str:
        return MARKERS[self.sizes.index(n) % len(MARKERS)]

    def points(self, method: str, n: int) -> dict[str, Any]:
        """Keywords of `Axes.plot` for measured points."""
        return {
            "marker": self.marker(n),
            "color": self.colour(method),
            "markeredgecolor": self.edge(method),
            "markeredgewidth": 0.6,
            "markersize": MARKER_POINTS,
        }

    def method_handle(self, method: str) -> Line2D:
        style = {**self.points(method, self.sizes[0]), "marker": "o"}
        return Line2D([], [], linestyle="", label=shortened(method), **style)

    def size_handle(self, n: int) -> Line2D:
        return Line2D([], [], linestyle="", marker=self.marker(n), color="0.35", markersize=5, label=f"n = {n}")


def use_house_style() -> None:
    """Small type for a column's width, no pyplot windows."""
    mpl.use("Agg")
    sns.set_theme(
        style="whitegrid",
        rc={
            "font.size": 7.5,
            "axes.titlesize": 7.5,
            "axes.labelsize": 7.5,
            "xtick.labelsize": 7,
            "ytick.labelsize": 7,
            "legend.fontsize": LEGEND_POINTS,
            "legend.title_fontsize": 7,
            "grid.linewidth": 0.4,
            "axes.edgecolor": "0.6",
            "axes.linewidth": 0.6,
            "text.usetex": False,
            "text.parse_math": True,
            "pdf.fonttype": 42,
            "savefig.dpi": 220,
        },
    )


def dashes_of(look: Look, lines: Iterable[tuple[str, str]]) -> dict[str, Dash]:
    """A dash for each line, given as its name and its method: lines of one colour differ while dashes last."""
    taken: dict[tuple[float, float, float], int] = {}
    dashes: dict[str, Dash] = {}
    for name, method in lines:
        if name not in dashes:
            number = taken.get(look.colour(method), 0)
            dashes[name] = DASHES[number % len(DASHES)]
            taken[look.colour(method)] = number + 1
    return dashes


def legend_below(figure: Figure, handles: Sequence[Any], points: float = LEGEND_POINTS) -> None:
    """The legend under the panels in as many columns as the figure is wide; the figure grows by its height.

    Constrained layout makes room in height for a legend outside, but does not notice one that is too wide.
    """
    for columns in range(min(len(handles), 5), 0, -1):
        legend = figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            fontsize=points,
            columnspacing=1.2,
            handlelength=2.8,
        )
        box = legend.get_window_extent()
        if box.width <= 0.98 * figure.bbox.width or columns == 1:
            figure.set_figheight(figure.get_figheight() + box.height / figure.dpi + 0.1)
            return
        legend.remove()


def say_not_measured(axes: Axes) -> None:
    """Words in the place of points."""
    axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color="0.5")


def wrapped(title: str, width: int = 50) -> str:
    """A panel's title in lines as wide as a panel, `width` characters."""
    return literal("\n".join(textwrap.wrap(title, width)))


def shortened(name: str, most: int = 30) -> str:
    """A name that fits a legend, in `most` characters."""
    return literal(cut(name, most))


def literal(text: str) -> str:
    """Text that matplotlib will not read as mathematics, and that no label drops for a leading underscore."""
    return "\u200b" * text.startswith("_") + text.replace("$", r"\$")
