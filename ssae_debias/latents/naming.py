"""A name for each described latent: the words or the phrase that it fires on more than texts in general hold them.

A latent's strongest tokens alone mislead: word pieces are no words, frequent words stand on every latent's list, and
`of` says nothing where `years of experience` is meant. So each word of the latent's strongest texts is counted by
how strongly the latent fires on it, and the count is contrasted with how often texts in general hold the word
(`ssae_debias.latents.contrast`). The best one to three words make the name; a neighbour that the latent needs
(`of` after `years`, where `of` mostly follows other words) joins in. A latent that fires on `[CLS]` or `[SEP]` speaks
of the text as a whole, and is named by what its texts have in common.

A name is a label to look things up by, and no explanation: the texts and the evidence stand beside it. Any callable
may name instead, a language model for instance (`naming_prompt`).

References
----------
Monroe, Colaresi, Quinn: "Fightin' Words", 2008 (the contrast). Bills et al.: "Language models can explain neurons in
language models", 2023; Paulo et al.: "Automatically Interpreting Millions of Features in Large Language Models",
2024 (naming by a language model, from texts with the firing tokens marked).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count

from ssae_debias.latents.activity import Activity, Background
from ssae_debias.latents.description import LatentDescription
from ssae_debias.latents.phrases import candidate_names, word_scores
from ssae_debias.latents.prompting import LatentEvidence, naming_prompt
from ssae_debias.latents.words import word_key

BACKGROUND_TEXTS = 2000
"""Texts whose words are counted as the background, evenly drawn: common words are known long before."""
WORDS_SHOWN = 20
"""Words that a namer is given, beside tokens and texts."""
NO_NAME = "no clear name"
LONGEST_NAME = 80
"""Characters: what a row of a table holds. A namer's longer answers are cut."""


Namer = Callable[[LatentEvidence], str]
"""From what is known of a latent to its name."""

__all__ = ["NO_NAME", "LatentEvidence", "Namer", "check_namer", "name_latents", "naming_prompt"]


def name_latents(
    descriptions: Mapping[tuple[str, int], LatentDescription],
    texts: Sequence[str],
    *,
    namer: Namer | None = None,
    background: Sequence[str] | None = None,
) -> dict[tuple[str, int], str]:
    """Name described latents.

    Parameters
    ----------
    descriptions : mapping of (site, latent) to LatentDescription
        From `describe_latents`. Ten or more texts a latent make better names than the five that a page shows.
    texts : sequence of str
        The texts that `LatentDescription.top_texts` counts from 0.
    namer : callable, optional
        From `LatentEvidence` to a name, instead of the built-in contrast: a local language model, a service, a
        lookup. White space in its answers is collapsed and what goes beyond 80 characters cut.
    background : sequence of str, optional
        Texts that say how frequent words are in general. Default: `texts`, evenly drawn where they are more than
        2000. With the attribute's texts as `texts`, give more general ones to have its words among the names.

    Returns
    -------
    dict of (site, latent) to str
        In the order of `descriptions`, never empty. The built-in names are unique within a site, but for
        "no clear name" where no word stands out, as of a latent that fires on everything, or never.

    Raises
    ------
    IndexError
        A description refers to a text that `texts` does not hold.
    TypeError
        `namer` is no callable, or returned something else than a string; texts are one bare string.
    ValueError
        `namer` returned an empty name.
    RuntimeError
        `namer` failed; the message names the latent, and the cause is chained.

    Examples
    --------
    >>> from ssae_debias.latents import LatentDescription
    >>> subjects = ("practice", "teaching", "service", "study", "care")
    >>> texts = [f"Ten years of {subject}." for subject in subjects] + ["A ship of wood is in port."] * 95
    >>> fires = [[("ten", 0.0), ("years", 0.0), ("of", 2.0), (subject, 0.0)] for subject in subjects]
    >>> described = {("embed", 7): LatentDescription([("of", 0.1)], list(enumerate(fires)))}
    >>> name_latents(described, texts)
    {('embed', 7): 'years of'}

    A language model on this machine, through transformers:

    >>> def by_model(evidence):
    ...     prompt = naming_prompt(evidence)
    ...     (answer,) = generate(prompt, max_new_tokens=12, do_sample=False, return_full_text=False)
    ...     return answer["generated_text"].strip().split("\\n")[0]
    >>> from transformers import pipeline  # doctest: +SKIP
    >>> generate = pipeline("text-generation", model="Qwen/Qwen2.5-1.5B-Instruct")  # doctest: +SKIP
    >>> name_latents(described, texts, namer=by_model)  # doctest: +SKIP
    {('embed', 7): 'years of experience'}
    """
    check_namer(namer)
    if not descriptions:
        return {}
    if isinstance(texts, str) or isinstance(background, str):
        raise TypeError("texts and background must be sequences of strings, got one bare string.")
    every = list(texts)
    general = Background.of(_drawn(every if background is None else list(background)))
    names: dict[tuple[str, int], str] = {}
    taken: set[tuple[str, str]] = set()
    for (site, latent), description in descriptions.items():
        shown = [(_text(every, index, site, latent), tokens) for index, tokens in description.top_texts]
        activity = Activity.in_texts(shown)
        if namer is None:
            main = [word_key(token.strip()) for token, _ in description.main_tokens]
            # a piece of a word is no word
            whole = [key for key in main if key in general.words or key in activity.words]
            found = candidate_names(activity, general, whole)
            name = next((name for name in _unique(found) if (site, name) not in taken), NO_NAME)
            taken.add((site, name))
        else:
            scores = word_scores(activity, general)
            best = sorted(scores, key=lambda word: (-scores[word], word))[:WORDS_SHOWN]
            words = [(activity.written(word), scores[word]) for word in best]
            name = _asked(namer, LatentEvidence(site, latent, description.top_tokens, shown, words))
        names[site, latent] = name
    return names


def check_namer(namer: object) -> None:
    """Raise TypeError unless `namer` is None or can be called; worth doing before hours of training.

    Examples
    --------
    >>> check_namer("qwen")
    Traceback (most recent call last):
    TypeError: namer must be a callable from LatentEvidence to a name, or None; got 'qwen'.
    """
    if namer is not None and not callable(namer):
        raise TypeError(f"namer must be a callable from LatentEvidence to a name, or None; got {namer!r}.")


def _unique(names: list[str]) -> Iterator[str]:
    """The names, and then the first with a number; nothing of nothing."""
    yield from names
    if names:
        yield from (f"{names[0]} ({number})" for number in count(2))


def _asked(namer: Namer, evidence: LatentEvidence) -> str:
    which = f"latent {evidence.latent} of {evidence.site}"
    try:
        answer = namer(evidence)
    except Exception as error:
        raise RuntimeError(f"the namer failed on {which}: {type(error).__name__}: {error}") from error
    if not isinstance(answer, str):
        raise TypeError(
            f"a namer must return a string; for {which} it returned {answer!r:.80} ({type(answer).__name__})."
        )
    name = " ".join(answer.split())
    if not name:
        raise ValueError(
            f"the namer returned an empty name for {which}; return something like {NO_NAME!r} where it knows none."
        )
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1].rstrip() + "…"


def _text(texts: list[str], index: int, site: str, latent: int) -> str:
    if not 0 <= index < len(texts):
        raise IndexError(
            f"the description of latent {latent} of {site} refers to text {index}, but {len(texts)} texts were "
            "given; give those that describe_latents read."
        )
    return texts[index]


def _drawn(texts: list[str]) -> list[str]:
    n = min(len(texts), BACKGROUND_TEXTS)
    return [texts[i * len(texts) // n] for i in range(n)]
