"""A matplotlib figure as SVG that takes the page's colours: text and axes in the reader's ink, white as his paper."""

from __future__ import annotations

import re
from io import StringIO

import matplotlib as mpl
from matplotlib.figure import Figure

GREY = re.compile(r"(fill|stroke): #([0-9a-f]{2})\2\2\b")
NAME = re.compile(r'(\bid="|href="#|url\(#)([^")]+)')
PROLOGUE = re.compile(r"^.*?(?=<svg )", re.DOTALL)
METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
WHITE = 0xFF


def inline_svg(figure: Figure, stem: str) -> str:
    """For a page: no prologue, names of its parts that are its own, greys as shades of the ink, no background."""
    written = StringIO()
    with mpl.rc_context({"svg.hashsalt": stem}):
        figure.savefig(written, format="svg", transparent=True)
    svg = METADATA.sub("", PROLOGUE.sub("", written.getvalue()))
    svg = NAME.sub(lambda match: f"{match[1]}{stem}-{match[2]}", svg)
    return GREY.sub(_shade, svg)


def _shade(match: re.Match[str]) -> str:
    """White is the paper; a grey is the ink, as opaque as the grey is dark."""
    level = int(match[2], 16)
    if level == WHITE:
        return f"{match[1]}: var(--paper)"
    opacity = 1.0 if 2 * level < WHITE else 1 - level / WHITE
    return f"{match[1]}: currentColor; {match[1]}-opacity: {opacity:.2f}"
