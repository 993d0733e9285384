"""The last layer fitted again: cells count alike, only the layer that decides is taken, and it is put back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planted_audit import leaning_pipeline, planted
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from ssae_debias.audit import ModuleClassifier, PipelineClassifier
from ssae_debias.audit.heads import Head, head_rows, last_linear, refit_head

DATA = planted(400)


def test_cells_count_alike_and_tiny_ones_do_not_count_double() -> None:
    random = np.random.default_rng(0)
    y = random.integers(2, size=2000)
    a = np.where(random.random(2000) < 0.95, y, 1 - y)
    x = random.normal(size=(2000, 2)) + np.column_stack([1.5 * y, 3 * a])
    cells = np.array([f"{label}{value}" for label, value in zip(y, a, strict=True)])
    plain, balanced = refit_head(x, y, np.zeros(2000), 2), refit_head(x, y, cells, 2)
    against = a != y
    right = [(head.logits(x).argmax(1) == y)[against].mean() for head in (plain, balanced)]
    assert right[1] > right[0] + 0.2
    # two rows of a label that is nothing but them do not outweigh all others
    few, labels = cells.copy(), y.copy()
    few[:2] = "rare"
    labels[:2] = 1 - labels[:2]
    with_them = refit_head(x, labels, few, 2).logits(x)[2:].argmax(1)
    assert (with_them == balanced.logits(x)[2:].argmax(1)).mean() > 0.95


@pytest.mark.parametrize("labels", [(0, 1), (0, 1, 2), (0, 2)])
def test_labels_without_rows_never_win(labels: tuple[int, ...]) -> None:
    random = np.random.default_rng(1)
    y = random.choice(labels, 300)
    x = random.normal(0, 0.2, (300, 4)) + np.eye(4)[y]
    decided = refit_head(x, y, y, 3).logits(x).argmax(1)
    assert (decided == y).mean() > 0.98
    assert set(decided.tolist()) <= set(labels)


def test_one_label_cannot_be_fitted() -> None:
    with pytest.raises(ValueError, match="class"):
        refit_head(np.eye(3), np.zeros(3, dtype=int), np.zeros(3), 2)


def test_a_layer_gets_its_weights_back() -> None:
    head = Head(np.array([[1.0, 2.0], [3.0, 5.0]], dtype="float32"), np.array([1.0, 4.0], dtype="float32"))
    x = torch.tensor([[1.0, 1.0]])
    for layer in (nn.Linear(2, 2), nn.Linear(2, 1)):
        before = layer(x).detach().clone()
        with pytest.raises(RuntimeError, match="inside"), head.applied(layer):
            logits = layer(x).detach()
            difference = logits[0, -1] - (logits[0, 0] if layer.out_features == 2 else 0)
            assert difference.item() == pytest.approx(8.0)
            raise RuntimeError("inside")
        torch.testing.assert_close(layer(x), before)
    with pytest.raises(ValueError, match=r"the layer has \(3, 2\)"), head.applied(nn.Linear(2, 3)):
        pass


class Odd(nn.Module):
    """A linear layer with as many outputs as labels, which does not decide."""

    def __init__(self, ending: nn.Module) -> None:
        super().__init__()
        self.first, self.gate, self.ending = nn.Linear(8, 6), nn.Linear(6, 2), ending

    def forward(self, x: Tensor) -> Tensor:
        return self.ending(self.gate(self.first(x)))


@pytest.mark.parametrize(
    ("ending", "decides"),
    [(nn.Identity(), True), (nn.LogSoftmax(1), True), (nn.Tanh(), False), (nn.Softmax(1), False)],
    ids=lambda value: type(value).__name__,
)
def test_only_a_layer_that_decides_is_the_head(ending: nn.Module, decides: bool) -> None:
    torch.manual_seed(0)
    module = Odd(ending)
    classifier = ModuleClassifier(module, "first", classes=["no", "yes"], batch_size=90)
    logits, x = classifier.decisions(3 * DATA.X)
    assert logits.shape == (400, 2)
    assert x.shape == ((400, 6) if decides else (400, 0))
    if decides:
        np.testing.assert_allclose(x, module.first(torch.from_numpy(3 * DATA.X)).detach().numpy(), atol=1e-5)


def test_what_a_pipeline_decides_by_is_fitted_again_only_where_it_is_linear() -> None:
    linear = PipelineClassifier(leaning_pipeline(DATA))
    assert linear.decisions(DATA.X)[1].shape == (400, 8)
    forest = make_pipeline(StandardScaler(), RandomForestClassifier(3, random_state=0)).fit(DATA.X, DATA.y)
    assert PipelineClassifier(forest).decisions(DATA.X)[1].shape == (400, 0)


def test_rows_are_drawn_from_every_cell() -> None:
    cells = np.repeat(["a", "b", "c"], [1000, 30, 1])
    rows = head_rows(cells, 0)
    assert np.unique(cells[rows], return_counts=True)[1].tolist() == [350, 30, 1]
    assert last_linear(nn.ReLU(), 2) is None
