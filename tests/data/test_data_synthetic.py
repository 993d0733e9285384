from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from ssae_debias.data import WordPairs, balanced, carriers, cells, synthetic_biographies, warn_if_determined
from ssae_debias.data.synthetic import _FIELDS, _sentences


@pytest.fixture(scope="module")
def task():
    return synthetic_biographies()


def test_every_group_is_large_enough_to_be_measured(task):
    assert len(task) == 2000
    assert min(len(rows) for rows in cells(task, splits=("dev", "test")).values()) >= 60
    train = task.rows("train")
    assert np.mean(task.y[train] == task.sensitive_features[train]) == pytest.approx(0.9)


def test_the_seed_decides_everything(task):
    again = synthetic_biographies()
    assert again.texts == task.texts
    assert again.y.tolist() == task.y.tolist()
    assert synthetic_biographies(random_state=1).texts != task.texts
    assert synthetic_biographies(random_state=np.random.default_rng(0)).texts == task.texts


def test_texts_are_distinct_and_whole(task):
    assert len(set(task.texts)) == len(task)
    for text in task.texts:
        assert not re.search(r"[{}|]|  |\ba [aeiou]", text), text
        assert text[0].isupper()
        assert text.endswith(".")
        assert 3 <= len(re.findall(r"(?<!Mr)(?<!Ms)(?<!St)\.(?: |$)", text)) <= 9


def test_no_single_word_gives_the_label_but_all_together_do(task):
    evaluation, train = balanced(task, splits=("dev", "test")), balanced(task, splits=("train",))
    counts = CountVectorizer(binary=True).fit_transform(task.texts)
    present, y = np.asarray(counts[evaluation].todense()), task.y[evaluation]
    agreement = (present == y[:, None]).mean(axis=0)
    assert np.maximum(agreement, 1 - agreement).max() < 0.75
    reader = LogisticRegression(max_iter=1000).fit(counts[train], task.y[train])
    assert reader.score(counts[evaluation], y) > 0.9


def test_the_profession_is_never_named(task):
    for text in task.texts:
        assert not re.search(r"\b(surgeons?|nurses?|nursing)\b", text, re.IGNORECASE)


def test_the_attribute_lies_in_its_carriers_alone(task):
    """Without the carriers' words the two sides of the attribute read the same."""
    known = {word.lower() for kind, words in carriers().items() if kind != "hobbies" for word in words}
    hobbies = carriers()["hobbies"]
    stripped = []
    for text in task.texts:
        for hobby in hobbies:
            text = text.replace(hobby, "")
        stripped.append(
            " ".join(
                word
                for word in re.findall(r"[\w.]+", text.lower())
                if word.rstrip(".") + "." not in known and word.rstrip(".") not in known
            )
        )
    counts = CountVectorizer(binary=True).fit_transform(stripped)
    train, evaluation = balanced(task, splits=("train",)), balanced(task, splits=("dev", "test"))
    reader = LogisticRegression(max_iter=1000, C=0.1).fit(counts[train], task.sensitive_features[train])
    assert abs(reader.score(counts[evaluation], task.sensitive_features[evaluation]) - 0.5) < 0.07


def test_the_word_list_knows_the_gendered_words_of_the_texts_but_not_the_names():
    gender, known = WordPairs.gender(), carriers()
    for kind in ("pronouns", "titles", "nouns"):
        assert all(gender.count(word) == 1 for word in known[kind])
    assert sum(gender.count(word) for word in known["names"] + known["hobbies"]) == 0


def test_a_swap_turns_a_biography_over_but_for_its_name(task):
    gender = WordPairs.gender()
    for text, attribute in zip(task.texts, task.sensitive_features, strict=True):
        own, other = gender.sides(text)[attribute], gender.sides(text)[1 - attribute]
        allowed = len(re.findall(r"\b(wife|husband|son|daughter)\b", text))
        assert other <= allowed, text
        assert own + other == sum(gender.sides(gender.swap(text)))


def test_every_profession_has_sentences_and_makes_a_task():
    assert len(_FIELDS) >= 6
    task = synthetic_biographies(300, professions=tuple(_FIELDS)[:7], correlation=0.5, random_state=3)
    assert len(task.group_names()) == 14
    for profession, field in _FIELDS.items():
        assert len(_sentences()["work", profession]) >= 8
        assert len(_sentences()["field", field]) >= 8


def test_the_correlation_reaches_both_ends():
    full = synthetic_biographies(200, correlation=1)
    train = full.rows("train")
    with pytest.warns(UserWarning, match="counterfactual"):
        warn_if_determined(full.y[train], full.sensitive_features[train])
    none = synthetic_biographies(200, correlation=0.5)
    assert none.cell_counts()["train"].nunique() == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"professions": ("surgeon", "astronaut")}, "unknown professions"),
        ({"professions": ("nurse",)}, "two or more"),
        ({"professions": "nurse"}, "two or more"),
        ({"correlation": 1.2}, "correlation"),
        ({"n": 10}, "n must be at least 40"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        synthetic_biographies(**arguments)


def test_data_needs_no_torch():
    heavy = "('torch', 'transformers', 'datasets')"
    code = f"import sys, ssae_debias.data; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
