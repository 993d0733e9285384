"""A made-up evaluation, complete in every part, for trying out the page without a model.

Its figures are invented to look like an evaluation on physics abstracts; the page says so.
"""

from __future__ import annotations

from ssae_debias.report.evaluation import example_latents, example_shape, example_tail
from ssae_debias.report.evaluation.content import Claim, EvaluationContent
from ssae_debias.report.evaluation.example_made import VARIANTS


def example_evaluation() -> EvaluationContent:
    """A whole evaluation with invented figures.

    Examples
    --------
    >>> content = example_evaluation()
    >>> content.variants[:3], len(content.tables)
    (['general', 'bm25', 'dense'], 18)
    """
    recall = example_tail.concepts()
    return EvaluationContent(
        title="SAEs for physics: example evaluation",
        summary=(
            "The figures on this page are invented. They show what a page looks like.",
            "SAEs were trained on general text and on text that was retrieved around a few physics abstracts, by four "
            "strategies, and one with tilted risk. All were measured on held-out abstracts and on general text.",
        ),
        facts={
            "model": "pythia-70m-deduped",
            "site": "resid.3",
            "latents": 16384,
            "corpora": {
                "subdomain, measured": "2,000,000 tokens",
                "general, measured": "2,000,000 tokens",
                "retrieved": 25000,
            },
            "runtime": "41 min on one H100",
        },
        seeds=(0, 1, 2),
        versions={"python": "3.11.9", "ssae-debias": "0.1.0", "torch": "2.13.0"},
        recipe={
            "model": "EleutherAI/pythia-70m-deduped",
            "site": "resid.3",
            "k": [16, 32, 64, 128],
            "seeds": [0, 1, 2],
        },
        notes=(
            "One model and one subdomain: nothing is known of others.",
            "The loaded SAE was trained on other text, by others.",
        ),
        seconds={
            "training": 1520.0,
            "fidelity": 310.4,
            "tail": 141.0,
            "concept recall": 233.9,
            "circuit": 61.7,
        },
        claims=(
            Claim(
                "SAEs of retrieved text have latents for rarer concepts than general ones.",
                "holds",
                "F1 one half at a frequency of 4·10⁻⁵ (dense) against 1.3·10⁻⁴ (general); intervals apart.",
                "figures 1 and 2",
            ),
            Claim(
                "Tilted risk lowers the maximum error on rare tokens.",
                "holds",
                "0.93 against 1.22 of the variance beyond rank 1,000.",
                "figure 3",
            ),
            Claim(
                "Re-ranking by SAE-TracIn beats dense retrieval.",
                "unclear",
                "32.1 % against 29.2 % of tail types; intervals meet.",
                "figure 9",
            ),
            Claim(
                "Training on the seeds alone generalises as well.",
                "does not hold",
                "Perplexity 5 % above the base's at every L0.",
                "figure 12",
            ),
        ),
        variants=[name for name, *_ in VARIANTS],
        base="general",
        tables={
            "fidelity": example_tail.fidelity(),
            "coverage": example_tail.coverage(),
            "cumulative": example_tail.cumulative(),
            "tail": example_tail.tail(),
            "rank_error": example_tail.rank_error(),
            "recall": recall,
            "recall_by_frequency": example_tail.recall_ranges(recall),
            "entropy": example_shape.entropy(),
            "maximum": example_shape.maximum(),
            "shape": example_shape.shape(),
            "counts": example_shape.counts(),
            "log_ratio": example_shape.log_ratio(),
            "cosines": example_shape.cosines(),
            "largest": example_shape.largest(),
            "umap": example_latents.umap(),
            "interpretability": example_latents.interpretability(),
            "diversity": example_latents.diversity(),
            "error_term": example_latents.error_term(),
        },
        circuits={"dense, tilt 3": example_latents.circuit()},
    )
