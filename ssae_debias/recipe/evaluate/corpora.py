"""The texts of an evaluation: a general corpus with some of the subdomain in it, seeds, and texts to measure on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssae_debias.data import synthetic_biographies, synthetic_corpus
from ssae_debias.data.columns import check_column, rows_with
from ssae_debias.data.sources import read_frame
from ssae_debias.metrics.concept_recall import plant
from ssae_debias.recipe.evaluate.schema import EvaluateRecipe, GeneralSpec, SubdomainSpec
from ssae_debias.retrieval import sample_documents

TEST_OCCURRENCES = 40
"""Of a planted word among the test texts: twenty a half, enough for an F1 to mean something."""
CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"


@dataclass(frozen=True)
class Labelled:
    """Texts, with what is known of them.

    Attributes
    ----------
    texts : list of str
    labels, attribute : ndarray of object, shape (n,), or None
        None where a text has none.
    """

    texts: list[str]
    labels: NDArray[Any] | None = None
    attribute: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def rows(self, rows: NDArray[np.int64]) -> Labelled:
        """Some of them."""
        return Labelled(
            [self.texts[row] for row in rows],
            None if self.labels is None else self.labels[rows],
            None if self.attribute is None else self.attribute[rows],
        )


@dataclass(frozen=True)
class Corpora:
    """What an evaluation reads.

    Attributes
    ----------
    general : list of str
        SAEs are trained on these, and subdomains retrieved from them.
    carriers : ndarray of int64
        Rows of `general` that are known to be of the subdomain.
    general_test : list of str
    seeds, test : Labelled
        Of the subdomain, in neither of the others.
    planted : dict of str to float
        Made-up words and their frequency in the carriers.
    """

    general: list[str]
    carriers: NDArray[np.int64]
    general_test: list[str]
    seeds: Labelled
    test: Labelled
    planted: Mapping[str, float]


def load_corpora(recipe: EvaluateRecipe) -> Corpora:
    """The texts that a recipe names.

    Raises
    ------
    FileNotFoundError, ValueError
        A file or column that there is not, a pattern that too few texts match, or too few texts.
    """
    spec, random = recipe.subdomain, np.random.default_rng(recipe.general.random_state)
    pool = general_texts(recipe.general, extra=0 if spec.path or spec.pattern is None else spec.n_test)
    own, inside = _subdomain(spec, pool)
    order = random.permutation(len(own))
    wanted = spec.n_seeds + spec.n_test
    if len(own) < wanted:
        where = (
            f"match {spec.pattern!r}"
            if spec.pattern and spec.path is None
            else f"are in {spec.path or 'the made-up subdomain'}"
        )
        raise ValueError(
            f"The subdomain needs n_seeds={spec.n_seeds} and n_test={spec.n_test} texts; {len(own)} {where}. "
            "Lower them, or give more texts."
        )
    seeds, test, rest = np.split(order, [spec.n_seeds, wanted])
    if inside is None:
        taken = rest[: spec.n_in_general]
        if len(taken) < spec.n_in_general:
            raise ValueError(
                f"subdomain.n_in_general={spec.n_in_general}, but {len(taken)} of {len(own)} texts are left after "
                f"{wanted} seeds and test texts."
            )
        held, general = _held_out(pool, recipe.general.n_test, random)
        mixed = [(text, False) for text in general] + [(own.texts[row], True) for row in taken]
    else:
        chosen = set(inside[order[:wanted]].tolist())
        members = set(inside.tolist())
        others = [(text, row in members) for row, text in enumerate(pool) if row not in chosen]
        held, mixed = _held_out(others, recipe.general.n_test, random)
        held = [text for text, _ in held]
    mixed = [mixed[row] for row in random.permutation(len(mixed))]
    found = Corpora(
        general=[text for text, _ in mixed],
        carriers=np.flatnonzero([carries for _, carries in mixed]),
        general_test=held,
        seeds=own.rows(seeds),
        test=own.rows(test),
        planted={},
    )
    return _with_planted(found, recipe) if recipe.concepts.planted else found


def general_texts(spec: GeneralSpec, *, extra: int = 0) -> list[str]:
    """Texts of the general corpus, each once, at most `n_texts` and the test texts."""
    wanted = spec.n_texts + spec.n_test + extra
    if not spec.paths:
        return list(dict.fromkeys(synthetic_corpus(wanted, random_state=spec.random_state)))
    texts: list[str] = []
    for path in spec.paths:
        file = Path(path)
        if not file.is_file():
            raise FileNotFoundError(f"general.paths: there is no file {path}.")
        frame = read_frame(file, spec.text)
        check_column(spec.text, list(frame.columns))
        texts += [text for text in frame[spec.text] if isinstance(text, str) and text.strip()]
    return sample_documents(
        list(dict.fromkeys(texts)), min(wanted, len(texts)), random_state=spec.random_state
    ).texts


def _subdomain(spec: SubdomainSpec, pool: Sequence[str]) -> tuple[Labelled, NDArray[np.int64] | None]:
    """The subdomain's texts, and where they stand in the pool if they are of it."""
    if spec.path is None and spec.pattern is None:
        n = spec.n_seeds + spec.n_test
        task = synthetic_biographies(max(2 * n, 200), correlation=0.5, random_state=1)
        names = np.array(task.label_names, dtype=object), np.array(task.attribute_names, dtype=object)
        return Labelled(list(task.texts), names[0][task.y], names[1][task.sensitive_features]), None
    if spec.path is None:
        assert spec.pattern is not None
        pattern = re.compile(spec.pattern, re.IGNORECASE)
        inside = np.array([row for row, text in enumerate(pool) if pattern.search(text)], dtype=np.int64)
        texts = [pool[row] for row in inside]
        return Labelled(texts, _labels(texts, spec.labels_in)), inside
    file = Path(spec.path)
    if not file.is_file():
        raise FileNotFoundError(f"subdomain.path: there is no file {spec.path}.")
    frame = read_frame(file, spec.text)
    for column in filter(None, (spec.text, spec.label, spec.attribute)):
        check_column(column, list(frame.columns))
    for column, values in spec.where.items():
        frame = rows_with(frame, column, values)
    keep = frame[spec.text].map(lambda text: isinstance(text, str) and bool(text.strip()))
    if spec.pattern is not None:
        keep &= frame[spec.text].astype(str).str.contains(spec.pattern, case=False, regex=True)
    frame = frame[keep].drop_duplicates(spec.text)
    texts = frame[spec.text].tolist()
    labels = _labels(texts, spec.labels_in) if spec.label is None else _objects(frame[spec.label])
    return Labelled(texts, labels, None if spec.attribute is None else _objects(frame[spec.attribute])), None


def _objects(column: Any) -> NDArray[Any]:
    return np.array([None if value != value else str(value) for value in column], dtype=object)


def _labels(texts: Sequence[str], patterns: Mapping[str, str] | None) -> NDArray[Any] | None:
    if patterns is None:
        return None
    compiled = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in patterns.items()}
    said = [[name for name, pattern in compiled.items() if pattern.search(text)] for text in texts]
    return np.array([names[0] if len(names) == 1 else None for names in said], dtype=object)


def _held_out(items: Sequence[Any], n: int, random: np.random.Generator) -> tuple[list[Any], list[Any]]:
    if n >= len(items) - 1:
        raise ValueError(f"general.n_test={n} leaves nothing to train on of {len(items)} texts.")
    order = random.permutation(len(items))
    return [items[row] for row in order[:n]], [items[row] for row in np.sort(order[n:])]


def _with_planted(corpora: Corpora, recipe: EvaluateRecipe) -> Corpora:
    spec = recipe.concepts
    if not len(corpora.carriers):
        raise ValueError(
            "concepts.planted puts words into the subdomain's texts of the general corpus, and there are none: give "
            "subdomain.pattern, or subdomain.n_in_general with a file."
        )
    random = np.random.default_rng(recipe.general.random_state + 1)
    everything = "\n".join([*corpora.general, *corpora.test.texts, *corpora.general_test]).lower()
    general, carriers = list(corpora.general), [corpora.general[row] for row in corpora.carriers]
    test, planted = list(corpora.test.texts), {}
    within = 4 * recipe.max_length  # characters: not behind the cut
    for frequency in spec.planted:
        for _ in range(spec.planted_words):
            word = _made_up(random)
            while word in planted or word in everything:
                word = _made_up(random)
            carriers = plant(carriers, word, frequency, within=within, random_state=random)
            size = sum(len(text.split()) for text in test)
            often = min(max(frequency, TEST_OCCURRENCES / size), 0.02)
            test = plant(test, word, often, within=within, random_state=random)
            planted[word] = frequency
    for row, text in zip(corpora.carriers, carriers, strict=True):
        general[row] = text
    return replace(corpora, general=general, test=replace(corpora.test, texts=test), planted=planted)


def _made_up(random: np.random.Generator) -> str:
    return "".join(
        CONSONANTS[random.integers(len(CONSONANTS))] + VOWELS[random.integers(len(VOWELS))] for _ in range(3)
    )
