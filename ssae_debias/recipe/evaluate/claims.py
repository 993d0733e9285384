r"""The paper's claims, one by one, held against the figures of a run.

A claim compares two ways of training. For each seed the difference is taken between SAEs of that seed (started from
the same GSAE, measured on the same texts), and the verdict goes by Student's 95 % interval over seeds: it *holds* if
the interval lies on the claimed side of zero, *does not hold* if it lies on the other, else it is *unclear*. With
three seeds the interval is 2.5 times as wide as their range or so: unclear is a frequent and honest answer. (A claim
of no loss holds if the interval lies above a stated margin.)

Losses are compared at equal L0: between sparsity levels the loss is interpolated over the logarithm of L0, and
only where both curves reach.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from ssae_debias.metrics.intervals import seeds_interval
from ssae_debias.recipe.evaluate.schema import GSAE
from ssae_debias.report.evaluation import Claim

Tables = Mapping[str, pd.DataFrame]
BySeed = dict[int, float]

MARGIN = 0.02
"""Share of the GSAE's excess loss that counts as no loss when a tilt is called competitive. Our choice."""
RARE_RANKS = 0.5
"""Part of the ranges of ranks that is the tail of the error's plot: the rarer half."""


def check_claims(tables: Tables, *, general: bool) -> list[Claim]:
    """All claims that the tables can answer.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        As `EvaluationContent` has them.
    general : bool
        Whether `general` is among the strategies: then gains are also told beyond what longer training brings.

    Returns
    -------
    list of Claim
    """
    found: list[Claim] = []
    if "fidelity" in tables:
        found += _fidelity_claims(tables["fidelity"], general)
    if "tail" in tables:
        found += _tail_claims(tables["tail"])
    if "rank_error" in tables:
        found += _error_claims(tables["rank_error"])
    if "recall" in tables:
        found += _recall_claims(tables["recall"])
    return found


def loss_at_equal_l0(fidelity: pd.DataFrame, a: str, b: str, corpus: str = "subdomain") -> BySeed:
    """Loss of variant a less that of b at equal L0, by seed; see the module.

    Examples
    --------
    >>> rows = [("a", k, l0, loss) for k, l0, loss in ((8, 8, 2.0), (16, 16, 1.0))]
    >>> rows += [("b", k, l0, loss) for k, l0, loss in ((8, 8, 2.5), (16, 32, 0.5))]
    >>> frame = pd.DataFrame(rows, columns=["variant", "k", "l0", "cross_entropy"]).assign(seed=0, corpus="subdomain")
    >>> loss_at_equal_l0(frame, "a", "b")
    {0: -0.5}
    """
    here = fidelity[fidelity["corpus"] == corpus]
    differences: BySeed = {}
    for seed, part in here.groupby("seed"):
        curves = {}
        for name in (a, b):
            curve = part[part["variant"] == name].sort_values("l0")
            curves[name] = np.log(curve["l0"].to_numpy()), curve["cross_entropy"].to_numpy()
        (x_a, y_a), (x_b, y_b) = curves[a], curves[b]
        if not len(x_a) or not len(x_b):
            continue
        low, high = max(x_a.min(), x_b.min()), min(x_a.max(), x_b.max())
        points = np.unique(np.concatenate([x_a, x_b]))
        points = points[(points >= low - 1e-9) & (points <= high + 1e-9)]
        if len(points):
            differences[int(seed)] = float(np.mean(np.interp(points, x_a, y_a) - np.interp(points, x_b, y_b)))
        elif len(x_a) == len(x_b) == 1:  # one level: as it is, its L0 beside it in the table
            differences[int(seed)] = float(y_a[0] - y_b[0])
    return differences


def judge(differences: BySeed, better: str, *, least: float = 0.0) -> str:
    """The verdict on differences by seed.

    Parameters
    ----------
    differences : dict of int to float
    better : {"lower", "higher"}
        Which sign is claimed.
    least : float, default 0
        The claim is that the difference is better than this on the claimed side (negative: no worse than).

    Examples
    --------
    >>> judge({0: -1.0, 1: -1.1, 2: -0.9}, "lower"), judge({0: -1.0, 1: 1.0, 2: 0.1}, "lower"), judge({0: -1.0}, "lower")
    ('holds', 'unclear', 'unclear')
    """
    values = np.array(list(differences.values())) * (-1 if better == "lower" else 1)
    if len(values) < 2:
        return "unclear"
    interval = seeds_interval(values)
    if interval.low > least:
        return "holds"
    return "does not hold" if interval.high < least else "unclear"


def _claim(
    statement: str,
    source: str,
    differences: BySeed,
    better: str,
    unit: str,
    *,
    least: float = 0.0,
    beside: str = "",
) -> list[Claim]:
    if not differences:
        return []
    values = list(differences.values())
    if len(values) > 1:
        interval = seeds_interval(values)
        said = f"{interval.mean:+.4g} [{interval.low:+.4g}, {interval.high:+.4g}] {unit}, {len(values)} seeds"
    else:
        said = f"{values[0]:+.4g} {unit}, one seed: no interval"
    return [Claim(statement, judge(differences, better, least=least), said + beside, source)]  # type: ignore[arg-type]


def _fidelity_claims(fidelity: pd.DataFrame, general: bool) -> list[Claim]:
    names, found = _plain(fidelity), []
    retrieved = [name for name in names if name not in (GSAE, "general", "seeds")]
    unit = "nats a prediction at equal L0"
    for name in retrieved:
        beside = ""
        if general and (control := loss_at_equal_l0(fidelity, name, "general")):
            mean = np.mean(list(control.values()))
            beside = f"; against a GSAE trained as long: {mean:+.4g}"
        found += _claim(
            f"An SSAE on text retrieved by {name} is more faithful on the subdomain than the GSAE.",
            "figures 1, 9, 12", loss_at_equal_l0(fidelity, name, GSAE), "lower", unit, beside=beside,
        )  # fmt: skip
    for first in ("dense", "bm25"):
        if {first, f"{first}+tracin"} <= set(names):
            found += _claim(
                f"Re-ranking by TracIn improves on {first} retrieval.",
                "figure 12", loss_at_equal_l0(fidelity, f"{first}+tracin", first), "lower", unit,
            )  # fmt: skip
    if {"dense", "bm25"} <= set(names):
        found += _claim(
            "Dense retrieval is better than BM25.",
            "figure 12",
            loss_at_equal_l0(fidelity, "dense", "bm25"),
            "lower",
            unit,
        )
    if "seeds" in names:
        for name in retrieved:
            found += _claim(
                f"Training on the seeds alone generalises worse than on text retrieved by {name}.",
                "figure 12", loss_at_equal_l0(fidelity, "seeds", name), "higher", unit,
            )  # fmt: skip
    if "general" in set(fidelity["corpus"]):
        for name in retrieved:
            found += _claim(
                f"An SSAE on text retrieved by {name} is less faithful on general text than the GSAE.",
                "section 4 (scope)", loss_at_equal_l0(fidelity, name, GSAE, "general"), "higher", unit,
            )  # fmt: skip
    for plain, tilted in _tilted(fidelity):
        excess = fidelity[(fidelity["variant"] == plain) & (fidelity["corpus"] == "subdomain")]
        margin = MARGIN * float((excess["cross_entropy"] - excess["clean_cross_entropy"]).mean())
        found += _claim(
            f"{tilted}: tilted risk is competitive with the mean (no more than {MARGIN:.0%} of the excess loss lost).",
            "figures 1, 9", loss_at_equal_l0(fidelity, tilted, plain), "lower", unit, least=-margin,
            beside=f"; margin {margin:.4g}",
        )  # fmt: skip
    return found


def _tail_claims(tail: pd.DataFrame) -> list[Claim]:
    found = []
    values = _by_variant(tail, lambda part: float(part["proportion"].iloc[0]))
    unit = "of the tail's token types"
    for name in [name for name in _plain(tail) if name not in (GSAE, "general", "seeds")]:
        found += _claim(
            f"An SSAE on text retrieved by {name} has latents for more of the tail than the GSAE.",
            "figures 2, 11", _difference(values, name, GSAE), "higher", unit,
        )  # fmt: skip
    for plain, tilted in _tilted(tail):
        found += _claim(
            f"{tilted}: tilted risk gives more of the tail's tokens a latent than the mean does.",
            "figures 2, 6, 11", _difference(values, tilted, plain), "higher", unit,
        )  # fmt: skip
    return found


def _error_claims(rank_error: pd.DataFrame) -> list[Claim]:
    found = []
    for column, what in (("relative_variance", "variance"), ("relative_maximum", "maximum")):

        def rare(part: pd.DataFrame, column: str = column) -> float:
            part = part.sort_values("rank_from")
            tail = part.iloc[int(len(part) * RARE_RANKS) :]
            if column == "relative_maximum":
                return float(np.log(tail[column].max()))
            return float(np.log(np.average(tail[column], weights=tail["n_tokens"])))

        values = _by_variant(rank_error, rare)
        for plain, tilted in _tilted(rank_error):
            found += _claim(
                f"{tilted}: the error on tail tokens has a lower {what} than under the mean.",
                "figure 3", _difference(values, tilted, plain), "lower", f"log-ratio of the {what}s",
            )  # fmt: skip
    return found


def _recall_claims(recall: pd.DataFrame) -> list[Claim]:
    found = []
    saes = recall[(recall["kind"] == "sae") & recall["f1"].notna()]
    groups = {"rare words of the subdomain": saes[~saes["planted"] & (saes["level"] == "token")]}
    if saes["planted"].any():
        groups["planted words"] = saes[saes["planted"]]
    for what, part in groups.items():
        if part.empty:
            continue
        if what != "planted words":
            part = part[part["frequency"] <= part.drop_duplicates("concept")["frequency"].median()]
        values = _by_variant(part, lambda rows: float(rows["f1"].mean()))
        unit = f"mean F1 over {part['concept'].nunique()} concepts"
        for name in [name for name in _plain(part) if name not in (GSAE, "general", "seeds")]:
            found += _claim(
                f"An SSAE on text retrieved by {name} detects {what} better than the GSAE.",
                "the claim of the title", _difference(values, name, GSAE), "higher", unit,
            )  # fmt: skip
        for plain, tilted in _tilted(part):
            found += _claim(
                f"{tilted}: tilted risk detects {what} better than the mean does.",
                "the claim of the title", _difference(values, tilted, plain), "higher", unit,
            )  # fmt: skip
    return found


def _plain(table: pd.DataFrame) -> list[str]:
    """Trained variants without a tilt, in order."""
    trained = table[table["k"].notna() & (table["tilt"].fillna(0) == 0)]
    return list(dict.fromkeys(trained["variant"]))


def _tilted(table: pd.DataFrame) -> Sequence[tuple[str, str]]:
    """Pairs of variants of one strategy, without and with a tilt."""
    trained = table[table["k"].notna()].drop_duplicates("variant")
    plain = {row.strategy: row.variant for row in trained.itertuples() if not row.tilt}
    return [
        (plain[row.strategy], row.variant)
        for row in trained.itertuples()
        if row.tilt and row.strategy in plain
    ]


def _by_variant(table: pd.DataFrame, figure: Callable[[pd.DataFrame], float]) -> dict[tuple[str, int], float]:
    return {(str(name), int(seed)): figure(part) for (name, seed), part in table.groupby(["variant", "seed"])}


def _difference(values: Mapping[tuple[str, int], float], a: str, b: str) -> BySeed:
    seeds = sorted(seed for name, seed in values if name == a and (b, seed) in values)
    return {seed: values[a, seed] - values[b, seed] for seed in seeds}
