"""The states in which an audit shows a classifier: as it came, edited, and treated by each simple rival.

Every state is judged on the same evaluation rows, and flips on the same counterfactuals. What is learned for a state is
learned on the fit rows alone. The classifier's own decision stays unless a name says that its head was refitted
(`ssae_debias.audit.heads`). Where ours has its head refitted, so has every rival and control, beside itself as it is.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssae_debias.audit.classifiers import Classifier, TextClassifier, rows_of
from ssae_debias.audit.found import Found
from ssae_debias.audit.groups import Groups
from ssae_debias.audit.heads import Head, head_rows, refit_head
from ssae_debias.audit.kept_logits import KeptLogits
from ssae_debias.audit.measuring import Evaluation, measure
from ssae_debias.audit.residues import residue_after
from ssae_debias.audit.settings import LatentSettings
from ssae_debias.data import WordPairs
from ssae_debias.edit import Edit
from ssae_debias.latents.association import comparable
from ssae_debias.report.audit import Variant
from ssae_debias.rivals import DFR, AveragedPairs, LEACEGivenY, SwapProjection

MAX_FLIPS = 500
"""Rows that flips are counted over: they know a rate to ± 4 points, and every state is read twice on them."""


MIN_BALANCED = 10
"""Rows of the smallest (label, attribute) cell below which a head is not refitted on balanced groups."""


@dataclass(frozen=True)
class Part:
    """Inputs with all that is known about them.

    Attributes
    ----------
    inputs, counterfactual : inputs of length n
        `counterfactual` is None where nothing says what a counterfactual would be.
    y : ndarray of int64, shape (n,)
    groups : Groups

    Examples
    --------
    >>> from ssae_debias.audit.groups import find_groups
    >>> part = Part(["a", "b"], None, np.array([0, 1]), find_groups(["a", "b"], None, None))
    >>> part.at(np.array([1])).inputs
    ['b']
    """

    inputs: Any
    counterfactual: Any
    y: NDArray[np.int64]
    groups: Groups

    def at(self, rows: NDArray[np.int64]) -> Part:
        """Some rows."""
        other = None if self.counterfactual is None else rows_of(self.counterfactual, rows)
        return Part(rows_of(self.inputs, rows), other, self.y[rows], self.groups.at(rows))


class Variants:
    """Makes and judges the states of one classifier.

    Parameters
    ----------
    classifier : Classifier
    fit, evaluation : Part
    found : Found
    pairs : WordPairs or None
    logits : KeptLogits
    settings : LatentSettings
        Those that the latents were found with.
    random_state : int
        Seed of random latents, of balanced draws, and of the rows that flips are counted over.
    verbose : int

    Examples
    --------
    >>> list(Variants(classifier, fit, judged, found, pairs, kept).all())  # doctest: +SKIP
    """

    def __init__(
        self,
        classifier: Classifier,
        fit: Part,
        evaluation: Part,
        found: Found,
        pairs: WordPairs | None,
        logits: KeptLogits,
        *,
        settings: LatentSettings | None = None,
        random_state: int = 0,
        verbose: int = 0,
    ) -> None:
        self.classifier = classifier
        self.fit = fit
        self.part = evaluation
        self.found = found
        self.pairs = pairs
        self._logits = logits
        self._random_state = random_state
        self._verbose = verbose
        self._settings = settings or LatentSettings()
        self._unedited: dict[tuple[int, str], tuple[Any, NDArray[np.float32]]] = {}
        changed = np.zeros(len(evaluation.y), dtype=bool)
        if evaluation.counterfactual is not None:
            changed = at_most(
                changed_rows(evaluation.inputs, evaluation.counterfactual), MAX_FLIPS, random_state
            )
        self._swapped = (
            []
            if evaluation.counterfactual is None
            else rows_of(evaluation.counterfactual, np.flatnonzero(changed))
        )
        self.evaluation = Evaluation(evaluation.y, evaluation.groups, classifier.classes, changed)

    def original(self) -> Variant:
        """The classifier as it came."""
        return self._edited({}, name="as it is", role="start")

    def edited(self) -> Variant:
        """All edits inside the model, its head kept."""
        return self._edited(
            self.found.edits(), name="edited", role="ours", needs_group_labels=self.needs_group_labels()
        )

    def needs_group_labels(self, *, residue: bool = True) -> bool:
        """Whether our edit was told the attribute of rows: to flag, to say which way a row was swapped, or to erase."""
        groups, settings = self.fit.groups, self._settings
        if groups.told_by != "labels":
            return False
        oriented = not groups.side.any() and len(groups.names) == 2
        flagged = settings.flag != "counterfactual" or settings.protect is not None or oriented
        return (self.found.n_ablated > 0 and flagged) or (residue and "erasure" in self.found.residue)

    def all(self, *, rivals: bool | Literal["words"] = True) -> Iterator[Variant]:
        """The original, ours, and, if asked for, everything that ours must be compared with."""
        yield self.original()
        if self.found.head is not None:
            yield self._by_head(
                self.found.head,
                self.found.edits(),
                name="edited, head refitted",
                role="ours",
                needs_group_labels=self.needs_group_labels() or self.cells()[1],
            )
        yield self.edited()
        if self.found.residue and self.found.n_ablated:
            yield self._edited(
                self.found.latent_edits(),
                name="latents ablated, nothing else",
                role="ours",
                needs_group_labels=self.needs_group_labels(residue=False),
            )
        if not rivals:
            return
        yield from self._by_words()
        yield from self._refitted_only()
        if rivals is not True:
            return
        yield from self._controls()
        yield from self._by_erasers()
        yield from self._dfr()

    def cells(self) -> tuple[NDArray[np.str_], bool]:
        """What a refitted head counts alike: label and side of the words, and whether labels told it instead."""
        return head_cells(self.fit)

    def _edited(self, edits: Mapping[str, Edit], **what: Any) -> Variant:
        return self._judged(lambda inputs: self._logits(inputs, edits), **what)

    def _judged(self, logits: Callable[[Any], NDArray[np.floating[Any]]], **what: Any) -> Variant:
        start = time.perf_counter()
        found = logits(self.part.inputs)
        swapped = None
        if self.part.counterfactual is not None:
            swapped = logits(self._swapped) if len(self._swapped) else None
        return measure(self.evaluation, found, swapped, seconds=time.perf_counter() - start, **what)

    def _controls(self) -> Iterator[Variant]:
        """Random latents in place of the flagged ones, with and without all else that ours is given."""
        if not self.found.n_ablated:
            return
        random = self.found.random(self._random_state)
        edits = random.latent_edits()
        if self.found.head is not None and not self.found.residue:
            yield from self._refitted(edits, name="random latents ablated", role="control")
        if self.found.residue:
            attribute, known = self.fit.groups.told()
            labelled = self.fit.groups.told_by == "labels"
            residue = residue_after(
                self.classifier,
                self.fit.inputs,
                self.fit.y,
                edits,
                site=random.residue_site,
                attribute=attribute,
                known=known,
                realign="realignment" in self.found.residue,
                erase="erasure" in self.found.residue,
                verbose=self._verbose,
            )
            if residue:
                what: dict[str, Any] = {
                    "name": f"random latents ablated, {' and '.join(residue)}",
                    "role": "control",
                    "needs_group_labels": labelled and "erasure" in residue,
                }
                mended = replace(random, residue=residue).edits()
                if self.found.head is not None:
                    yield from self._refitted(mended, **what)
                yield self._edited(mended, **what)
        yield self._edited(edits, name="random latents ablated", role="control")

    def _by_words(self) -> Iterator[Variant]:
        """Rivals that change what is read: they need the attribute's words."""
        if self.part.counterfactual is not None:
            start = time.perf_counter()
            both = softmax(self._logits(self.part.inputs)) + softmax(self._logits(self.part.counterfactual))
            # an input and its counterfactual are averaged over the same two, so the decision cannot flip
            swapped = both[self.evaluation.swappable]
            yield measure(
                self.evaluation,
                both,
                swapped,
                name="averaged with the counterfactual",
                role="rival",
                seconds=time.perf_counter() - start,
            )
        if self.pairs is None:
            return
        pairs = self.pairs

        def deleted(texts: list[str]) -> list[str]:
            return [pairs.neutralize(text) for text in texts]

        yield self._judged(lambda texts: self._logits(deleted(texts)), name="words deleted", role="rival")
        if self.found.head is not None:
            fit = replace(self.fit, inputs=deleted(self.fit.inputs))
            head = fitted_head(self._logits, fit, {}, self._random_state)
            if head is not None:
                yield self._judged(
                    lambda texts: head.logits(self._logits.head_inputs(deleted(texts))),
                    name="words deleted, head refitted",
                    role="rival",
                    needs_group_labels=self.cells()[1],
                )
        if not isinstance(self.classifier, TextClassifier):
            return
        try:
            averaged = AveragedPairs.of(pairs, self.classifier.model.tokenizer)
        except ValueError as error:
            warnings.warn(f"The rival 'pairs averaged' is left out: {error}", stacklevel=2)
            return
        with averaged.applied(self.classifier.model):
            # computed each time: the weights are not those that kept logits are known by
            yield self._judged(
                lambda texts: self.classifier.logits(texts, verbose=self._verbose),
                name="pairs averaged",
                role="rival",
            )

    def _by_erasers(self) -> Iterator[Variant]:
        """Linear erasers at the site where our own residue is erased, with no latents."""
        site, groups = self.found.residue_site, self.fit.groups
        x = self._read(self.fit.inputs, site, {})
        if self.fit.counterfactual is not None:
            other = self._read(self.fit.counterfactual, site, {})
            if np.any(x != other):
                eraser = SwapProjection().fit(x, counterfactual=other)
                yield from self._both({site: eraser.as_edit()}, name="swap projection", role="rival")
        sides = groups.side
        if comparable(sides[sides != 0], self.fit.y[sides != 0]):
            rows = sides != 0
            eraser = LEACEGivenY().fit(x[rows], self.fit.y[rows], sensitive_features=sides[rows])
            yield from self._both({site: eraser.as_edit()}, name="LEACE given y, by words", role="rival")
        if groups.source == "labels" and comparable(groups.values[groups.known], self.fit.y[groups.known]):
            rows = groups.known
            eraser = LEACEGivenY().fit(x[rows], self.fit.y[rows], sensitive_features=groups.values[rows])
            yield from self._both(
                {site: eraser.as_edit()}, name="LEACE given y", role="rival", needs_group_labels=True
            )

    def _both(self, edits: Mapping[str, Edit], **what: Any) -> Iterator[Variant]:
        """A rival's edit with the head kept, and with it refitted wherever ours is: neither is given more."""
        yield self._edited(edits, **what)
        if self.found.head is not None:
            yield from self._refitted(edits, **what)

    def _refitted(self, edits: Mapping[str, Edit], *, name: str, **what: Any) -> Iterator[Variant]:
        head = fitted_head(self._logits, self.fit, edits, self._random_state)
        if head is not None:
            what["needs_group_labels"] = what.get("needs_group_labels", False) or self.cells()[1]
            yield self._by_head(head, edits, name=f"{name}, head refitted", **what)

    def _refitted_only(self) -> Iterator[Variant]:
        """The same refitting of the head without any edit: what the edit itself brings shows beside it."""
        head = fitted_head(self._logits, self.fit, {}, self._random_state)
        if head is not None:
            yield self._by_head(
                head, {}, name="head refitted", role="rival", needs_group_labels=self.cells()[1]
            )

    def _dfr(self) -> Iterator[Variant]:
        groups = self.fit.groups
        y, values = self.fit.y[groups.known], groups.values[groups.known]
        if groups.source != "labels" or not len(y):
            return
        cells = pd.crosstab(y, values)
        if cells.shape[0] < 2 or cells.shape[1] < 2 or cells.to_numpy().min() < MIN_BALANCED:
            return  # it draws as many rows of each cell as the smallest has
        known = self.fit.at(np.flatnonzero(groups.known))
        x = self._logits.head_inputs(known.inputs)
        if not x.shape[1]:
            return
        probe = DFR(random_state=self._random_state).fit(x, y, sensitive_features=values)

        def decide(inputs: Any) -> NDArray[np.float64]:
            scores = np.full((len(inputs), len(self.classifier.classes)), -np.inf)
            scores[:, probe.classes_] = probe.predict_proba(self._logits.head_inputs(inputs))
            return scores

        yield self._judged(
            decide, name="head refitted on balanced groups (DFR)", role="rival", needs_group_labels=True
        )

    def _by_head(self, head: Head, edits: Mapping[str, Edit], **what: Any) -> Variant:
        return self._judged(lambda inputs: head.logits(self._logits.head_inputs(inputs, edits)), **what)

    def _read(self, inputs: Any, site: str, edits: Mapping[str, Edit]) -> NDArray[np.float32]:
        if edits:
            return self._logits.pooled(inputs, site, edits)
        # several states read the same of the unedited classifier; the inputs are kept so that their id stays theirs
        key = (id(inputs), site)
        if key not in self._unedited:
            self._unedited[key] = (inputs, self._logits.pooled(inputs, site))
        return self._unedited[key][1]


def head_cells(part: Part) -> tuple[NDArray[np.str_], bool]:
    """Cells in which a refitted head counts rows alike, and whether attribute labels were needed to tell them.

    Label and side of the attribute's words, where rows hold such words; else label and known attribute value.
    """
    groups = part.groups
    sides, labelled = groups.side.astype(str), False
    if not groups.side.any() and groups.source == "labels":
        sides, labelled = groups.values, bool(groups.known.any())
    return np.array([f"{label}/{side}" for label, side in zip(part.y, sides, strict=True)]), labelled


def fitted_head(logits: KeptLogits, part: Part, edits: Mapping[str, Edit], random_state: int) -> Head | None:
    """The last layer fitted again on rows under edits; None where there is none, or only one label."""
    rows = head_rows(head_cells(part)[0], random_state)
    chosen = part.at(rows)
    x = logits.head_inputs(chosen.inputs, edits)
    if not x.shape[1] or len(np.unique(chosen.y)) < 2:
        return None
    return refit_head(x, chosen.y, head_cells(chosen)[0], len(logits.classifier.classes))


def changed_rows(inputs: Any, counterfactual: Any) -> NDArray[np.bool_]:
    """Rows that their counterfactual differs from; where both hold NaN they agree.

    Parameters
    ----------
    inputs, counterfactual : list, array or DataFrame of length n

    Raises
    ------
    ValueError
        Their shapes differ, or a DataFrame's columns.

    Examples
    --------
    >>> changed_rows(["a", "he"], ["a", "she"]).tolist()
    [False, True]
    """
    if isinstance(inputs, pd.DataFrame) and isinstance(counterfactual, pd.DataFrame):
        if set(inputs.columns) != set(counterfactual.columns):
            raise ValueError(
                f"The counterfactual has the columns {list(counterfactual.columns)}, the inputs {list(inputs.columns)}."
            )
        counterfactual = counterfactual[inputs.columns]
    if isinstance(inputs, list) and all(isinstance(item, str) for item in inputs[:1]):
        return np.array([one != other for one, other in zip(inputs, counterfactual, strict=True)], dtype=bool)
    before, after = np.asarray(inputs), np.asarray(counterfactual)
    if before.shape != after.shape:
        raise ValueError(
            f"The counterfactual has the shape {after.shape}, the inputs {before.shape}: give one row for each, of the "
            "same form."
        )
    differ = (before != after) & ~(pd.isna(before) & pd.isna(after))
    return cast(NDArray[np.bool_], differ.reshape(len(before), -1).any(axis=1))


def at_most(rows: NDArray[np.bool_], n: int, random_state: int) -> NDArray[np.bool_]:
    """At most `n` of the rows that are marked, drawn at random.

    Examples
    --------
    >>> at_most(np.array([True, False, True, True]), 2, 0).sum()
    np.int64(2)
    """
    marked = np.random.default_rng(random_state).permutation(np.flatnonzero(rows))[:n]
    chosen = np.zeros_like(rows)
    chosen[marked] = True
    return chosen


def softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Probabilities of each row.

    Examples
    --------
    >>> softmax(np.log([[1.0, 3.0]])).tolist()
    [[0.25, 0.75]]
    """
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
    return shifted / shifted.sum(axis=1, keepdims=True)
