"""What a namer is shown of a latent, and how a language model is asked for a name."""

from __future__ import annotations

from dataclasses import dataclass

from ssae_debias.data.alignment import token_spans

MARKED_FROM = 0.3
"""Part of the text's strongest activation from which on a token is marked: weaker ones distract."""


@dataclass(frozen=True)
class LatentEvidence:
    """What a namer is shown of one latent.

    Attributes
    ----------
    site : str
    latent : int
    top_tokens : list of (str, float)
        Token and its mean activation, by total activation.
    texts : list of (str, list of (str, float))
        The strongest texts as written, each with its tokens' activations; strongest first.
    words : list of (str, float)
        Words by how much more the latent fires on them than texts in general hold them, with the z-value; best
        first.
    """

    site: str
    latent: int
    top_tokens: list[tuple[str, float]]
    texts: list[tuple[str, list[tuple[str, float]]]]
    words: list[tuple[str, float]]


def naming_prompt(evidence: LatentEvidence, *, n_texts: int = 5, window: int = 160) -> str:
    """A prompt that asks a language model for a name.

    Firing tokens stand in double angle brackets; the words that stand out are given too, so that a small model has
    something to go by.

    Parameters
    ----------
    evidence : LatentEvidence
    n_texts : int, default 5
        How many texts to show.
    window : int, default 160
        Characters of each text around its strongest token.

    References
    ----------
    Paulo et al.: "Automatically Interpreting Millions of Features in Large Language Models", 2024 (the marks).

    Examples
    --------
    >>> tokens = [("she", 2.0), ("sang", 0.0)]
    >>> prompt = naming_prompt(LatentEvidence("embed", 7, [("she", 2.0)], [("She sang.", tokens)], [("she", 4.2)]))
    >>> "- <<She>> sang." in prompt, prompt.endswith("Name:")
    (True, True)
    """
    lines = [
        "A unit of a neural network fires on the words in << >>. Name what it responds to, in one to four words.",
        "",
        *(f"- {_marked(text, tokens, window)}" for text, tokens in evidence.texts[:n_texts]),
    ]
    if evidence.words:
        lines += ["", f"Words it fires on: {', '.join(word for word, _ in evidence.words[:8])}"]
    return "\n".join([*lines, "", "Name:"])


def _marked(text: str, tokens: list[tuple[str, float]], window: int) -> str:
    found = [
        (span, value)
        for span, (_, value) in zip(token_spans(text, [token for token, _ in tokens]), tokens, strict=True)
        if span is not None
    ]
    peak = max((value for _, value in found), default=0.0)
    if peak <= 0:
        return _one_line(text[:window])
    center = next(span[0] for span, value in found if value == peak)
    start = max(0, center - window // 2)
    stop = start + window
    pieces: list[str] = []
    at = start
    for (first, last), value in found:
        if first < start or last > stop or value < MARKED_FROM * peak:
            continue
        if pieces and first == at:  # pieces of one word share their marks
            pieces[-1] = f"{pieces[-1][:-2]}{text[first:last]}>>"
        else:
            pieces += [text[at:first], "<<", f"{text[first:last]}>>"]
        at = last
    return _one_line("".join([*pieces, text[at:stop]]))


def _one_line(text: str) -> str:
    return " ".join(text.split())
