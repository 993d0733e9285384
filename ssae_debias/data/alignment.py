"""Where a tokenizer's tokens stand in the text that they came from.

A tokenizer lowercases, strips accents and cuts words, and its tokens alone do not say where. They are found again in
the original text, one after the other. What has no letters of the text (`[CLS]`, `[UNK]`, a byte) is not found.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

MARKS = re.compile(r"^##|[\u0120\u2581]|</w>$")
"""WordPiece's continuation mark, and the word-start marks of byte-level BPE and of SentencePiece."""


def token_spans(text: str, tokens: Sequence[str]) -> list[tuple[int, int] | None]:
    """Find tokens in the text that they were cut from.

    Parameters
    ----------
    text : str
        The text as written.
    tokens : sequence of str
        In order, as the tokenizer names them. They may cover only a part of the text (it was truncated).

    Returns
    -------
    list of (int, int) or None
        For each token the span ``text[start:stop]`` that it stands for, spans in order and without overlap; None
        where it is not found: special and unknown tokens, blanks, and what does not follow on the token before.

    Examples
    --------
    >>> text = "Dr. Zoë operates"
    >>> spans = token_spans(text, ["[CLS]", "dr", ".", "zoe", "operate", "##s", "[SEP]"])
    >>> [text[span[0] : span[1]] if span else None for span in spans]
    [None, 'Dr', '.', 'Zoë', 'operate', 's', None]
    """
    letters, origin = _folded(text)
    spans: list[tuple[int, int] | None] = []
    at, skipped = 0, True  # before the first token anything may stand: the tokens may start within the text
    for token in tokens:
        bare = bare_token(token)
        found = letters.find(bare, at) if bare else -1
        if found < 0 or (not skipped and letters[at:found].strip()):
            # after [CLS], [UNK] and the like the next token may stand further on; a blank changes nothing
            skipped = skipped or bool(bare)
            spans.append(None)
            continue
        spans.append((origin[found], origin[found + len(bare) - 1] + 1))
        at, skipped = found + len(bare), False
    return spans


def bare_token(token: str) -> str:
    """A token's letters as they are looked for: without marks and accents, lower case; empty for a blank.

    Examples
    --------
    >>> bare_token("##Ing"), bare_token("Ġshe"), bare_token("▁")
    ('ing', 'she', '')
    """
    return _folded(MARKS.sub("", token).strip())[0]


def _folded(text: str) -> tuple[str, list[int]]:
    """Lower case without accents, and for every character of it the index in `text` it came from."""
    letters, origin = [], []
    for index, letter in enumerate(text):
        for part in unicodedata.normalize("NFD", letter.lower()):
            if unicodedata.category(part) != "Mn":
                letters.append(part)
                origin.append(index)
    return "".join(letters), origin
