"""A torch module as an audit sees it: read and edited at layers of every shape, one logit or many."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from ssae_debias.audit import ModuleClassifier
from ssae_debias.audit.classifiers import label_codes, pooled
from ssae_debias.audit.classifiers.inputs import written_rows
from ssae_debias.edit import Projection

RANDOM = np.random.default_rng(0)


def removing(column: int, d: int) -> Projection:
    return Projection.onto_complement_of(torch.eye(d)[column : column + 1], center=torch.zeros(d))


class Tokens(nn.Module):
    """(n, tokens, d) at `body`."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).tanh().mean(1))


def image_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(5, 2),
    )  # fmt: skip


def by_hook(module: nn.Module, path: str, change: Any, x: np.ndarray) -> np.ndarray:
    """Logits while a plain forward hook of ours changes what a layer returns."""
    handle = module.get_submodule(path).register_forward_hook(lambda *call: change(call[2].clone()))
    with torch.no_grad():
        logits = module(torch.from_numpy(x)).numpy()
    handle.remove()
    return logits


def test_edits_of_an_image_layer_act_on_channels() -> None:
    module, x = image_network(), RANDOM.normal(size=(7, 1, 8, 8)).astype("float32")
    classifier = ModuleClassifier(module, ["2", "0"], classes=["cat", "dog"], batch_size=3)
    assert classifier.sites == ("module:0", "module:2")

    def without(y: Tensor) -> Tensor:
        y[:, 4] = 0
        return y

    found = classifier.logits(x, {"module:0": removing(4, 6)})
    np.testing.assert_allclose(found, by_hook(module, "0", without, x), atol=1e-6)
    np.testing.assert_allclose(classifier.logits(x), module(torch.from_numpy(x)).detach().numpy(), atol=1e-6)


def test_layers_of_different_sizes_are_read_together() -> None:
    module, x = image_network(), RANDOM.normal(size=(5, 1, 8, 8)).astype("float32")
    classifier = ModuleClassifier(module, ["0", "2", "4"], classes=["cat", "dog"], batch_size=2)
    found = pooled(classifier, x, classifier.sites)
    first = module[0](torch.from_numpy(x))
    second = module[2](module[1](first))
    np.testing.assert_allclose(found["module:0"], first.mean((2, 3)).detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(found["module:2"], second.mean((2, 3)).detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(found["module:4"], second.mean((2, 3)).detach().numpy(), atol=1e-6)
    batch = next(classifier.tokens(x, ["module:0"]))
    assert batch.text_index.tolist() == [0] * 36 + [1] * 36
    np.testing.assert_allclose(
        batch.activations["module:0"][7], first[0, :, 1, 1].detach().numpy(), atol=1e-6
    )


def test_edits_of_a_sequence_act_on_tokens() -> None:
    torch.manual_seed(1)
    module, x = Tokens(), RANDOM.normal(size=(6, 5, 4)).astype("float32")
    classifier = ModuleClassifier(module, "body", classes=["a", "b", "c"])
    edits = {"module:body": removing(2, 6)}

    def without(y: Tensor) -> Tensor:
        y[..., 2] = 0
        return y

    np.testing.assert_allclose(classifier.logits(x, edits), by_hook(module, "body", without, x), atol=1e-6)
    edited = pooled(classifier, x, ["module:body"], edits)["module:body"]
    assert np.abs(edited[:, 2]).max() == 0
    assert next(classifier.tokens(x, ["module:body"])).position.tolist()[:6] == [0, 1, 2, 3, 4, 0]
    assert not module.body._forward_hooks


@pytest.mark.parametrize("squeezed", [False, True])
def test_one_logit_is_that_of_the_second_label(squeezed: bool) -> None:
    layers: list[nn.Module] = [nn.Linear(3, 4), nn.Linear(4, 1)] + ([nn.Flatten(0)] if squeezed else [])
    module = nn.Sequential(*layers)
    x = RANDOM.normal(size=(9, 3)).astype("float32")
    found = ModuleClassifier(module, "0", classes=["no", "yes"]).logits(x)
    logit = module(torch.from_numpy(x)).detach().numpy().ravel()
    np.testing.assert_allclose(found, np.column_stack([np.zeros(9), logit]), atol=1e-6)
    with pytest.raises(ValueError, match="logits of shape"):
        ModuleClassifier(module, "0", classes=["a", "b", "c"]).logits(x)


def test_wrong_logits_are_named() -> None:
    x = RANDOM.normal(size=(4, 3)).astype("float32")
    with pytest.raises(ValueError, match=r"logits of shape \(n, 3\)"):
        ModuleClassifier(nn.Sequential(nn.Linear(3, 2)), "0", classes=["a", "b", "c"]).logits(x)
    broken = nn.Sequential(nn.Linear(3, 2))
    with torch.no_grad():
        broken[0].bias[0] = torch.nan
    with pytest.raises(ValueError, match="NaN for 4 of 4"):
        ModuleClassifier(broken, "0", classes=["a", "b"]).logits(x)


def test_inputs_are_taken_as_they_are_and_stay_so() -> None:
    classifier = ModuleClassifier(
        nn.Sequential(nn.Linear(3, 2)), "0", classes=["a", "b"], columns=list("xyz")
    )
    rows = RANDOM.normal(size=(4, 3))
    for given in (rows, torch.from_numpy(rows).requires_grad_(), pd.DataFrame(rows, columns=list("xyz"))):
        np.testing.assert_allclose(
            classifier.logits(classifier.checked(given)), classifier.logits(rows), atol=1e-6
        )
    assert classifier.written(np.array([[1.0, 2.5, 3.0]])) == ["x 1, y 2.5, z 3"]
    in_place = ModuleClassifier(
        nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 2)), "0", classes=["a", "b"]
    )
    given32 = rows.astype("float32")
    in_place.logits(given32)
    np.testing.assert_array_equal(given32, rows.astype("float32"))
    with pytest.raises(ValueError, match="NaN or infinity"):
        classifier.checked(np.array([[np.inf, 0, 0]]))
    with pytest.raises(ValueError, match="not texts"):
        classifier.checked(["He left."])
    with pytest.raises(ValueError, match="not among the sites module:0"):
        classifier.logits(rows, {"module:1": removing(0, 3)})


def test_wrong_arguments_are_named() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.Conv1d(2, 2, 1))
    with pytest.raises(TypeError, match="got str"):
        ModuleClassifier("module", "0", classes=["a", "b"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="two or more different names"):
        ModuleClassifier(module, "0", classes=["a", "a"])
    with pytest.raises(ValueError, match="Name at least one site"):
        ModuleClassifier(module, [], classes=["a", "b"])
    with pytest.raises(ValueError, match="no module '7'"):
        ModuleClassifier(module, "7", classes=["a", "b"])
    with pytest.raises(ValueError, match=r"\(n, d, length\)"):
        ModuleClassifier(module, "1", classes=["a", "b"])


def test_the_fingerprint_knows_weights_and_layers() -> None:
    torch.manual_seed(0)
    first, last = nn.Linear(3, 4), nn.Linear(4, 2)

    def of(between: nn.Module, site: str = "0") -> str:
        return ModuleClassifier(nn.Sequential(first, between, last), site, classes=["a", "b"]).fingerprint

    relu = of(nn.ReLU())
    assert of(nn.ReLU()) == relu
    assert len({relu, of(nn.GELU()), of(nn.ReLU(), "1")}) == 3
    with torch.no_grad():
        last.bias[0] += 1e-6
    assert of(nn.ReLU()) != relu


class Named:
    """What `label_codes` asks of a classifier."""

    name = "some"

    def __init__(self, *classes: str) -> None:
        self.classes = classes


@pytest.mark.parametrize(
    ("classes", "y", "codes"),
    [
        (("surgeon", "nurse"), ["nurse", "surgeon"], [1, 0]),
        (("surgeon", "nurse"), [1, 0], [1, 0]),
        (("surgeon", "nurse"), [1.0, 0.0], [1, 0]),
        (("False", "True"), [True, False], [1, 0]),
        (("1", "2"), [1, 2], [0, 1]),
        (("2", "1"), [1, 2], [1, 0]),
    ],
)
def test_labels_by_name_and_by_index(classes: tuple[str, ...], y: list[Any], codes: list[int]) -> None:
    assert label_codes(Named(*classes), y, 2).tolist() == codes  # type: ignore[arg-type]


def test_labels_that_are_neither_are_refused() -> None:
    with pytest.raises(ValueError, match="y holds 'doctor'; the classifier some decides between"):
        label_codes(Named("surgeon", "nurse"), ["nurse", "doctor"], 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="y holds '0', '2'"):
        label_codes(Named("surgeon", "nurse"), [0, 2], 2)  # type: ignore[arg-type]
    # classes called 1 and 2: a 0 among the labels is a mistake, not the first class
    with pytest.raises(ValueError, match="y holds '0'"):
        label_codes(Named("1", "2"), [0, 1], 2)  # type: ignore[arg-type]


def test_rows_are_written_with_the_numbers_they_have_in_the_data() -> None:
    assert written_rows(np.zeros((2, 4, 4)), [17, 4]) == ["row 17, 4 × 4", "row 4, 4 × 4"]
    long = written_rows(pd.DataFrame(np.arange(60).reshape(2, 30)))
    assert long[1].startswith("0 30, 1 31")
    assert long[1].endswith("23 53, …")
