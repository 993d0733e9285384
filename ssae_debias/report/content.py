"""What a report is made of, as plain frozen data.

The report folder computes no metric: it is handed estimates with their intervals and lays them out. A
`MethodRow` is one row of ``results.json`` (``dataclasses.asdict(row)`` gives that schema,
`MethodRow.from_dict` reads it back), so a page can be drawn again from a finished run without the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import pandas as pd


@dataclass(frozen=True)
class Estimate:
    """A number and the interval around it, as fractions (0.5 is 50 %).

    Parameters
    ----------
    mean, low, high : float
        The point estimate and its bounds, ``low <= mean <= high``. ``low == high`` says that no interval is
        known (one run), and the page then claims no difference from it.

    Raises
    ------
    ValueError
        A bound is not finite, or the three are out of order.

    Examples
    --------
    >>> Estimate(0.75, 0.70, 0.81).half_width
    0.055
    >>> Estimate(0.75, 0.70, 0.81).overlaps(Estimate(0.6, 0.5, 0.69))
    False
    """

    mean: float
    low: float
    high: float

    def __post_init__(self) -> None:
        bounds = (self.low, self.mean, self.high)
        if not all(math.isfinite(bound) for bound in bounds):
            raise ValueError(f"an Estimate takes finite numbers, got {self}.")
        # The slack lets through a mean that floating point put a hair outside of its own interval.
        if self.low > self.mean + 1e-9 or self.mean > self.high + 1e-9:
            raise ValueError(f"an Estimate takes low <= mean <= high, got {self}.")

    @property
    def has_interval(self) -> bool:
        """Whether the bounds say anything: one run without an interval has ``low == high``."""
        return self.high - self.low > 1e-9

    @property
    def half_width(self) -> float:
        """Half of the interval's width, rounded against floating-point noise."""
        return round((self.high - self.low) / 2, 12)

    def overlaps(self, other: Estimate) -> bool:
        """Whether the order of the two is open: the intervals meet, or one of them is not known."""
        if not (self.has_interval and other.has_interval):
            return True
        return self.low <= other.high and other.low <= self.high


class GroupResult(TypedDict):
    """Accuracy in one (label, attribute) group and the number of texts in it."""

    accuracy: Estimate
    n: int


class Leakage(TypedDict):
    """Balanced accuracy of reading the attribute from activations, by two probes; None is not measured."""

    linear: Estimate | None
    mlp: Estimate | None


class SiteTraining(TypedDict, total=False):
    """How the SAE of one site came out, and the curve that led there.

    `fvu` is the fraction of variance unexplained, `l0` the mean number of active latents per token,
    `dead_fraction` the part of the latents that never fire; `history` has rows with ``step`` and any of them.
    """

    fvu: float
    l0: float
    dead_fraction: float
    history: Sequence[Mapping[str, float]]


class Subdomain(TypedDict, total=False):
    """The retrieved text that the SAE was specialised on: a few documents to look at, and counts."""

    documents: Sequence[str]
    stats: Mapping[str, Any]


@dataclass(frozen=True)
class MethodRow:
    """One method's figures.

    Parameters
    ----------
    method : str
        Its name, such as ``"debiaser_retrain"``; `ssae_debias.report.methods` says how it is called on the page.
    needs_group_labels : bool
        Whether the method was given the attribute of its training texts.
    task_accuracy, attribute_accuracy, worst_group_accuracy : Estimate
        Accuracy on balanced data; how often the task's prediction equals the attribute there (ideal: chance);
        lowest accuracy of the groups.
    groups : dict of str to GroupResult
        ``{"nurse/M": {"accuracy": Estimate, "n": 99}, …}``.
    leakage : Leakage
        ``{"linear": Estimate or None, "mlp": Estimate or None}``.
    seconds : float
        Wall time.

    Examples
    --------
    >>> half = Estimate(0.5, 0.4, 0.6)
    >>> row = MethodRow("original", False, half, half, half, {"nurse/M": {"accuracy": half, "n": 99}},
    ...                 {"linear": half, "mlp": None}, 1.0)
    >>> import dataclasses
    >>> MethodRow.from_dict(dataclasses.asdict(row)) == row
    True
    """

    method: str
    needs_group_labels: bool
    task_accuracy: Estimate
    attribute_accuracy: Estimate
    worst_group_accuracy: Estimate
    groups: Mapping[str, GroupResult]
    leakage: Leakage
    seconds: float

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> MethodRow:
        """Read one row of ``results.json``.

        Raises
        ------
        ValueError
            A key of the schema is missing; the message names it.
        """
        try:
            leakage = row["leakage"]
            return cls(
                method=row["method"],
                needs_group_labels=row["needs_group_labels"],
                task_accuracy=Estimate(**row["task_accuracy"]),
                attribute_accuracy=Estimate(**row["attribute_accuracy"]),
                worst_group_accuracy=Estimate(**row["worst_group_accuracy"]),
                groups={
                    name: {"accuracy": Estimate(**group["accuracy"]), "n": group["n"]}
                    for name, group in row["groups"].items()
                },
                leakage={
                    "linear": Estimate(**leakage["linear"]) if leakage["linear"] else None,
                    "mlp": Estimate(**leakage["mlp"]) if leakage["mlp"] else None,
                },
                seconds=row["seconds"],
            )
        except KeyError as error:
            raise ValueError(f"a row of results.json lacks {error}; it has {sorted(row)}.") from error


@dataclass(frozen=True)
class ReportContent:
    """Everything that one page shows.

    Parameters
    ----------
    title : str
        The page's name.
    summary : str or sequence of str
        What was done, in short sentences. The verdict is not among them: the page computes it from `rows`.
    rows : sequence of MethodRow
        At least one, each method once.
    sets : mapping of str to int
        Sizes of the data sets, ``{"train": 3170, "balanced test": 396}``.
    seeds : sequence of int
        Seeds that the intervals run over.
    versions : mapping of str to str
        Versions of Python and of the libraries.
    recipe : mapping
        The recipe as run; nested values are shown as YAML.
    flagged : DataFrame or None, default=None
        One row a latent, flagged or not, the strongest first, with `site` and `latent` and any of `decision`,
        `reason`, `name`, `note` (a person's), the evidence (`response_effect`, `attribute_effect`, `label_effect`,
        `attribution`, `response`, `effect`, `q`, `frequency`, …; see `ssae_debias.report.flagged.EVIDENCE`),
        `top_tokens` (list of str), `top_texts` (list of (text, [(token, activation), …])) and `nearest` (list of
        (site, latent, cosine, name)). None where this kind of run flags no latents.
    notes : sequence of str, default=()
        What cannot be concluded. The page adds what it sees itself: a small group, one seed, leakage left.
    subdomain : Subdomain or None, default=None
        Retrieved documents and counts.
    training : mapping of str to SiteTraining or None, default=None
        Per site, in forward order.
    chance : float, default=0.5
        Balanced accuracy of guessing the attribute: one over the number of its values.
    saes : mapping of str to str or None, default=None
        Fingerprint of each site's SAE, which ties decisions made on the page to the latents they are about.

    Raises
    ------
    TypeError
        `rows` holds something other than `MethodRow`, or `flagged` is no DataFrame.
    ValueError
        There are no rows, a method comes twice, or `flagged` lacks `site` or `latent`.

    Examples
    --------
    >>> from ssae_debias.report import example_content
    >>> [row.method for row in example_content().rows][:2]
    ['original', 'debiaser']
    """

    title: str
    summary: str | Sequence[str]
    rows: Sequence[MethodRow]
    sets: Mapping[str, int]
    seeds: Sequence[int]
    versions: Mapping[str, str]
    recipe: Mapping[str, Any]
    flagged: pd.DataFrame | None = None
    notes: Sequence[str] = ()
    subdomain: Subdomain | None = None
    training: Mapping[str, SiteTraining] | None = None
    chance: float = 0.5
    saes: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        for row in self.rows:
            if not isinstance(row, MethodRow):
                raise TypeError(f"rows takes MethodRow, got {type(row).__name__}; see MethodRow.from_dict.")
        names = [row.method for row in self.rows]
        if not names:
            raise ValueError("a report needs at least one MethodRow, got none.")
        if len(set(names)) < len(names):
            raise ValueError(f"a report takes each method once, got {names}.")
        if isinstance(self.notes, str):
            raise TypeError("notes takes a list of str, got one str; put it into a list.")
        if self.flagged is not None:
            if not isinstance(self.flagged, pd.DataFrame):
                raise TypeError(
                    f"flagged takes a pandas DataFrame or None, got {type(self.flagged).__name__}."
                )
            missing = {"site", "latent"} - set(self.flagged.columns)
            if missing:
                raise ValueError(f"flagged lacks {sorted(missing)}; it has {list(self.flagged.columns)}.")

    @property
    def sentences(self) -> tuple[str, ...]:
        """The summary as sentences, however it was given."""
        return (self.summary,) if isinstance(self.summary, str) else tuple(self.summary)
