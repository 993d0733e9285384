"""From words that stand out to a name: which of them, in which form, and with which neighbour.

A name takes the best words until they hold most of the latent's mass. A neighbour joins a word where the latent fires
on the word mostly beside it although elsewhere the word mostly stands without it (`years of`), or where the word hardly
ever stands without it (`Los Angeles`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from ssae_debias.latents.activity import Activity, Background
from ssae_debias.latents.contrast import log_odds
from ssae_debias.latents.words import word_key

MOST_WORDS = 3
CLEAR = 2.0
"""z-value from which on a word stands out."""
WORTH = 0.05
"""Part of a latent's mass from which on a word is worth naming."""
COVERED = 0.25
"""Part of the mass below which all words that stand out make no name: the latent fires on much else."""
ENOUGH = 0.75
"""Part of the mass that a name need not exceed."""
COMMON = 0.5
"""Part of the texts that must hold a word for it to be what they have in common,"""
RARE = 0.25
"""and how large a part of that the word may reach in texts in general."""
BESIDE = 0.6
"""Part of a word's mass that must lie beside a neighbour for it to join the name; besides,"""
NEEDED = 2.0
"""that must be so many times what is usual"""
PAIR_TEXTS = 4
"""and the pair stand in so many texts (in fewer it is chance),"""
FIXED = 0.8
"""or the word stands beside the neighbour so often anyway."""
ENDINGS = ("s", "es", "'s", "ed", "d", "ing")
"""What makes an inflection of a word."""


def word_scores(activity: Activity, general: Background) -> dict[str, float]:
    """How much more a latent fires on each word than texts hold it: z-values.

    The latent's own texts count among texts in general: a word that the others lack would otherwise be judged by the
    prior alone.

    Examples
    --------
    >>> texts = [("He sang", [("he", 1.0), ("sang", 0.0)])] * 5
    >>> scores = word_scores(Activity.in_texts(texts), Background.of(["A ship is at sea."] * 20))
    >>> list(scores), scores["he"] > 2
    (['he'], True)
    """
    return log_odds(activity.mass, general.words + activity.words)


def candidate_names(activity: Activity, general: Background, main: Sequence[str] = ()) -> list[str]:
    """Names of a latent by what stands out in its texts; the first is the best, each further one longer by a phrase.

    Parameters
    ----------
    activity : Activity
    general : Background
    main : sequence of str
        Words that most of the latent's activation lies on, wherever: they come first where the strongest texts do not
        say them.

    Returns
    -------
    list of str
        Empty where nothing stands out.

    Examples
    --------
    >>> texts = [(f"So he {word}", [("so", 0.0), ("he", 1.0), (word, 0.0)]) for word in ("sang", "ate", "left")]
    >>> general = Background.of(["This is a port.", "A ship is at sea.", "He saw it."] * 20)
    >>> candidate_names(Activity.in_texts(texts), general)
    ['So he']
    """
    outside = min(activity.outside, key=lambda token: (-activity.outside[token], token), default="").strip()
    if sum(activity.outside.values()) > sum(activity.mass.values()):
        shared = _joined(_in_common(activity, general), enough=1.0)
        return [f"{outside} of texts with {name}" for name in shared] or [outside]
    phrases = _standing_out(activity, general)
    covered = sum(share for _, share in phrases)
    # a latent of a topic fires on many words, none of which has much of the mass
    worth = min(WORTH, max((share for _, share in phrases), default=0.0) / 2)
    phrases = [(text, share) for text, share in phrases if share >= worth] if covered >= COVERED else []
    said = {word for text, _ in phrases[:MOST_WORDS] for word in word_key(text).split()}
    # where the latent is silent on a word, that may be capitalised by its place alone
    unsaid = [
        (_readable(key, activity if activity.fired[key] else Activity()), 0.0)
        for key in main
        if key not in said
    ]
    if phrases or unsaid:
        return _joined([*unsaid, *phrases], ENOUGH)
    return [f"texts with {name}" for name in _joined(_in_common(activity, general), enough=1.0)]


def _joined(phrases: Sequence[tuple[str, float]], enough: float) -> list[str]:
    covered, least = 0.0, 0
    for _, share in phrases[:MOST_WORDS]:
        covered += share
        least += 1
        if covered >= enough:
            break
    return [" / ".join(text for text, _ in phrases[:n]) for n in range(least, len(phrases) + 1) if n]


def _standing_out(activity: Activity, general: Background) -> list[tuple[str, float]]:
    """Words that the latent fires on, with the neighbours they need and their part of the mass, best first."""
    scores = word_scores(activity, general)
    # with more than a handful of texts, what a single one of them says is chance
    texts_needed = 2 if activity.n_texts > 3 else 1
    clear = [word for word in scores if scores[word] >= CLEAR and activity.fired[word] >= texts_needed]
    whole = sum(activity.mass.values())
    phrases: list[tuple[str, float]] = []
    owner: dict[str, int] = {}
    for word in sorted(clear, key=lambda word: (-scores[word], word)):
        share = activity.mass[word] / whole
        place = next((owner[other] for other in owner if _same_stem(word, other)), None)
        if place is not None:  # inflections, and words that a better one's phrase holds, count with it
            phrases[place] = (phrases[place][0], phrases[place][1] + share)
            continue
        parts = _with_neighbours(word, activity, general)
        phrases.append((" ".join(_readable(part, activity) for part in parts), share))
        owner |= dict.fromkeys(parts, len(phrases) - 1)
    return phrases


def _in_common(activity: Activity, general: Background) -> list[tuple[str, float]]:
    """Words that most of the texts hold and texts in general hardly do, with the part that holds them."""
    if activity.n_texts < PAIR_TEXTS:
        return []
    scores = log_odds(activity.held, general.held + activity.held)
    shares = {word: activity.held[word] / activity.n_texts for word in scores}
    common = [
        word
        for word, share in shares.items()
        if share >= COMMON and general.held[word] <= RARE * share * general.n_texts and scores[word] >= CLEAR
    ]
    kept: list[str] = []
    for word in sorted(common, key=lambda word: (-scores[word], word)):
        if _is_word(word) and not any(_same_stem(word, other) for other in kept):
            kept.append(word)
    return [(activity.written(word), shares[word]) for word in kept]


def _with_neighbours(word: str, activity: Activity, general: Background) -> list[str]:
    if not _is_word(word):
        return [word]
    left = _needed(
        word, [(pair, mass) for pair, mass in activity.before.items() if pair[1] == word], activity, general
    )
    right = _needed(
        word, [(pair, mass) for pair, mass in activity.after.items() if pair[0] == word], activity, general
    )
    return [*(left[:1] if left else ()), word, *(right[1:] if right else ())]


def _needed(
    word: str, beside: list[tuple[tuple[str, str], float]], activity: Activity, general: Background
) -> tuple[str, str] | None:
    """The pair with a neighbour without which the latent would not fire on the word."""
    if not beside or not activity.mass[word]:
        return None
    pair, mass = min(beside, key=lambda item: (-item[1], item[0]))
    share = mass / activity.mass[word]
    usual = (general.neighbours[pair] + 1) / (general.words[word] + 2)
    words = all(map(_is_word, pair))
    often = activity.beside[pair] >= min(PAIR_TEXTS, activity.n_texts)
    needed = (often and usual * NEEDED <= share) or usual >= FIXED
    return pair if words and share >= BESIDE and needed else None


def _same_stem(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    if long.startswith(short) and (short == long or long[len(short) :] in ENDINGS):
        return True
    return (short[-1:], long[len(short) - 1 :]) in (("y", "ies"), ("e", "ing"))


def _is_word(key: str) -> bool:
    return key[:1].isalnum()


def _readable(key: str, activity: Activity) -> str:
    if _is_word(key):
        return activity.written(key)
    return f"{key} ({unicodedata.name(key[0], 'sign').lower()})"
