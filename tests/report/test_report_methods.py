from __future__ import annotations

import pytest

from ssae_debias.recipe import METHODS as RUN
from ssae_debias.report.marks import LONGEST_NAME
from ssae_debias.report.methods import METHODS, describe

TWINS = (
    "debiaser", "debiaser_given_labels", "gsae", "ssae", "gsae_slice", "ssae_slice", "latents_only", "embed_only",
    "average_pairs",
    "swap_mean", "swap_projection", "words_given_y",
)  # fmt: skip
SINGLE = (
    "original", "cbp", "random_latents", "neuron_skyline", "latent_skyline", "delete_words", "swap_augmentation", "leace",
    "leace_kept", "leace_given_y", "leace_given_y_kept", "inlp", "correlation_remover", "reweighting", "dfr",
    "select_and_project", "oracle",
)  # fmt: skip
NAMES = sorted({*SINGLE, *TWINS, *(f"{name}_retrain" for name in TWINS), *RUN})


@pytest.mark.parametrize("name", NAMES)
def test_every_row_of_a_table_has_a_name_that_fits_and_a_sentence(name: str) -> None:
    method = describe(name)
    assert method.label != name
    assert len(method.label) <= LONGEST_NAME
    assert method.description.endswith(".")
    assert method.description.count(".") == 1


def test_no_two_rows_are_called_the_same_or_described_the_same() -> None:
    assert len({describe(name).label for name in NAMES}) == len(NAMES)
    assert len({describe(name).description for name in NAMES}) == len(NAMES)


def test_a_row_says_what_becomes_of_the_classifier() -> None:
    for name in TWINS:
        assert describe(name).description.endswith("; the classifier is kept.")
        assert describe(f"{name}_retrain").description.endswith("; the classifier is fitted again.")
        assert describe(f"{name}_retrain").role == describe(name).role


@pytest.mark.parametrize(
    ("role", "names"),
    [
        ("start", {"original"}),
        ("ours", {"debiaser", "debiaser_given_labels", "debiaser_reweighted"}),
        (
            "published",
            {"cbp", "gsae", "ssae", "gsae_slice", "ssae_slice", "neuron_skyline", "latent_skyline"},
        ),
        ("control", {"random_latents"}),
        ("ceiling", {"oracle"}),
    ],
)
def test_roles(role: str, names: set[str]) -> None:
    assert {name for name, method in METHODS.items() if method.role == role} == names
