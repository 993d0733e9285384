"""Flagging: which latents are proposed for ablation, by which rule, and why.

A rule reads the evidence table and writes a decision (`ablate` or `keep`) and a reason beside each latent.
Rules differ in what they need: counterfactual pairs need no label at all; association within classes needs
the attribute, and the label too on confounded data; attribution needs a trained classifier. A person's
decisions come last and overrule any of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from ssae_debias.decisions import BY_A_PERSON, Decisions

Rule = Literal["counterfactual", "association", "both", "attribution"]
RULES: tuple[str, ...] = get_args(Rule)

_NEEDS = {
    "counterfactual": ("response_effect", "counterfactual pairs (an attribute described by word pairs)"),
    "association": (
        "attribute_effect",
        "sensitive_features of two values within some class of y (where there are none, counterfactual pairs need "
        "neither)",
    ),
    "attribution": ("attribution", "a classifier's decision to attribute"),
}


@dataclass(frozen=True)
class FlagRule:
    """How latents are chosen.

    Parameters
    ----------
    rule : {"counterfactual", "association", "both", "attribution"}, default="counterfactual"
        Which evidence decides. `both` takes what either of the first two flags. `attribution` is the
        published rule of SHIFT: effect above a threshold.
    min_effect : float, default=0.2
        Smallest absolute effect size (Cohen's d) for the first three; 0.2 is Cohen's "small". With thousands
        of texts a q-value alone flags differences that no edit needs to remove.
    max_q : float, default=0.01
        Largest false discovery rate.
    max_latents : int or None, default=None
        At most so many per site, strongest first.
    protect : float or None, default=None
        Keep a latent that carries the task more than the attribute: |label effect| > protect·|attribute
        effect|. Needs y and sensitive_features, neither of which determines the other.
    min_attribution : float, default=0.1
        T in SHIFT (Marks et al. 2025 use 0.1 for Pythia-70m); signed.

    Examples
    --------
    >>> import pandas as pd
    >>> evidence = pd.DataFrame(
    ...     {"site": "embed", "latent": [0, 1], "response_effect": [1.5, 0.01], "response_q": [0.0, 0.7]}
    ... )
    >>> FlagRule().decide(evidence)[["decision", "reason"]].values.tolist()
    [['ablate', 'responds to the swap: effect +1.50, q 0.0e+00'], ['keep', 'effect +0.01 below 0.2']]
    """

    rule: Rule = "counterfactual"
    min_effect: float = 0.2
    max_q: float = 0.01
    max_latents: int | None = None
    protect: float | None = None
    min_attribution: float = 0.1

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule must be one of {', '.join(RULES)}; got {self.rule!r}.")

    def decide(self, evidence: pd.DataFrame) -> pd.DataFrame:
        """Write a decision and a reason beside every latent.

        Parameters
        ----------
        evidence : DataFrame
            From `evidence_table`.

        Returns
        -------
        DataFrame
            The evidence with `score` (what the rule ranks by), `decision` and `reason`; strongest first
            within each site.

        Raises
        ------
        ValueError
            The evidence that the rule needs is not in the table; the message says what gives it.
        """
        parts = ("counterfactual", "association") if self.rule == "both" else (self.rule,)
        for part in parts:
            column, source = _NEEDS[part]
            if column not in evidence:
                raise ValueError(f"flag={self.rule!r} needs {source}, and did not get them.")
        verdicts = [self._judge(part, evidence) for part in parts]
        # of two rules the one that flags wins, then the one with the larger score
        passes = np.stack([v.passed for v in verdicts])
        eligible = passes | ~passes.any(axis=0)
        chosen = np.where(eligible, np.stack([v.score for v in verdicts]), -np.inf).argmax(axis=0)
        rows = np.arange(len(evidence))
        table = evidence.copy()
        table["score"] = np.stack([v.score for v in verdicts])[chosen, rows]
        passed = np.stack([v.passed for v in verdicts])[chosen, rows]
        table["decision"] = np.where(passed, "ablate", "keep")
        table["reason"] = np.stack([v.reason for v in verdicts])[chosen, rows]
        table = self._protect(table)
        table = table.sort_values(["score"], ascending=False, kind="stable")
        table = table.sort_values("site", key=lambda s: s.map(_first_seen(evidence["site"])), kind="stable")
        return self._cap(table).reset_index(drop=True)

    def _judge(self, part: str, evidence: pd.DataFrame) -> _Verdict:
        if part == "attribution":
            effect = evidence["attribution"].to_numpy(float)
            return _Verdict(
                effect,
                effect > self.min_attribution,
                np.array(
                    [f"attribution {e:+.3g}, threshold {self.min_attribution:g}" for e in effect],
                    dtype=object,
                ),
            )
        prefix, verb = {
            "counterfactual": ("response", "responds to the swap"),
            "association": ("attribute", "differs by attribute within classes"),
        }[part]
        effect = evidence[f"{prefix}_effect"].to_numpy(float)
        q = evidence[f"{prefix}_q"].to_numpy(float)
        strong, sure = np.abs(effect) >= self.min_effect, q <= self.max_q
        reason = [
            f"effect {e:+.2f} below {self.min_effect:g}"
            if not s
            else f"q {p:.1e} above {self.max_q:g}"
            if not c
            else f"{verb}: effect {e:+.2f}, q {p:.1e}"
            for e, p, s, c in zip(effect, q, strong, sure, strict=True)
        ]
        return _Verdict(np.abs(effect), strong & sure, np.array(reason, dtype=object))

    def _protect(self, table: pd.DataFrame) -> pd.DataFrame:
        if self.protect is None:
            return table
        if not {"label_effect", "attribute_effect"} <= set(table.columns):
            raise ValueError(
                "protect needs y and sensitive_features: it compares the task's effect with the attribute's."
            )
        task, attribute = table["label_effect"].abs(), table["attribute_effect"].abs()
        spared = (table["decision"] == "ablate") & (task > self.protect * attribute)
        table.loc[spared, "reason"] = [
            f"protected: carries the task ({t:.2f}) more than the attribute ({a:.2f})"
            for t, a in zip(task[spared], attribute[spared], strict=True)
        ]
        table.loc[spared, "decision"] = "keep"
        return table

    def _cap(self, table: pd.DataFrame) -> pd.DataFrame:
        if self.max_latents is None:
            return table
        rank = table[table["decision"] == "ablate"].groupby("site").cumcount()
        over = rank.index[rank >= self.max_latents]
        table.loc[over, "decision"] = "keep"
        table.loc[over, "reason"] = f"beyond the {self.max_latents} strongest of its site"
        return table


@dataclass(frozen=True)
class _Verdict:
    score: np.ndarray
    passed: np.ndarray
    reason: np.ndarray


def overrule(
    table: pd.DataFrame, decisions: Mapping[tuple[str, int], str] | pd.DataFrame | Decisions
) -> pd.DataFrame:
    """Replace decisions by a person's.

    Parameters
    ----------
    table : DataFrame
        From `FlagRule.decide`.
    decisions : mapping of (site, latent) to {"ablate", "keep"}, DataFrame with those three columns, or Decisions
        Notes of `Decisions` go to the column `note`, and to the reason where the decision changes.

    Raises
    ------
    ValueError
        A latent that the table does not hold, or another word than ablate or keep.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"site": ["embed"], "latent": [3], "decision": ["ablate"], "reason": [""]})
    >>> overrule(table, {("embed", 3): "keep"})[["decision", "reason"]].values.tolist()
    [['keep', 'decided by a person']]
    """
    notes: Mapping[tuple[str, int], str] = {}
    if isinstance(decisions, Decisions):
        notes, decisions = decisions.notes, decisions.words
    if isinstance(decisions, pd.DataFrame):
        rows = zip(decisions["site"], decisions["latent"], decisions["decision"], strict=True)
        decisions = {(str(site), int(latent)): str(word) for site, latent, word in rows}
    table = table.copy()
    if notes and "note" not in table:
        table["note"] = ""
    place = {
        (site, latent): i for i, site, latent in zip(table.index, table["site"], table["latent"], strict=True)
    }
    for (site, latent), word in decisions.items():
        if word not in ("ablate", "keep"):
            raise ValueError(f"A decision is 'ablate' or 'keep'; got {word!r} for latent {latent} of {site}.")
        if (site, latent) not in place:
            raise ValueError(f"There is no latent {latent} at site {site!r} to decide on.")
        row, note = place[site, latent], notes.get((site, latent), "")
        if table.loc[row, "decision"] != word:
            reason = f"{BY_A_PERSON}: {note}" if note else BY_A_PERSON
            table.loc[row, ["decision", "reason"]] = [word, reason]
        if note:
            table.loc[row, "note"] = note
    return table


def _first_seen(sites: pd.Series) -> dict[str, int]:
    return {site: i for i, site in enumerate(dict.fromkeys(sites))}
