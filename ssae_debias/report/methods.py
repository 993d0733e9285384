"""What the methods are called on a page, and what part each plays.

A table of many methods is readable only if the reader knows which of them is the subject (`ours`), where it
started (`start`), what it competes with (`rival`; `published` for the rows of the SHIFT and SSAE papers, rebuilt),
what would show that it works by accident (`control`) and what no method can be blamed for missing (`ceiling`,
trained on balanced data). A part of ours that does as well alone counts as a rival.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ssae_debias.report.content import MethodRow

Role = Literal["start", "ours", "rival", "published", "control", "ceiling"]

COMPETITORS: tuple[Role, ...] = ("rival", "published")
"""Roles that ours is compared with."""


@dataclass(frozen=True)
class Method:
    """A method's name for readers, its role, and one sentence or two on what it does."""

    label: str
    role: Role
    description: str


KEPT, REFITTED = "; the classifier is kept.", "; the classifier is fitted again."

METHODS: dict[str, Method] = {
    "original": Method("Original model", "start", "The model as it came."),
    "debiaser": Method(
        "SSAE-debias", "ours", f"Flagged latents, and what they leave, are edited inside the model{KEPT}"
    ),
    "debiaser_reweighted": Method(
        "SSAE-debias + reweighting",
        "ours",
        "The same edit; the classifier is fitted again, with groups weighted to count alike.",
    ),
    "debiaser_given_labels": Method(
        "SSAE-debias + labels", "ours", f"Latents flagged by group labels are edited inside the model{KEPT}"
    ),
    "cbp": Method(
        "Concept bottleneck", "published", "The classifier sees only how near a text is to words of the task."
    ),
    "neuron_skyline": Method(
        "Neuron skyline",
        "published",
        f"Neurons that tell the attribute on balanced, labelled data are set to their means{KEPT}",
    ),
    "latent_skyline": Method(
        "Latent skyline",
        "published",
        f"Latents that tell the attribute on balanced, labelled data are ablated{KEPT}",
    ),
    "gsae": Method(
        "GSAE SHIFT",
        "published",
        f"Latents of general SAEs that sway the decision are judged and ablated{KEPT}",
    ),
    "ssae": Method(
        "SSAE SHIFT",
        "published",
        f"Latents of specialised SAEs that sway the decision are judged and ablated{KEPT}",
    ),
    "gsae_slice": Method(
        "1/8-width GSAE SHIFT", "published", f"SHIFT on an eighth of the general SAEs' latents{KEPT}"
    ),
    "ssae_slice": Method(
        "1/8-width SSAE SHIFT", "published", f"SHIFT on an eighth of the specialised SAEs' latents{KEPT}"
    ),
    "latents_only": Method(
        "Latents only", "rival", f"Flagged latents are edited, and nothing of what they leave{KEPT}"
    ),
    "embed_only": Method(
        "Embedding latents", "rival", f"Only flagged latents of the word embeddings are edited{KEPT}"
    ),
    "delete_words": Method(
        "Word deletion",
        "rival",
        f"The attribute's words are made neutral or taken out of the texts{REFITTED}",
    ),
    "average_pairs": Method(
        "Averaged word pairs", "rival", f"The model reads both words of a pair as their average{KEPT}"
    ),
    "swap_mean": Method(
        "Swap mean", "rival", f"Activations of a text and of its word-swapped twin are averaged{KEPT}"
    ),
    "swap_projection": Method(
        "Swap projection",
        "rival",
        f"Differences between a text and its word-swapped twin are projected out{KEPT}",
    ),
    "swap_augmentation": Method(
        "Swap augmentation", "rival", "The classifier is fitted on the texts and their word-swapped twins."
    ),
    "words_given_y": Method(
        "LEACE on word sides",
        "rival",
        f"Linear traces, within each label, of whose words a text holds more of are erased{KEPT}",
    ),
    "mean_projection": Method("Mean projection", "rival", "The attribute's mean direction is projected out."),
    "leace": Method("LEACE", "rival", f"Every linear trace of the attribute is erased{REFITTED}"),
    "leace_kept": Method("LEACE kept", "rival", f"Every linear trace of the attribute is erased{KEPT}"),
    "leace_given_y": Method(
        "LEACE given label",
        "rival",
        f"Linear traces of the attribute within each label are erased{REFITTED}",
    ),
    "leace_given_y_kept": Method(
        "LEACE given label kept",
        "rival",
        f"Linear traces of the attribute within each label are erased{KEPT}",
    ),
    "inlp": Method(
        "INLP",
        "rival",
        f"What probes for the attribute within each label read is projected out, round by round{REFITTED}",
    ),
    "correlation_remover": Method(
        "Correlation remover",
        "rival",
        f"Correlation with the attribute, as a probe reads it, is regressed out{REFITTED}",
    ),
    "select_and_project": Method(
        "Select and project",
        "rival",
        f"Encoder directions of latents tied to the attribute within each label are projected out{KEPT}",
    ),
    "reweighting": Method(
        "Group reweighting", "rival", "Training texts are weighted so that groups count alike."
    ),
    "dfr": Method(
        "Deep feature reweighting", "rival", "Classifiers are fitted on balanced draws and averaged."
    ),
    "random_latents": Method(
        "Random latents", "control", f"As many latents, drawn at random, are edited{REFITTED}"
    ),
    "oracle": Method(
        "Oracle", "ceiling", "Trained on data in which the attribute says nothing about the label."
    ),
}

RETRAINED = ("_retrain", "_retrained")


def describe(name: str) -> Method:
    """Look a method up; a name that is not listed stands for itself, as a rival (or ours, if ``debiaser…``).

    Examples
    --------
    >>> describe("leace_given_y").label
    'LEACE given label'
    >>> describe("swap_mean_retrain").label
    'Swap mean retrained'
    >>> describe("debiaser_tilted").role
    'ours'
    """
    if name in METHODS:
        return METHODS[name]
    for suffix in RETRAINED:
        base = METHODS.get(name.removesuffix(suffix))
        if name.endswith(suffix) and base:
            done = base.description.removesuffix(KEPT).removesuffix(REFITTED).removesuffix(".")
            return Method(f"{base.label} retrained", base.role, f"{done}{REFITTED}")
    return Method(name, "ours" if name.startswith("debiaser") else "rival", "")


def edit_name(name: str) -> str:
    """What is done to the activations, whatever classifier reads them.

    Examples
    --------
    >>> edit_name("debiaser_retrain"), edit_name("leace_kept"), edit_name("leace")
    ('debiaser', 'leace', 'leace')
    """
    for suffix in (*RETRAINED, "_kept"):
        name = name.removesuffix(suffix)
    return name


def subject(rows: Sequence[MethodRow]) -> MethodRow | None:
    """The row that a page is about: our best without group labels, for that is what the method promises.

    Where only rows of ours that were given group labels are at hand, it is the best of those.

    Examples
    --------
    >>> from ssae_debias.report import example_content
    >>> subject(example_content().rows).method
    'debiaser_retrain'
    """
    return best(rows, "ours", label_free=True) or best(rows, "ours")


def by_worst_group(rows: Sequence[MethodRow]) -> list[MethodRow]:
    """Rows from the best worst group to the lowest."""
    return sorted(rows, key=lambda row: -row.worst_group_accuracy.mean)


def best(rows: Sequence[MethodRow], *roles: Role, label_free: bool | None = None) -> MethodRow | None:
    """The row with the best worst group among some roles, or None where there is none.

    Parameters
    ----------
    rows : sequence of MethodRow
        Candidates.
    *roles : Role
        Roles to look among; none given means all but the ceiling, which is a yardstick and no method.
    label_free : bool or None, default=None
        True or False keeps only methods that work without, or only with, group labels.

    Examples
    --------
    >>> from ssae_debias.report import example_content
    >>> best(example_content().rows, "rival", label_free=True).method
    'delete_words'
    """
    wanted = roles or ("start", "ours", *COMPETITORS, "control")
    ranked = by_worst_group(
        [
            row
            for row in rows
            if describe(row.method).role in wanted
            and (label_free is None or row.needs_group_labels != label_free)
        ]
    )
    return ranked[0] if ranked else None
