"""What a judge of an explanation is shown, and what it is asked.

*Detection*: is the explanation true of this text? *Fuzzing*: is it true of the marked tokens of this text? Detection
asks whether an explanation tells the texts, fuzzing whether it tells the tokens: "texts about medicine" does well in
the one and poorly in the other if the latent fires on `surgeon` alone.

References
----------
Paulo, Mallen, Juang, Belrose: "Automatically Interpreting Millions of Features in Large Language Models", 2024,
section 3 (detection and fuzzing scores).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ssae_debias.data.alignment import MARKS

Task = Literal["detection", "fuzzing"]


@dataclass(frozen=True)
class Shown:
    """A window as a judge sees it: without the latent's activations.

    Attributes
    ----------
    tokens : tuple of str
        As the tokenizer names them.
    marked : tuple of bool
        Which of them are marked; none in detection.

    Examples
    --------
    >>> shown = Shown(("the", "surg", "##eon", "left"), (False, True, True, False))
    >>> shown.text, shown.marked_text
    ('the surgeon left', 'the <<surgeon>> left')
    """

    tokens: tuple[str, ...]
    marked: tuple[bool, ...]

    @property
    def text(self) -> str:
        """The window written out."""
        return "".join(gap + written for gap, written in self._pieces()).strip()

    @property
    def marked_text(self) -> str:
        """The window with its marked tokens in << >>, neighbours together; every token is there."""
        out, open_ = "", False
        for (gap, written), marked in zip(self._pieces(), self.marked, strict=True):
            if open_ and not marked:
                out, open_ = f"{out}>>", False
            out += gap
            if marked and not open_:
                out, open_ = f"{out}<<", True
            out += written
        return (out + (">>" if open_ else "")).strip()

    def _pieces(self) -> list[tuple[str, str]]:
        """Each token as what stands between it and the one before, and itself."""
        # WordPiece marks what continues a word; the others mark what begins one
        marks_begin = any(token[:1] in ("Ġ", "▁") for token in self.tokens)
        pieces = []
        for token in self.tokens:
            joined = token.startswith("##") or (marks_begin and token[:1] not in ("Ġ", "▁"))
            pieces.append(("" if joined else " ", MARKS.sub("", token)))
        return pieces


Judge = Callable[[Any, Sequence[Shown], Task], Sequence[float]]
"""From an explanation, some windows and the question to each one's probability that the explanation is true of it (of
its marked tokens). NaN: no answer, which counts as a wrong one."""
