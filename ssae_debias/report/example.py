"""A made-up report, complete in every part, for trying out the page without a model.

Its figures are invented to look like a run on surgeon/nurse biographies; the page says so.
"""

from __future__ import annotations

import math
import re

import pandas as pd

from ssae_debias.report.content import Estimate, MethodRow, ReportContent, SiteTraining

GROUPS = {"surgeon/M": 1245, "surgeon/F": 196, "nurse/M": 99, "nurse/F": 1015}

# method, needs labels, worst group, task, attribute, leak to a linear and an MLP probe, half width, seconds
FIGURES = (
    ("original", False, 0.323, 0.707, 0.763, 0.931, 0.940, 0.031, 0.4),
    ("debiaser", False, 0.694, 0.838, 0.541, 0.742, 0.791, 0.042, 148.2),
    ("debiaser_retrain", False, 0.781, 0.872, 0.538, 0.742, 0.791, 0.035, 149.0),
    ("delete_words", False, 0.827, 0.889, 0.545, 0.868, 0.881, 0.028, 61.3),
    ("random_latents", False, 0.330, 0.709, 0.761, 0.928, 0.939, 0.037, 146.9),
    ("leace", True, 0.598, 0.770, 0.326, 0.502, 0.684, 0.044, 1.1),
    ("leace_given_y", True, 0.857, 0.889, 0.525, 0.531, 0.702, 0.022, 1.2),
    ("reweighting", True, 0.798, 0.886, 0.563, 0.931, 0.940, 0.030, 0.6),
    ("oracle", True, 0.872, 0.899, 0.500, 0.931, 0.940, 0.019, 0.5),
)

TEXTS = (
    "After her residency in Leeds, Mrs. Okonjo returned to the ward where she had trained as a sister.",
    "She is a member of the Women's Health Network and lives with her husband and two dogs.",
    "Before medical school he rowed for his college; his brothers still tease him about it.",
    "Mr. Lindqvist is chairman of the burns unit, where he received his fellowship, and a father of three.",
    "As a nurse practitioner at the bedside for a decade, Dana received her nursing degree in Ohio.",
    "A midwife before she turned to gynaecology, Dr. Abara writes on the care of older women.",
)

# site, latent, decision, response, effect, q, frequency, and its activation on words
LATENTS: tuple[tuple[str, int, str, float, float, float, float, dict[str, float]], ...] = (
    ("embed", 118, "ablate", 2.91, 1.84, 1e-12, 0.041, {"she": 4.4, "her": 4.1, "mrs": 3.0, "women": 0.6}),
    (
        "embed",
        402,
        "ablate",
        1.77,
        1.02,
        4e-9,
        0.006,
        {"husband": 3.2, "sister": 2.6, "father": 2.1, "brothers": 1.7},
    ),
    (
        "resid.1",
        57,
        "ablate",
        1.12,
        0.93,
        2e-7,
        0.013,
        {"women": 2.8, "midwife": 2.4, "gynaecology": 1.3, "her": 0.5},
    ),
    (
        "resid.1",
        893,
        "ablate",
        -1.58,
        -1.21,
        3e-10,
        0.038,
        {"mr": 3.6, "he": 3.1, "his": 2.9, "chairman": 1.4},
    ),
    (
        "resid.3",
        12,
        "ablate",
        0.96,
        0.71,
        6e-5,
        0.022,
        {"she": 2.2, "received": 1.1, "her": 1.9, "nursing": 0.8},
    ),
    (
        "resid.3",
        640,
        "keep",
        0.21,
        0.64,
        2e-3,
        0.054,
        {"nurse": 3.3, "practitioner": 2.7, "ward": 2.0, "bedside": 1.6},
    ),
)


# A latent's name, what a person noted on it, and its nearest others
NAMES = {
    ("embed", 118): "she / her",
    ("embed", 402): "family members",
    ("resid.1", 57): "women",
    ("resid.1", 893): "Mr. / he",
    ("resid.3", 12): "a woman's career",
    ("resid.3", 640): "nursing",
}
NOTES = {("resid.3", 640): "Fires on the profession itself, in texts about men too."}
NEAREST = {
    ("embed", 118): [("embed", 402, 0.41, "family members"), ("embed", 871, 0.38, "")],
    ("resid.1", 57): [("resid.1", 1204, 0.52, "midwives"), ("resid.1", 893, 0.33, "Mr. / he")],
    ("resid.1", 893): [("resid.1", 57, 0.33, "women")],
    ("resid.3", 12): [("resid.3", 640, 0.47, "nursing"), ("resid.3", 77, 0.35, "training")],
    ("resid.3", 640): [("resid.3", 12, 0.47, "a woman's career"), ("resid.3", 902, 0.44, "hospital wards")],
}
SAES = {"embed": "7c1f0a9be2d34456", "resid.1": "0b8d3c55a1f2e977", "resid.3": "e94a6617c0d21b38"}


def example_content() -> ReportContent:
    """A whole report with invented figures.

    Examples
    --------
    >>> content = example_content()
    >>> len(content.rows), len(content.flagged)
    (9, 6)
    """
    return ReportContent(
        title="Surgeon or nurse: example report",
        summary=(
            "A probe on the activations of a small sentence encoder learned surgeon against nurse from "
            "skewed biographies and leans on gender.",
            "Sparse autoencoders were trained on gendered text at three sites. Latents that answer to "
            "swapped word pairs were flagged, without group labels, and ablated inside the model.",
        ),
        rows=[_row(*figures) for figures in FIGURES],
        sets={"train": 3832, "ambiguous": 3170, "balanced train": 600, "evaluation": 2555, "balanced": 396},
        seeds=[0, 1, 2, 3, 4],
        versions={"python": "3.12.4", "ssae-debias": "0.1.0", "torch": "2.6.0", "transformers": "4.57.1"},
        recipe={
            "data": {"source": "table", "text": "text", "label": "profession", "attribute": "gender"},
            "model": "demo",
            "sites": ["embed", "resid.1", "resid.3"],
            "sae": {"architecture": "batchtopk", "d_sae": 3072, "k": 32, "tilt": 1.0},
            "flag": {"rule": "counterfactual", "q": 0.01},
        },
        flagged=_flagged(),
        notes=["All figures and texts on this page are invented; they show what a report looks like."],
        subdomain={
            "documents": list(TEXTS),
            "stats": {"retriever": "bm25", "documents": 4000, "of a corpus of": 16037, "tokens": 412338},
        },
        saes=SAES,
        training={site: _training(offset) for offset, site in enumerate(("embed", "resid.1", "resid.3"))},
    )


def _row(
    method: str,
    labels: bool,
    worst: float,
    task: float,
    attribute: float,
    linear: float,
    mlp: float,
    half: float,
    seconds: float,
) -> MethodRow:
    # Groups that the skewed training data serves well sit near the top, the others near the worst group.
    levels = {"surgeon/M": 0.93, "surgeon/F": worst + 0.05, "nurse/M": worst, "nurse/F": 0.95}
    return MethodRow(
        method=method,
        needs_group_labels=labels,
        task_accuracy=_around(task, half / 3),
        attribute_accuracy=_around(attribute, half / 3),
        worst_group_accuracy=_around(worst, half),
        groups={
            name: {"accuracy": _around(level, 1 / math.sqrt(GROUPS[name]) / 2.5), "n": GROUPS[name]}
            for name, level in levels.items()
        },
        leakage={"linear": _around(linear, 0.012), "mlp": _around(mlp, 0.016)},
        seconds=seconds,
    )


def _around(mean: float, half: float) -> Estimate:
    return Estimate(mean, round(mean - half, 6), round(min(1.0, mean + half), 6))


def _flagged() -> pd.DataFrame:
    reasons = {
        "ablate": "answers to swapped word pairs (q below 0.01)",
        "keep": f"decided by a person: {NOTES['resid.3', 640]}",
    }
    records = []
    for site, latent, decision, response, effect, q, frequency, words in LATENTS:
        fired = [(text, _fired(text, words)) for text in TEXTS]
        fired.sort(key=lambda pair: -max(value for _, value in pair[1]))
        records.append(
            {
                "site": site,
                "latent": latent,
                "name": NAMES[site, latent],
                "decision": decision,
                "reason": reasons[decision],
                "note": NOTES.get((site, latent), ""),
                "response": response,
                "response_effect": effect,
                "response_q": q,
                "frequency": frequency,
                "top_tokens": list(words),
                "top_texts": fired[:3],
                "nearest": NEAREST.get((site, latent), []),
            }
        )
    return pd.DataFrame(records)


def _fired(text: str, words: dict[str, float]) -> list[tuple[str, float]]:
    """The text as an uncased tokenizer cuts it, with the activation of each token."""
    return [(token, words.get(token, 0.0)) for token in re.findall(r"\w+|[^\w\s]", text.lower())]


def _training(offset: int) -> SiteTraining:
    history = [
        {
            "step": float(step),
            "fvu": 0.12 + 0.05 * offset + 0.7 * math.exp(-step / 220),
            "l0": 32 + 40 * math.exp(-step / 150) + 1.5 * offset,
            "dead_fraction": 0.04 + 0.02 * offset + 0.3 * (step / 300) * math.exp(1 - step / 300) * 0.6,
        }
        for step in range(0, 2001, 50)
    ]
    last = history[-1]
    return {"fvu": last["fvu"], "l0": last["l0"], "dead_fraction": last["dead_fraction"], "history": history}
