"""The last layer fitted again: against scikit-learn's own, in the module, and what it is given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from ssae_debias.audit import ModuleClassifier
from ssae_debias.audit.groups import Groups
from ssae_debias.audit.heads import Head, head_rows, in_order, last_linear, refit_head
from ssae_debias.audit.kept_logits import KeptLogits
from ssae_debias.audit.variants import Part, fitted_head, head_cells

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(2.0, [1.0, 3.0, 0.5], size=(400, 3))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_refitted_head_decides_as_the_weighted_regression(n_classes: int) -> None:
    y = (X[:, 0] + 0.3 * RANDOM.normal(size=400) > np.quantile(X[:, 0], 0.5)).astype(np.int64)
    if n_classes == 3:
        y += X[:, 1] > 4
    cells = np.array([f"{label}/{value}" for label, value in zip(y, X[:, 2] > 2.6, strict=True)])
    counts = {cell: (cells == cell).sum() for cell in set(cells)}
    weights = np.array([1 / max(counts[cell], 10) for cell in cells])
    scaler = StandardScaler().fit(X)
    reference = LogisticRegression(C=0.1, max_iter=2000)
    reference.fit(scaler.transform(X), y, sample_weight=weights * len(y) / weights.sum())
    logits = refit_head(X, y, cells, n_classes).logits(X)
    found = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert found == pytest.approx(reference.predict_proba(scaler.transform(X)), abs=1e-4)


def test_a_class_without_rows_never_wins() -> None:
    y = (X[:, 0] > 2).astype(np.int64) * 2
    assert set(refit_head(X, y, y, 3).logits(X).argmax(axis=1)) == {0, 2}


def test_a_rare_cell_is_heard() -> None:
    """Twenty rows of a cell in which the large cells' shortcut fails outweigh their number."""
    y = np.repeat([0, 1], [300, 300])
    shortcut, task = y.astype(float).copy(), y + 0.4 * RANDOM.normal(size=600)
    rare = np.r_[0:20, 580:600]
    shortcut[rare] = 1 - shortcut[rare]
    x = np.column_stack([3 * shortcut + 0.2 * RANDOM.normal(size=600), task])
    cells = np.array([f"{label}/{value}" for label, value in zip(y, shortcut, strict=True)])
    right = lambda c: (refit_head(x, y, c, 2).logits(x).argmax(axis=1) == y)[rare].mean()  # noqa: E731
    assert right(cells) > right(np.zeros(600)) + 0.3


@pytest.mark.parametrize("n_outputs", [2, 1])
def test_a_head_stands_in_for_the_layer_and_leaves_it_as_it_was(n_outputs: int) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, n_outputs))
    classifier = ModuleClassifier(module, "1", classes=["no", "yes"])
    inputs = X.astype(np.float32)
    before, x = classifier.decisions(inputs)
    with torch.no_grad():
        assert x == pytest.approx(module[:2](torch.from_numpy(inputs)).numpy(), abs=1e-6)
    head = Head(RANDOM.normal(size=(2, 4)).astype("float32"), RANDOM.normal(size=2).astype("float32"))
    layer = classifier.head
    assert layer is module[2]
    with head.applied(layer):
        changed = classifier.logits(inputs)
    wanted = head.logits(x)
    assert changed[:, 1] - changed[:, 0] == pytest.approx(wanted[:, 1] - wanted[:, 0], abs=1e-4)
    assert np.array_equal(classifier.logits(inputs), before)


def test_a_head_of_another_shape_is_refused() -> None:
    head = Head(np.zeros((2, 5), dtype="float32"), np.zeros(2, dtype="float32"))
    with pytest.raises(ValueError, match=r"\(2, 5\)"), head.applied(nn.Linear(4, 2)):
        pass


def test_no_linear_layer_means_no_head() -> None:
    assert last_linear(nn.Sequential(nn.Linear(3, 7), nn.ReLU()), 2) is None
    classifier = ModuleClassifier(nn.Sequential(nn.Identity(), nn.ReLU()), "0", classes=["a", "b", "c"])
    logits, x = classifier.decisions(X.astype(np.float32))
    assert logits.shape == (400, 3)
    assert x.shape == (400, 0)
    part = Part(X.astype(np.float32), None, np.zeros(400, dtype=np.int64), nobody())
    assert fitted_head(KeptLogits(classifier, None), part, {}, 0) is None


def test_inputs_come_back_in_their_order() -> None:
    order = np.array([2, 0, 1])
    assert in_order([torch.tensor([[2.0]]), torch.tensor([[0.0], [1.0]])], order)[:, 0].tolist() == [0, 1, 2]
    assert in_order([torch.tensor([[2.0]])], order).shape == (
        3,
        0,
    )  # a layer that was not called on every input


def test_rows_of_a_large_cell_are_drawn_and_of_a_small_one_all_kept() -> None:
    cells = np.repeat(["big", "small"], [900, 30])
    rows = head_rows(cells, 0)
    assert (cells[rows] == "small").sum() == 30
    assert (cells[rows] == "big").sum() == 350
    assert not np.array_equal(rows, head_rows(cells, 1))


def test_cells_are_told_by_words_and_only_without_them_by_labels() -> None:
    y = np.array([0, 1, 0])
    values, known = np.array(["F", "M", ""]), np.array([True, True, False])
    worded = Part(["she", "he", ""], None, y, Groups(values, known, "labels", np.array([1, -1, 0])))
    assert head_cells(worded)[0].tolist() == ["0/1", "1/-1", "0/0"]
    assert not head_cells(worded)[1]
    labelled = Part(["", "", ""], None, y, Groups(values, known, "labels", np.zeros(3, dtype=np.int64)))
    assert head_cells(labelled)[0].tolist() == ["0/F", "1/M", "0/"]
    assert head_cells(labelled)[1]


def nobody() -> Groups:
    return Groups(np.full(400, ""), np.zeros(400, dtype=bool), "none", np.zeros(400, dtype=np.int64))
