"""Synthetic biographies: an embedded task, with no download and no real person in it.

Each text is put together from sentences about origin, training, work, home and leisure. *The label* (a
profession) shows in the work sentences alone, which share their words with neighbouring professions
(surgeons and nurses both have patients, wards and operating rooms), so that no single word decides. *The
attribute* (gender) shows in words that are known, see `carriers`: pronouns, titles, nouns, first names,
and, as a hint only, hobbies. In the train split both go together with a chosen probability; dev and test
hold all groups equally, so that the worst group can be measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from ssae_debias.data.randomness import RandomState, as_generator
from ssae_debias.data.resources import read_resource
from ssae_debias.data.task import Task

ATTRIBUTES = ("M", "F")

# Slots in order with the chance that a text has them; the first work sentence is always there, and always
# its own.
_PLAN = (
    ("opening", 0.6),
    ("training", 0.5),
    ("work", 1.0),
    ("work", 0.9),
    ("field", 0.6),
    ("work", 0.5),
    ("home", 0.45),
    ("leisure", 0.45),
    ("closing", 0.4),
)

# A further work sentence comes this often from a neighbouring profession: careers are not pure.
BORROWED = 0.2

# A hobby leans to one side only this often, and is neutral else: a carrier that no word list knows.
LEANING = 0.7

_FIELDS = {
    "surgeon": "health",
    "nurse": "health",
    "dentist": "health",
    "physician": "health",
    "professor": "learning",
    "teacher": "learning",
    "attorney": "public",
    "journalist": "public",
    "software_engineer": "projects",
    "architect": "projects",
    "photographer": "projects",
}

PROFESSIONS_KNOWN = tuple(_FIELDS)

_GENDERED: dict[str, dict[str, tuple[str, str]]] = {
    "pronouns": {
        "he": ("he", "she"),
        "him": ("him", "her"),
        "his": ("his", "her"),
        "himself": ("himself", "herself"),
    },
    "titles": {"title": ("Mr.", "Ms.")},
    "nouns": {
        "man": ("man", "woman"),
        "child": ("boy", "girl"),
        "spouse": ("wife", "husband"),
        "parent": ("father", "mother"),
        "sibling": ("brother", "sister"),
    },
}


def synthetic_biographies(
    n: int = 2000,
    *,
    professions: Sequence[str] = ("surgeon", "nurse"),
    correlation: float = 0.9,
    random_state: RandomState = 0,
) -> Task:
    """Task of made-up biographies with a profession as label and gender as attribute.

    Parameters
    ----------
    n : int, default=2000
        Number of texts, about: 60 % train, 20 % dev, 20 % test, rounded so that every label has as many.
    professions : sequence of str, default=("surgeon", "nurse")
        Two or more of surgeon, nurse, dentist, physician, professor, teacher, attorney, journalist,
        software_engineer, architect, photographer. Labels 0, 2, … go with attribute 0 (M), labels 1, 3, …
        with 1 (F).
    correlation : float, default=0.9
        Share of each label's train texts whose attribute is the one that goes with it. At .5 they are
        independent; at 1 the attribute determines the label. dev and test hold every group equally often.
    random_state : int, Generator, RandomState or None, default=0
        Seeds everything.

    Returns
    -------
    Task
        Distinct texts of three to nine sentences, shuffled within train, dev and test.

    Raises
    ------
    ValueError
        An unknown profession, fewer than two, `correlation` outside [0, 1], or `n` too small to fill every
        group of dev and test.

    Notes
    -----
    The correlation, the share of leaning hobbies (.7) and all sentences are our choice; the
    texts are for tests, demonstrations and recovering a known truth, and say nothing about people.

    Examples
    --------
    >>> task = synthetic_biographies(400, professions=("attorney", "photographer"))
    >>> len(task), task.group_names()
    (400, ('attorney/M', 'attorney/F', 'photographer/M', 'photographer/F'))
    """
    professions = tuple(professions) if not isinstance(professions, str) else (professions,)
    unknown = [profession for profession in professions if profession not in _FIELDS]
    if unknown:
        raise ValueError(f"unknown professions {unknown}; known are {', '.join(_FIELDS)}.")
    if len(set(professions)) < max(2, len(professions)):
        raise ValueError(f"professions must be two or more different ones, got {professions}.")
    if not 0 <= correlation <= 1:
        raise ValueError(f"correlation must lie in [0, 1], got {correlation}.")
    n_groups = len(professions) * len(ATTRIBUTES)
    if n < 10 * n_groups:
        raise ValueError(f"n must be at least {10 * n_groups} for {len(professions)} professions, got {n}.")

    rng = as_generator(random_state)
    per_label, per_group = round(0.6 * n / len(professions)), round(0.2 * n / n_groups)
    stereotyped = round(correlation * per_label)
    rows: list[tuple[str, int, int]] = []
    for split, of_stereotype, of_other in (
        ("train", stereotyped, per_label - stereotyped),
        ("dev", per_group, per_group),
        ("test", per_group, per_group),
    ):
        part = [
            (split, label, attribute)
            for label in range(len(professions))
            for attribute in range(len(ATTRIBUTES))
            for _ in range(of_stereotype if attribute == label % len(ATTRIBUTES) else of_other)
        ]
        rows += [part[i] for i in rng.permutation(len(part))]

    texts: dict[str, None] = {}
    for _, label, attribute in rows:
        wanted = len(texts) + 1
        while len(texts) < wanted:
            texts[biography(professions[label], attribute, rng)] = None
    return Task(
        tuple(texts),
        np.array([label for _, label, _ in rows]),
        np.array([attribute for *_, attribute in rows]),
        np.array([split for split, *_ in rows]),
        professions,
        ATTRIBUTES,
        f"synthetic {'/'.join(professions)}",
    )


def carriers() -> dict[str, tuple[str, ...]]:
    """Words of the synthetic biographies that carry the attribute: the truth that a method should find.

    Returns
    -------
    dict of str to tuple of str
        By kind: "pronouns", "titles", "nouns", "names", and "hobbies", which only lean to one side.

    Examples
    --------
    >>> carriers()["pronouns"]
    ('he', 'she', 'him', 'her', 'his', 'himself', 'herself')
    """
    found = {
        kind: tuple(dict.fromkeys(word for pair in pairs.values() for word in pair))
        for kind, pairs in _GENDERED.items()
    }
    found["names"] = tuple(words()["name_M"] + words()["name_F"])
    found["hobbies"] = tuple(words()["leaning_M"] + words()["leaning_F"])
    return found


def biography(profession: str, attribute: int, rng: np.random.Generator) -> str:
    """One text about a made-up person of a profession and an attribute (0 M, 1 F)."""
    plan: list[tuple[str, str]] = []
    while len(plan) < 3:
        plan = _planned(profession, rng)
    person = _Person(attribute, rng)
    used: list[str] = []
    for key in plan:
        used.append(pick([sentence for sentence in _sentences()[key] if sentence not in used], rng))
    return " ".join(sentence.format_map(person) for sentence in used)


def _planned(profession: str, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Slots of one text with what each is about."""
    field = _FIELDS[profession]
    neighbours = [other for other, its_field in _FIELDS.items() if its_field == field and other != profession]
    plan = []
    for slot, chance in _PLAN:
        if rng.random() < chance:
            borrowed = slot == "work" and chance < 1 and rng.random() < BORROWED
            source = pick(neighbours, rng) if borrowed else profession
            plan.append((slot, {"work": source, "field": field}.get(slot, "any")))
    return plan


class _Person(dict[str, str]):
    """Words for the slots of one text: those about its person are fixed, all others drawn at each use.

    How often the person is called by last name alone, where a pronoun, title or first name could open the
    sentence, differs from person to person: some texts shout the attribute, some hardly whisper it.
    """

    def __init__(self, attribute: int, rng: np.random.Generator) -> None:
        pairs = {slot: pair[attribute] for kind in _GENDERED.values() for slot, pair in kind.items()}
        super().__init__(pairs)
        self["His"] = pairs["his"].capitalize()
        self._last = pick(words()["last"], rng)
        first = pick(words()[f"name_{ATTRIBUTES[attribute]}"], rng)
        self._gendered = {
            "He": pairs["he"].capitalize(),
            "first": first,
            "formal": f"{pairs['title']} {self._last}",
        }
        self._attribute, self._rng = attribute, rng
        self._shown = rng.random()
        self._drawn: set[str] = set()

    def __missing__(self, slot: str) -> str:
        if slot in self._gendered:
            return self._gendered[slot] if self._rng.random() < self._shown else self._last
        kind = slot.rstrip("2")
        if kind == "leaning":
            leans = self._rng.random() < LEANING
            kind = f"leaning_{ATTRIBUTES[self._attribute]}" if leans else "hobby"
        fresh = [word for word in words()[kind] if word not in self._drawn]
        word = pick(fresh or words()[kind], self._rng)
        self._drawn.add(word)
        return word


def pick(options: Sequence[str], rng: np.random.Generator) -> str:
    """One of some options, each as likely."""
    return options[int(rng.integers(len(options)))]


@cache
def words() -> dict[str, list[str]]:
    """What may stand in each slot of a sentence."""
    return {row["slot"]: row["words"].split("|") for row in read_resource("synthetic_words.tsv")}


@cache
def _sentences() -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for row in read_resource("synthetic_sentences.tsv"):
        found.setdefault((row["slot"], row["about"]), []).append(row["sentence"])
    return found
