"""Export of a fitted debiaser's model: `export_model`, with a card that says what was found and done, and to what effect.

The exported folder holds the whole edited language model and nothing of the debiaser; `save` keeps the debiaser.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from ssae_debias.activations.bundled import MINILM_NAME
from ssae_debias.edit.export import EXAMPLES, Exported, Facts, Fold, export_model, public_name
from ssae_debias.estimators.effect import EffectReport

if TYPE_CHECKING:
    from ssae_debias.estimators.text_debiaser import SSAEDebiaser

MAX_LATENTS = 40
"""Rows of the card's table of latents; the strongest are shown."""

_RULES = {
    "counterfactual": "they answer when the attribute's words are swapped in the texts",
    "association": "they go with the attribute within the classes of the label",
    "both": "they answer when the attribute's words are swapped, or go with the attribute within the label's classes",
}
_EDITS = {
    "zero": "set to zero, everything else of the activation kept",
    "mean": "set to their mean, everything else of the activation kept",
    "clamp": "set to their mean where they are active, everything else of the activation kept",
    "project": "removed from every token with the whole span of their directions",
}
_RESIDUE = {
    "realignment": "realignment: an affine map of every token at {site} that moves back what the edit moved by accident",
    "erasure": "erasure: a projection of every token at {site} that removes what still told the attribute apart within "
    "the classes of the label (LEACE)",
}


def export_debiaser(
    debiaser: SSAEDebiaser,
    path: str | os.PathLike[str],
    *,
    report: EffectReport | pd.DataFrame | Sequence[Mapping[str, Any]] | None = None,
    also: Sequence[str] = (),
    license: str | None = None,
    show_words: bool = True,
    fold: Fold = "writers",
    examples: Sequence[str] = EXAMPLES,
    max_shard_size: str | int = "5GB",
) -> Exported:
    """Write the edited model of a fitted debiaser as a folder that plain transformers loads.

    Parameters
    ----------
    debiaser : SSAEDebiaser
        Fitted.
    path : path-like
        A free path, or an earlier export, which is replaced.
    report : EffectReport, DataFrame or sequence of mapping, optional
        The before-and-after table of the model card. Without it the card says that nothing was measured.
    also : sequence of str, default=()
        Sentences on what else was changed in the model before it is written, for the card.
    license : str, optional
        The base model's licence as the hub writes it (`apache-2.0`); known for the bundled MiniLM.
    show_words : bool, default=True
        Whether the card shows the flagged latents' names and top tokens. They are words of the texts that were
        fitted on, and may hold somebody's name: False before publishing what private texts taught.
    fold, examples, max_shard_size
        See `export_model`.

    Returns
    -------
    Exported

    Raises
    ------
    FileExistsError, ValueError, RuntimeError, OSError
        As `export_model`.
    RuntimeError
        Inside `edited_model()`: the model that is read there is edited already.
    """
    debiaser._refuse_inside_edit()
    facts = facts_of(debiaser, report, license, show_words)
    return export_model(
        debiaser.model_,
        debiaser.edits_,
        path,
        facts=replace(facts, residue=[*facts.residue, *also]),
        fold=fold,
        examples=examples,
        max_shard_size=max_shard_size,
    )


def facts_of(
    debiaser: SSAEDebiaser, report: Any = None, license: str | None = None, show_words: bool = True
) -> Facts:
    """What the card tells of a fitted debiaser."""
    table = debiaser.flagged_[debiaser.flagged_["decision"] == "ablate"]
    shown = table if len(table) <= MAX_LATENTS else _strongest(table)
    limits = [
        f"The evidence comes from texts cut at {debiaser.max_length} tokens. What was learned for {debiaser.output_site_} "
        f"was learned on activations pooled over a text ({debiaser.pool})."
    ]
    if len(table) > len(shown):
        limits.append(f"The table shows {len(shown)} of {len(table)} flagged latents, the strongest.")
    if not debiaser.edits_:
        limits.append("No latent was flagged and nothing was erased: this is the base model.")
    return Facts(
        base_model=public_name(debiaser.model_),
        license=license or ("apache-2.0" if debiaser.model_.name == MINILM_NAME else None),
        attribute="the given groups" if debiaser.pairs_ is None else debiaser.pairs_.name,
        evidence=_evidence(debiaser, len(table)),
        latents=[_row(values, show_words) for values in shown.to_dict("records")],
        residue=[_RESIDUE[kind].format(site=debiaser.output_site_) for kind in debiaser.residue_],
        effect=effect_rows(report),
        effect_of=_measured_how(report),
        limits=limits,
    )


def effect_rows(report: Any) -> list[dict[str, Any]] | None:
    """Rows of the before-and-after table, from whatever holds them.

    Examples
    --------
    >>> effect_rows([{"classifier": "original", "worst group": 0.32}])
    [{'classifier': 'original', 'worst group': 0.32}]
    """
    if report is None:
        return None
    if isinstance(report, EffectReport):
        report = report.to_frame()
    if isinstance(report, pd.DataFrame):
        named = report.reset_index() if report.index.name or report.index.nlevels > 1 else report
        return [{str(key): value for key, value in row.items()} for row in named.to_dict("records")]
    rows = list(report)
    if not all(isinstance(row, Mapping) for row in rows):
        raise TypeError(
            "report must be an EffectReport, a DataFrame or a list of rows as {column: value}; got "
            f"{type(report).__name__} of {type(rows[0]).__name__}."
        )
    return [{str(key): value for key, value in row.items()} for row in rows]


def _measured_how(report: Any) -> str:
    if not isinstance(report, EffectReport):
        return ""
    n = max((groups.n for groups in report.groups.values()), default=0)
    return (
        f"Linear probes on pooled activations, trained and tested by cross-validation over {n} texts. Leakage is the "
        "balanced accuracy with which the attribute is read."
    )


def _evidence(debiaser: SSAEDebiaser, n: int) -> str:
    latents = sum(sae.d_sae for sae in debiaser.saes_.values())
    return (
        f"{n} of {latents} latents at {', '.join(debiaser.sites_)} were flagged because "
        f"{_RULES.get(debiaser.flag, debiaser.flag)} (effect of at least {debiaser.min_effect}, false discovery rate of "
        f"at most {debiaser.max_q}), or by a person. They are {_EDITS[debiaser.edit]}."
    )


def _strongest(table: pd.DataFrame) -> pd.DataFrame:
    return table.reindex(table["score"].abs().sort_values(ascending=False).index).head(MAX_LATENTS)


def _row(values: Mapping[Any, Any], show_words: bool) -> dict[str, Any]:
    row = {"site": values["site"], "latent": values["latent"]}
    if show_words:
        row |= {column: values[column] for column in ("name", "top_tokens") if column in values}
    if "top_tokens" in row:
        row["top tokens"] = " ".join(map(str, row.pop("top_tokens")))
    return {**row, "evidence": values.get("reason", "")}
