"""An audit from end to end: planted leaks are found, named and edited; partly known, crossed, absent; stopped, resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from planted_audit import leaning_network, leaning_pipeline, other_attribute, planted
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from ssae_debias.audit import AuditReport, LatentSettings, ModuleClassifier, PipelineClassifier, audit, leaks
from ssae_debias.audit.kept_logits import KeptLogits
from ssae_debias.latents.decisions import Decision, Decisions, write_decisions
from ssae_debias.metrics import linear_probe

DATA = planted(600)
QUICK = LatentSettings(d_sae=24, k=3, train_tokens=6_000, min_effect=0.5)


def audited(classifier: Any = None, X: Any = DATA.X, y: Any = DATA.y, **given: Any) -> AuditReport:
    classifier = leaning_pipeline(DATA) if classifier is None else classifier
    options = {"attribute": None, "settings": QUICK, "rivals": False, "verbose": 0}
    return audit(classifier, X, y, **(options | given))


@pytest.fixture(autouse=True)
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A linear probe in place of the MLP, which takes most of a small audit's time."""
    monkeypatch.setattr(leaks, "mlp_probe", linear_probe)


@pytest.fixture(scope="module")
def network() -> ModuleClassifier:
    return ModuleClassifier(leaning_network(DATA), "1", classes=["no", "yes"], name="a network")


def test_a_planted_leak_is_edited_away_and_the_worst_group_rises(network: ModuleClassifier) -> None:
    report = audited(
        network,
        sensitive_features=pd.Series(np.array(["old", "young"])[DATA.a], name="age"),
        counterfactual=other_attribute(DATA),
    )
    start, edited = report.original, report.edited
    assert start.flips["rate"].low > 0.15
    assert start.worst_group in ("no/young", "yes/old")  # where label and attribute disagree
    assert edited.worst_group_accuracy.low > start.worst_group_accuracy.high
    assert edited.flips["rate"].high < start.flips["rate"].low
    assert set(start.flips_by_group) == set(start.groups)
    content = report.content
    assert content.attribute == "age"
    assert content.chance == 0.5
    assert content.leakage[0].edited_linear.mean < content.leakage[0].linear.mean
    assert content.tradeoff[0].n_latents == 0
    assert content.tradeoff[-1].n_latents == report.found.n_ablated
    assert sum(content.sets.values()) == 600
    assert abs(content.sets["fit rows"] - 300) < 4
    assert content.data.counts.to_numpy().sum() == 600
    assert content.data.attribute_from_label.low < 0.5  # drawn independently
    assert "attribution" in content.latents
    assert edited.name == "edited, head refitted"
    assert any("its last layer was fitted again" in sentence for sentence in content.summary)
    decided = report.edited_classifier()(DATA.X)
    assert np.abs(decided - report.classifier.logits(DATA.X, report.edits)).max() > 0.01
    assert not any("No latent" in sentence for sentence in content.unknown)
    json.dumps(report.to_dict(), allow_nan=False)
    assert not network.module[1]._forward_hooks


def test_counterfactuals_need_no_attribute() -> None:
    same_way = DATA.X.copy()
    same_way[DATA.a == 0, 1] += 1.0
    report = audited(counterfactual=lambda X: same_way)
    assert report.original.groups is None
    assert report.found.n_ablated > 0
    assert report.edited.flips["rate"].mean < report.original.flips["rate"].mean
    assert not report.edited.needs_group_labels
    assert any("No groups are known" in sentence for sentence in report.content.unknown)


def test_a_partly_known_attribute() -> None:
    values = np.array(["F", "M"])[DATA.a].astype(object)
    values[np.random.default_rng(0).random(600) < 0.4] = None
    report = audited(sensitive_features=values)
    known = sum(cell["n"] for cell in report.original.groups.values())
    assert known < 230
    assert report.edited.worst_group_accuracy.mean > report.original.worst_group_accuracy.mean
    assert any("evaluation rows is not known" in sentence for sentence in report.content.unknown)


def test_an_attribute_known_for_the_rows_that_judge_alone() -> None:
    part = np.where(np.arange(600) < 300, "fit", "evaluation")
    values = np.array(["F", "M"])[DATA.a].astype(object)
    values[part == "fit"] = None
    report = audited(sensitive_features=values, part=part)
    assert report.found.n_ablated == 0  # nothing tells the attribute's latents
    assert report.edited.accuracy == report.original.accuracy
    assert len(report.original.groups) == 4


def test_crossed_attributes_of_three_values_with_tiny_cells() -> None:
    random = np.random.default_rng(1)
    table = pd.DataFrame(
        {
            "sex": np.array(["F", "M"])[DATA.a],
            "site": random.choice(["a", "b", "c"], 600, p=[0.6, 0.385, 0.015]),
        }
    )
    report = audited(sensitive_features=table)
    assert len(report.original.groups) > 8
    assert report.content.attribute == "sex & site"
    said = " ".join(report.content.unknown)
    assert "Too few rows to judge these groups by" in said
    assert "Leakage is measured without" in said
    assert report.content.chance == 0.25  # of the six crossed values four can be read


def test_an_attribute_that_is_the_label_is_reported_not_blamed() -> None:
    report = audited(sensitive_features=np.array(["F", "M"])[DATA.y])
    assert report.found.n_ablated == 0
    said = " ".join(report.content.unknown)
    assert "the attribute and the label are the same thing (Cramér's V 1.00)" in said
    assert "Leakage was not measured" in said
    assert report.content.leakage == []


def test_three_labels_by_name() -> None:
    random = np.random.default_rng(2)
    y, a = random.integers(3, size=600), random.integers(2, size=600)
    X = random.normal(0, 0.3, (600, 8)) + np.eye(8)[y] + np.outer(a, np.eye(8)[5])
    names = np.array(["cat", "dog", "emu"])[y]
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, names)
    report = audited(pipeline, X, names, sensitive_features=a)
    assert set(report.original.groups) == {
        f"{name}/{value}" for name in ("cat", "dog", "emu") for value in "01"
    }
    assert report.original.accuracy.mean > 0.9


@pytest.mark.slow
def test_images_with_a_watermark() -> None:
    random = np.random.default_rng(3)
    y, a = random.integers(2, size=(2, 240))
    x = random.normal(0, 0.5, (240, 1, 10, 10)).astype("float32")
    x[:, 0, :5] += 2 * y[:, None, None]
    x[:, 0, 7:, 7:] += 4 * a[:, None, None]
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 2)
    )
    settings = LatentSettings(d_sae=16, k=2, train_tokens=6000, min_effect=0.5)
    report = audited(
        ModuleClassifier(module, ["0", "1"], classes=["no", "yes"]),
        torch.from_numpy(x),
        y,
        sensitive_features=a,
        settings=settings,
    )
    assert [leak.site for leak in report.content.leakage] == ["module:0", "module:1"]
    shown = report.content.latents["top_texts"].tolist()
    assert any(texts and texts[0][0].startswith("row ") for texts in shown)
    assert set(report.found.saes) == {"module:0", "module:1"}


@pytest.mark.slow
def test_a_stopped_audit_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {
        "sensitive_features": DATA.a,
        "counterfactual": other_attribute(DATA),
        "out": tmp_path,
    }
    done: list[int] = []
    whole = KeptLogits.__call__

    def stopping(self: KeptLogits, *arguments: Any) -> Any:
        done.append(1)
        if len(done) > 5:
            raise KeyboardInterrupt
        return whole(self, *arguments)

    monkeypatch.setattr(KeptLogits, "__call__", stopping)
    with pytest.raises(KeyboardInterrupt):
        audited(**given)
    monkeypatch.undo()
    assert not (tmp_path / "report.html").exists()
    first = audited(**given)
    assert (tmp_path / "report.html").is_file()
    computed: list[int] = []
    own = PipelineClassifier.decisions

    def counting(self: PipelineClassifier, *arguments: Any, **options: Any) -> Any:
        computed.append(1)
        return own(self, *arguments, **options)

    monkeypatch.setattr(PipelineClassifier, "decisions", counting)
    again = audited(**given)
    assert computed == []
    assert again.to_frame().equals(first.to_frame())


@pytest.mark.slow
def test_a_persons_decisions_are_replayed(tmp_path: Path) -> None:
    first = audited(sensitive_features=DATA.a)
    flagged = first.found.table[first.found.table["decision"] == "ablate"]
    items = {
        (site, int(latent)): Decision("keep", "the task's own")
        for site, latent in zip(flagged["site"], flagged["latent"], strict=True)
    }
    path = write_decisions(tmp_path / "decisions.json", Decisions(items, first.content.saes))
    kept = audited(sensitive_features=DATA.a, decisions=path)
    assert kept.found.n_ablated == 0
    assert "realignment" not in kept.found.residue  # it was learned for the latents of before
    assert kept.content.latents["reason"].str.contains("decided by a person: the task's own").sum() == len(
        flagged
    )
    with pytest.raises(ValueError, match="made about other SAEs"):
        audited(sensitive_features=DATA.a, decisions=path, random_state=1)


def test_inputs_are_not_changed() -> None:
    X, y = DATA.X.copy(), DATA.y.copy()
    values = np.array(["F", "M", None], dtype=object)[np.where(np.arange(600) < 50, 2, DATA.a)]
    before = values.copy()
    audited(None, X, y, sensitive_features=values)
    np.testing.assert_array_equal(X, DATA.X)
    np.testing.assert_array_equal(y, DATA.y)
    assert (values == before).all()


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({}, ValueError, "Nothing says what the attribute is"),
        (
            {"sensitive_features": DATA.a[:5]},
            ValueError,
            "lengths differ: inputs 600, y 600, sensitive_features 5",
        ),
        ({"sensitive_features": np.zeros(600)}, ValueError, "holds one value, '0', in 600 known rows"),
        ({"sensitive_features": DATA.a, "y": np.full(600, "maybe")}, ValueError, "y holds 'maybe'"),
        ({"sensitive_features": DATA.a, "evaluation_size": 2}, ValueError, "between 0 and 1"),
        (
            {"sensitive_features": DATA.a, "counterfactual": DATA.X[:7]},
            ValueError,
            "holds 7 rows, the inputs 600",
        ),
        ({"classifier": LogisticRegression()}, TypeError, "Cannot audit a LogisticRegression"),
        ({"classifier": 3}, TypeError, "Cannot audit a int"),
        (
            {"sensitive_features": DATA.a, "settings": LatentSettings(sites=("nowhere",))},
            ValueError,
            "no site nowhere; it has standardscaler",
        ),
    ],
)
def test_wrong_input_is_named(given: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        audited(**given)
