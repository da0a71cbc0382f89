"""Signs that a stream cannot encode, spelled out: `12.3 +- 0.4` where `±` is not to be had."""

from __future__ import annotations

import codecs
import io
import unicodedata
from typing import TextIO

SPELLED = {
    "±": "+-",
    "×": "x",  # noqa: RUF001 (the sign of multiplication)
    "≤": "<=",
    "≥": ">=",
    "→": "->",
    "…": "...",
    "−": "-",  # noqa: RUF001 (the minus sign)
    "–": "-",  # noqa: RUF001 (the en dash)
    "—": "-",
    "·": "*",
    "∞": "inf",
    "µ": "u",
    "°": " degrees",
    "λ": "lambda",
    "θ": "theta",
    "σ": "sigma",  # noqa: RUF001
    "‖": "||",
    "’": "'",  # noqa: RUF001 (the apostrophe)
}
ERRORS = "hypergrad_bench.spelled"
"""Name of the handler of encoding errors: `open(..., errors=ERRORS)`, `text.encode("ascii", ERRORS)`."""


def spelled(text: str, encoding: str) -> str:
    """The text in signs that the encoding has."""
    return text.encode(encoding, ERRORS).decode(encoding)


def spell_on(*streams: TextIO) -> None:
    """From now on the streams take every text, whatever their encoding is."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_sign, error.object[error.start : error.end])), error.end


def _sign(sign: str) -> str:
    plain = unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
    return SPELLED.get(sign) or plain or sign.encode("ascii", "backslashreplace").decode()


codecs.register_error(ERRORS, _spell)
