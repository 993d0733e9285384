"""Plates on what SAEs do: concepts found, predictions kept, the tail served."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from ssae_debias.report.evaluation.content import EvaluationContent
from ssae_debias.report.evaluation.fidelity_plots import (
    CORPORA,
    Measure,
    corpora,
    fidelity_figure,
    objective,
    pareto_measures,
    points,
    quality_measures,
)
from ssae_debias.report.evaluation.numbers import (
    Column,
    Numbers,
    as_rows,
    by_variant,
    plain,
    share,
    with_interval,
)
from ssae_debias.report.evaluation.plates import NOT_IN_PAPER, Plate, at_level, other_levels, spread
from ssae_debias.report.evaluation.recall_plots import REFERENCES, found_figure, recall_figure
from ssae_debias.report.evaluation.recall_points import concept_points, found_points, groups, recall_lines
from ssae_debias.report.evaluation.seeds import sparsities
from ssae_debias.report.evaluation.styles import Style, shown, styles
from ssae_debias.report.evaluation.tail_plots import (
    ERRORS,
    coverage_figure,
    coverage_points,
    cumulative_figure,
    cumulative_points,
    rank_figure,
    rank_points,
    tail_figure,
    tail_points,
)
from ssae_debias.report.evaluation.tail_plots import MOST_LEVELS as TAIL_LEVELS

CONCEPTS, FIDELITY, TAIL = "Concepts", "Fidelity", "Tail"
EQUAL = "All SAEs are brought to one L0 first, for who may use more latents covers more."
K = {"k": ("k", plain)}


def frequency(value: float) -> str:
    """A frequency, in powers of ten where they are short."""
    return f"{value:.2g}".replace("e-0", "e−").replace("e-", "e−")


def outcome_plates(content: EvaluationContent) -> Iterator[Plate]:
    """Concept recall, fidelity, and the tail."""
    looks = styles(content)
    if (table := content.table("recall")) is not None and table["f1"].notna().any():
        yield _recall(table, looks)
    if (table := content.table("recall_by_frequency")) is not None and table["found"].notna().any():
        yield _found(table, looks)
    if (table := content.table("fidelity")) is not None:
        if measures := pareto_measures(table):
            yield _pareto(table, measures, looks)
        if measures := quality_measures(table):
            yield _quality(table, measures, looks)
    if (table := content.table("coverage")) is not None:
        yield _coverage(table, looks)
    if (table := content.table("tail")) is not None:
        yield _tail(table, looks)
    if (table := content.table("cumulative")) is not None:
        yield _cumulative(table, looks)
    if (table := content.table("rank_error")) is not None:
        yield _rank_error(table, looks)


def _recall(table: pd.DataFrame, looks: dict[str, Style]) -> Plate:
    drawn = groups(table)
    planted = table["planted"].astype(bool).any()
    references = [REFERENCES[kind][0] for kind in REFERENCES if (table["kind"] == kind).any()]
    called, tables = [*looks, *REFERENCES], []
    for group in drawn:
        on = f", {group.heading[:1].lower()}{group.heading[1:]}" if group.heading else ""
        lines = [recall_lines(group.part, kind) for kind in ("sae", *REFERENCES)]
        each = [concept_points(group.part, kind) for kind in ("sae", *REFERENCES)]
        place = {"frequency": (group.axis, frequency), "n_concepts": ("Concepts", plain)}
        tables.append(by_variant(f"Mean F1 by frequency{on}", _joined(lines), place, called))
        place = {"frequency": (group.axis, frequency), "concept": ("Concept", plain)}
        points_ = _joined(each).rename(columns={"f1": "mean"}).assign(low=float("nan"), high=float("nan"))
        tables.append(by_variant(f"F1 of each concept, mean over seeds{on}", points_, place, called))
    signs = "dots are concepts of the corpus, crosses planted ones" if planted else "dots are concepts"
    beside = f" Lines without marks: {' and '.join(references)}." if references else ""
    return Plate(
        "recall",
        CONCEPTS,
        "How well the best latent finds a concept, by how rare the concept is",
        f"Lines are means over concepts of like frequency; {signs}.{beside}{other_levels(table, [g.k for g in drawn])}",
        "F1 of the latent and threshold that were chosen on one half of the texts, scored on the other half. Neurons are "
        "chosen alike; random latents are not chosen, but each at its best threshold.",
        "the claim behind figures 1 and 2; the paper shows token frequency only",
        spread(table[table["kind"] == "sae"]),
        lambda width: recall_figure(table, looks, width),
        tables,
    )


def _joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def _found(table: pd.DataFrame, looks: dict[str, Style]) -> Plate:
    drawn = groups(table, "found", most=1)
    place = {"frequency_to": ("Frequency up to", frequency), "n_concepts": ("Concepts", plain)}
    tables = []
    for group in drawn:
        on = f", {group.heading[:1].lower()}{group.heading[1:]}" if group.heading else ""
        found = found_points(group.part)
        tables.append(by_variant(f"Share of concepts{on}", found, place, [*looks, *REFERENCES], say=share))
    return Plate(
        "recall_found",
        CONCEPTS,
        "Concepts that have a latent, by range of frequencies",
        "The numbers on top say how many concepts fall into each range: a share of few is coarse."
        f"{other_levels(table, [group.k for group in drawn])}",
        "A concept has a latent where the chosen one reaches an F1 of one half on the other half of the texts.",
        NOT_IN_PAPER,
        spread(table[table["kind"] == "sae"]),
        lambda width: found_figure(table, looks, width),
        tables,
    )


def _pareto(table: pd.DataFrame, measures: list[Measure], looks: dict[str, Style]) -> Plate:
    if objective(table) == "probe":
        title = "What a linear probe loses with the SAE in place, against L0"
        definition = (
            "Log loss of the probe's predictions, and how often they equal those on the clean model, with the reconstruction "
            "x̂ in place of every token's activation x."
        )
    else:
        title = "Perplexity with the SAE in place, against L0"
        definition = (
            "exp of the mean cross-entropy with the reconstruction x̂ in place of every token's activation x. Relative: over "
            "the base SAE's of the same k and seed; below 1 is better than the base."
        )
    return Plate(
        "pareto",
        FIDELITY,
        title,
        "Lower and further to the left is better: fewer latents, less lost. One point a sparsity level. Where bands leave "
        "the panel the means still fit.",
        definition,
        "figures 1, 9, 12 and 13",
        spread(table, one_seed="intervals over texts"),
        lambda width: fidelity_figure(table, measures, looks, width),
        _fidelity_numbers(table, measures, looks),
    )


def _quality(table: pd.DataFrame, measures: list[Measure], looks: dict[str, Style]) -> Plate:
    return Plate(
        "fidelity",
        FIDELITY,
        "What is left of activations and predictions, against L0",
        "The other figures of fidelity, on the same texts.",
        "Variance unexplained: squared error over total variance. Loss recovered: the part of what replacing the "
        "activations by their mean costs that the SAE gives back. KL: from the clean model's predictions to those with x̂. "
        "Dead: active on no token of the corpus.",
        f"{NOT_IN_PAPER}; SAEBench's core metrics",
        spread(table, one_seed="intervals over texts"),
        lambda width: fidelity_figure(table, measures, looks, width),
        _fidelity_numbers(table, measures, looks),
    )


def _fidelity_numbers(table: pd.DataFrame, measures: list[Measure], looks: dict[str, Style]) -> list[Numbers]:
    tables = []
    for corpus in corpora(table):
        records: dict[tuple[str, str], dict[str, object]] = {}
        for measure in measures:
            for row in points(table, corpus, measure.column).to_dict("records"):
                say = share if measure.share else plain
                record = records.setdefault(
                    (row["variant"], plain(row["k"])), {"k": row["k"], "l0": row["l0"]}
                )
                record["variant"] = row["variant"]
                record[measure.column] = with_interval(row["mean"], row["low"], row["high"], say)
            clean = measure.level[0] if measure.level else None
            own = table[table["corpus"] == corpus]
            if isinstance(clean, str) and clean in own and own[clean].notna().any():
                for record in records.values():
                    record["clean"] = float(own[clean].mean())
        order = {style.name: i for i, style in enumerate(shown(looks, table["variant"]))}
        ranked = sorted(records.values(), key=lambda record: (order[str(record["variant"])], record["l0"]))
        columns: dict[str, Column] = {"variant": ("Variant", str), **K, "l0": ("L0", plain)}
        columns |= {measure.column: (measure.name, lambda cell: cell or "–") for measure in measures}
        if any("clean" in record for record in ranked):
            columns["clean"] = ("Clean model", plain)
        tables.append(as_rows(f"On {CORPORA.get(corpus, corpus)}", ranked, columns))
    return tables


def _coverage(table: pd.DataFrame, looks: dict[str, Style]) -> Plate:
    levels = sparsities(table, TAIL_LEVELS)
    place = {
        "frequency_from": ("Frequency from", frequency),
        "frequency_below": ("below", frequency),
    }
    return Plate(
        "coverage",
        TAIL,
        "Token types that have a latent, by how often they occur",
        f"{EQUAL}{other_levels(table, [k for k, _ in levels])}",
        "A type has a latent if some latent's firing tells it: F1 of at least one half, on the half of the texts where the "
        "latent was chosen and on the other.",
        "figures 2 and 11; the paper does not say when a token has a latent",
        spread(table, one_seed="Wilson's intervals over types"),
        lambda width: coverage_figure(table, looks, width),
        [
            by_variant(
                f"Types with a latent{at_level(k)}", coverage_points(part), place, list(looks), say=share
            )
            for k, part in levels
        ],
    )


def _tail(table: pd.DataFrame, looks: dict[str, Style]) -> Plate:
    levels = sparsities(table, TAIL_LEVELS)
    return Plate(
        "tail",
        TAIL,
        "Rare token types that have a latent",
        f"{EQUAL}{other_levels(table, [k for k, _ in levels])}",
        f"Share of the tail's types that have a latent; {_tail_is(table)}.",
        "the left end of figure 2",
        spread(table, "Lines", one_seed="Wilson's intervals over types"),
        lambda width: tail_figure(table, looks, width),
        [by_variant("Tail types with a latent", tail_points(table), K, list(looks), say=share)],
    )


def _tail_is(table: pd.DataFrame) -> str:
    if "max_frequency" in table and table["max_frequency"].notna().any():
        return f"the tail are those that make up {plain(float(table['max_frequency'].max()))} of the tokens or less"
    return "the tail are the rarest of the types that were counted"


def _cumulative(table: pd.DataFrame, looks: dict[str, Style]) -> Plate:
    ((k, part),) = sparsities(table)
    place = {"token_share": ("Share of tokens", share)}
    return Plate(
        "cumulative",
        TAIL,
        "Where each variant's covered types lie, the rarest first",
        f"A curve that lies higher spends more of its latents on the tail, but says nothing of how many it has. {EQUAL}"
        f"{other_levels(table, [k])}",
        "Of the types that have a latent, the share that lies among the rarest types which make up so much of the corpus; "
        "each curve ends at 100\u202f%.",
        "figures 6 and 14",
        spread(table),
        lambda width: cumulative_figure(table, looks, width),
        [by_variant(f"Covered types{at_level(k)}", cumulative_points(part), place, list(looks), say=share)],
    )


def _rank_error(table: pd.DataFrame, looks: dict[str, Style]) -> Plate:
    ((k, part),) = sparsities(table)
    place = {"rank_from": ("Rank from", plain), "rank_to": ("to", plain)}
    return Plate(
        "rank_error",
        TAIL,
        "Reconstruction error by rank of the token type",
        "Tilted risk should lower the variance and the maximum on the right, where types are rare."
        f"{other_levels(table, [k])}",
        "Squared error of a token over the corpus's total variance; its mean, variance and maximum over the tokens of a "
        "range of ranks, 1 the most frequent type.",
        "figure 3",
        spread(table),
        lambda width: rank_figure(table, looks, width),
        [
            by_variant(f"{name}{at_level(k)}", rank_points(part, column), place, list(looks))
            for column, name in ERRORS.items()
        ],
    )
