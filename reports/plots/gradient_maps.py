"""dL/dtheta of one pair by each method as heat maps, each above its distance from the reference."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.colors import to_hex
from plotly.subplots import make_subplots

from reports.content import Content
from reports.error_axis import BAND_COLOUR
from reports.gradient_maps import GradientMaps, Map, Matrix, gradient_maps, remarks, title
from reports.gradient_maps_figure import NO_DERIVATIVE
from reports.plots import theme
from reports.plots.theme import Plot
from reports.short_names import cut
from reports.style import Look

ORDER = 80
COLUMNS = 4
MAP_PIXELS = 170
TITLE_WIDTH = 24
READING = (
    "Upper maps: the gradient, on one scale; lower maps: its distance from the reference, on one logarithmic scale, "
    "grey where it is at or below the reference's own error bar."
)


def plot(content: Content, look: Look) -> Plot | None:
    """None where no run kept a gradient and its reference."""
    del look
    found = gradient_maps(content)
    if found is None:
        return None
    return Plot("gradient_maps", title(found).removesuffix("."), f"{READING} {remarks(found)}", _figure(found))


def _figure(found: GradientMaps) -> go.Figure:
    count = len(found.maps) + 1
    columns = min(COLUMNS, count)
    blocks = math.ceil(count / columns)
    height = blocks * (2 * MAP_PIXELS + 90) + 60
    figure = make_subplots(
        rows=2 * blocks,
        cols=columns,
        horizontal_spacing=0.02,
        vertical_spacing=40 / height,
        subplot_titles=_titles(found, columns, blocks),
    )
    for index, gradient in enumerate([found.reference, *(one.gradient for one in found.maps)]):
        block, column = divmod(index, columns)
        upper = np.where(np.isnan(found.reference), np.nan, gradient)
        figure.add_trace(_heat(upper, "coloraxis", f"dL/d{found.part}", "%{z:.4g}"), 2 * block + 1, column + 1)
        if index:
            lower = _exponents(found.maps[index - 1], found)
            place = 2 * block + 2, column + 1
            figure.add_trace(_heat(lower, "coloraxis2", "distance", "10<sup>%{z:.1f}</sup>"), *place)
            figure.add_trace(_under(found.maps[index - 1], found), *place)
    figure.update_annotations(font_size=12)
    figure.update_xaxes(visible=False, showgrid=False, zeroline=False)
    figure.update_yaxes(visible=False, showgrid=False, zeroline=False, autorange="reversed")
    figure.update_xaxes(visible=True, nticks=4, title=theme.axis(f"column of {found.part}")["title"], row=1, col=1)
    figure.update_yaxes(visible=True, nticks=4, title=theme.axis(f"row of {found.part}")["title"], row=1, col=1)
    base = theme.new_figure(height).layout
    shared = {name: base[name] for name in ("template", "font", "paper_bgcolor", "height")}
    figure.update_layout(
        **shared,
        plot_bgcolor=NO_DERIVATIVE if found.missing else "rgba(0,0,0,0)",
        showlegend=False,
        margin={"l": 60, "r": 90, "t": 40, "b": 20},
        coloraxis=_gradient_scale(found),
        coloraxis2=_distance_scale(found),
    )
    return figure


def _titles(found: GradientMaps, columns: int, blocks: int) -> list[str]:
    """In the order of the grid's cells, row by row."""
    upper = ["reference", *(cut(one.label, TITLE_WIDTH) for one in found.maps)]
    lower = ["", *(f"error {one.said.replace('<=', '≤')}" for one in found.maps)]
    titles = []
    for block in range(blocks):
        for row in (upper, lower):
            own = row[block * columns : (block + 1) * columns]
            titles += [theme.escape(text) for text in own] + [""] * (columns - len(own))
    return titles


def _heat(values: Matrix, scale: str, what: str, written: str) -> dict[str, Any]:
    hover = f"row %{{y}}, column %{{x}}<br>{theme.escape(what)}: {written}<extra></extra>"
    # Single precision is enough for a colour, and half of the page's bytes.
    return {"type": "heatmap", "z": values.astype(np.float32), "coloraxis": scale, "hovertemplate": hover}


def _exponents(one: Map, found: GradientMaps) -> Matrix:
    """log10 of the distance; nothing where the reference cannot tell it from zero."""
    with np.errstate(divide="ignore"):
        return np.where(one.distance <= found.bars, np.nan, np.log10(one.distance))


def _under(one: Map, found: GradientMaps) -> dict[str, Any]:
    """What `_exponents` leaves out, in grey."""
    grey = to_hex(BAND_COLOUR)
    where = _heat(np.where(one.distance <= found.bars, 0.0, np.nan), "", "distance", "at or below the reference's bar")
    del where["coloraxis"]
    return where | {"colorscale": [[0, grey], [1, grey]], "showscale": False}


def _gradient_scale(found: GradientMaps) -> dict[str, Any]:
    return {
        "colorscale": "RdBu_r",
        "cmin": -found.largest,
        "cmax": found.largest,
        "colorbar": {"title": {"text": theme.escape(f"dL/d{found.part}"), "side": "right"}, "y": 0.77, "len": 0.46},
    }


def _distance_scale(found: GradientMaps) -> dict[str, Any]:
    """With a step of grey below it."""
    low, high = found.decades or (-1, 0)
    foot = low - 0.07 * (high - low)
    edge = (low - foot) / (high - foot)
    grey = to_hex(BAND_COLOUR)
    rest = [[edge + (1 - edge) * at, colour] for at, colour in _viridis()]
    every = math.ceil((high - low) / 7)
    ticks = {float(power): f"10<sup>{power}</sup>" for power in range(low, high + 1, every)}
    del ticks[float(low)]  # whose text would stand in that of the grey
    ticks[(foot + low) / 2] = "≤ bar"
    return {
        "colorscale": [[0.0, grey], [edge, grey], *rest],
        "cmin": foot,
        "cmax": high,
        "colorbar": {
            "title": {"text": "distance", "side": "right"},
            "tickvals": [*ticks],
            "ticktext": [*ticks.values()],
            "y": 0.25,
            "len": 0.46,
        },
    }


def _viridis() -> list[tuple[float, str]]:
    import seaborn as sns

    colours = [to_hex(colour) for colour in sns.color_palette("viridis", 11)]
    return [(index / 10, colour) for index, colour in enumerate(colours)]
