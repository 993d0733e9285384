"""Token activations laid over the text that they came from.

A tokenizer lowercases, strips accents and cuts words; a reader wants the sentence as it was written. So
tokens are found again in the original text, one after the other, and only where that fails is the text put
together from the tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ssae_debias.data.alignment import MARKS, bare_token, token_spans


@dataclass(frozen=True)
class Piece:
    """A stretch of text and how strongly the latent fires there, from 0 to 1 of the latent's maximum."""

    text: str
    strength: float = 0.0
    activation: float = 0.0


def highlight(
    text: str, tokens: Sequence[tuple[str, float]], *, maximum: float | None = None, window: int = 320
) -> list[Piece]:
    """Cut a text into pieces, each with the strength of the latent there.

    Parameters
    ----------
    text : str
        The text as written.
    tokens : sequence of (str, float)
        Tokens in order, as the tokenizer names them, with the latent's activation. They may cover only a part
        of the text (it was truncated). Negative and non-finite activations count as none.
    maximum : float or None, default=None
        Activation that has strength 1; None takes the largest among `tokens`.
    window : int, default=320
        Characters to show around the strongest token: more is cut, with an ellipsis.

    Returns
    -------
    list of Piece
        In reading order; neighbours without activation are joined.

    Examples
    --------
    >>> pieces = highlight("Dr. Zoë says she", [("zoe", 1.0), ("says", 0.0), ("she", 2.0)])
    >>> [(piece.text, piece.strength) for piece in pieces]
    [('Dr. ', 0.0), ('Zoë', 0.5), (' says ', 0.0), ('she', 1.0)]
    >>> "".join(piece.text for piece in highlight("", [("▁any", 0.0), ("▁where", 1.0)]))
    'any where'
    """
    clean = [(token, float(value) if math.isfinite(value) and value > 0 else 0.0) for token, value in tokens]
    top = maximum if maximum is not None and maximum > 0 else max((value for _, value in clean), default=0.0)
    spans = _align(text, clean)
    if spans is None:
        text, spans = _from_tokens(clean)
    start, stop = _window(text, spans, window)
    pieces = [Piece("… ")] if start > 0 else []
    at = start
    for first, last, value in spans:
        if value <= 0 or first < start or last > stop:
            continue
        if first > at:
            pieces.append(Piece(text[at:first]))
        pieces.append(Piece(text[first:last], round(min(value / top, 1.0), 3), value))
        at = last
    if at < stop:
        pieces.append(Piece(text[at:stop]))
    return [*pieces, Piece(" …")] if stop < len(text) else pieces


def readable(token: str) -> str:
    """A token as people write it: ``"##ing"`` is ``"-ing"``, a word-start mark goes.

    Examples
    --------
    >>> readable("##ing"), readable("Ġshe"), readable("▁her")
    ('-ing', 'she', 'her')
    """
    bare = MARKS.sub("", token).strip() or token
    return f"-{bare}" if token.startswith("##") else bare


def _align(text: str, tokens: list[tuple[str, float]]) -> list[tuple[int, int, float]] | None:
    spans = []
    for (token, value), span in zip(tokens, token_spans(text, [token for token, _ in tokens]), strict=True):
        if span is not None:
            spans.append((*span, value))
        elif value > 0 and bare_token(token):  # of a blank or a lone accent there is nothing to mark
            return None
    return spans


def _from_tokens(tokens: list[tuple[str, float]]) -> tuple[str, list[tuple[int, int, float]]]:
    marked = any(token[:1] in ("\u0120", "\u2581", " ") for token, _ in tokens)
    text, spans = "", []
    for token, value in tokens:
        starts_word = token[:1] in ("\u0120", "\u2581", " ") if marked else not token.startswith("##")
        bare = MARKS.sub("", token).strip() or token
        if text and starts_word:
            text += " "
        spans.append((len(text), len(text) + len(bare), value))
        text += bare
    return text, spans


def _window(text: str, spans: list[tuple[int, int, float]], size: int) -> tuple[int, int]:
    if len(text) <= size:
        return 0, len(text)
    first, last, _ = max(spans, key=lambda span: span[2], default=(0, 0, 0.0))
    start = max(0, min((first + last - size) // 2, len(text) - size))
    stop = min(len(text), start + size)
    # Cut at blanks, so that no word loses its head, but never beyond the strongest token.
    if start > 0 and (blank := text.find(" ", start, first)) >= 0:
        start = blank + 1
    if stop < len(text) and (blank := text.rfind(" ", last, stop)) >= 0:
        stop = blank
    return start, max(stop, last)
