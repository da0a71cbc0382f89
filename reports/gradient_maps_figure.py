"""Heat maps of a gradient, each above its distance from the reference; one scale for all maps, one for distances."""

from __future__ import annotations

import math
import textwrap
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, MaxNLocator

from reports.error_axis import BAND_COLOUR
from reports.gradient_maps import GradientMaps, Map, Matrix
from reports.style import PAGE_INCHES, legend_below, literal

COLUMNS = 5
MAP_INCHES = 1.35
NO_DERIVATIVE = "#cc79a7"
"""Of Okabe and Ito's palette, and of neither scale."""
GRADIENT_COLOURS, DISTANCE_COLOURS = "RdBu_r", "viridis"
TITLE_WIDTH = 19


def draw(found: GradientMaps) -> Figure:
    """A page wide: the reference first, then a method a column; blocks under each other where there are many."""
    count = len(found.maps) + 1
    columns = min(COLUMNS, count)
    blocks = math.ceil(count / columns)
    rows, tall = found.reference.shape
    height = MAP_INCHES * min(max(rows / tall, 0.35), 1.6)
    layout = ConstrainedLayoutEngine(h_pad=0.02, w_pad=0.02, hspace=0.02, wspace=0.02)
    figure = Figure(figsize=(PAGE_INCHES, (2 * height + 0.5) * blocks + 1.1), layout=layout)
    grid = figure.subplots(2 * blocks, columns, squeeze=False)
    above, below = [grid[row, column] for row, column in _places(columns, blocks)], _lower(grid, columns, blocks)
    gradients = _image(above[0], found.reference, _colours(GRADIENT_COLOURS), _gradient_scale(found))
    above[0].set_title("reference", fontsize=7)
    below[0].remove()
    distances = None
    for axes, beneath, one in zip(above[1:], below[1:], found.maps, strict=False):
        masked = np.where(np.isnan(found.reference), np.nan, one.gradient)
        _image(axes, masked, _colours(GRADIENT_COLOURS), _gradient_scale(found))
        axes.set_title(literal("\n".join(textwrap.wrap(one.label, TITLE_WIDTH)[:2])), fontsize=7)
        distances = _image(beneath, _shown(one, found), _colours(DISTANCE_COLOURS), _distance_scale(found))
        beneath.set_title(f"error {one.said}".replace("<=", "$\\leq$"), fontsize=7)
    for axes in [*above[count:], *below[count:]]:
        axes.remove()
    _name_axes(above[0], found)
    for drawn in above[1:count] + below[1:count]:
        drawn.tick_params(labelbottom=False, labelleft=False)
    kept = [*above[:count], *below[1:count]]
    look: dict[str, Any] = {"ax": kept, "location": "bottom", "shrink": 0.85, "aspect": 60, "pad": 0.01}
    bar = figure.colorbar(gradients, extend="both", **look)
    bar.set_label(literal(f"dL/d{found.part}: upper rows"))
    if distances is not None and found.decades is not None:
        scale = figure.colorbar(distances, extend="min", **look)
        scale.set_label(literal(f"|dL/d{found.part} - reference|, in the same unit: lower rows"))
        low, high = found.decades
        scale.locator = FixedLocator([10.0**power for power in range(low, high + 1, math.ceil((high - low) / 10))])
        scale.minorticks_off()
        scale.update_ticks()
    legend_below(figure, _handles(found))
    return figure


def _places(columns: int, blocks: int) -> list[tuple[int, int]]:
    return [(2 * block, column) for block in range(blocks) for column in range(columns)]


def _lower(grid: np.ndarray, columns: int, blocks: int) -> list[Axes]:
    return [grid[row + 1, column] for row, column in _places(columns, blocks)]


def _image(axes: Axes, values: Matrix, colours: Colormap, scale: Normalize) -> AxesImage:
    image = axes.imshow(values, cmap=colours, norm=scale, aspect="auto", interpolation="nearest")
    axes.grid(visible=False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(3, integer=True))
    axes.tick_params(length=0, pad=1)
    return image


def _name_axes(axes: Axes, found: GradientMaps) -> None:
    axes.set_xlabel(literal(f"column of {found.part}"))
    axes.set_ylabel(literal(f"row of {found.part}"))


def _colours(name: str) -> Colormap:
    return mpl.colormaps[name].with_extremes(bad=NO_DERIVATIVE, under=None if name == GRADIENT_COLOURS else BAND_COLOUR)


def _gradient_scale(found: GradientMaps) -> Normalize:
    return Normalize(-found.largest, found.largest)


def _distance_scale(found: GradientMaps) -> Normalize:
    low, high = found.decades or (-1, 0)
    return LogNorm(10.0**low, 10.0**high)


def _shown(one: Map, found: GradientMaps) -> Matrix:
    """Below the scale where the reference cannot tell the distance from zero."""
    under = 10.0 ** ((found.decades or (-1, 0))[0] - 1)
    return np.where(one.distance <= found.bars, under, one.distance)


def _handles(found: GradientMaps) -> list[Patch]:
    handles = [Patch(color=BAND_COLOUR, label="lower rows: at or below the reference's own error bar")]
    if found.missing:
        handles.append(Patch(color=NO_DERIVATIVE, label="L has no derivative here"))
    return handles
