"""A text classifier from end to end: MiniLM with a head that leans on gender, audited by words, edited, exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from ssae_debias.audit import AuditReport, LatentSettings, TextClassifier, attributed, audit, leaks
from ssae_debias.data import Task, WordPairs, synthetic_biographies
from ssae_debias.metrics import linear_probe

LENGTH = 32
SETTINGS = LatentSettings(
    sites=("embed",), d_sae=192, k=12, train_tokens=12_000, max_latents=6, min_effect=0.8
)


@pytest.fixture(scope="module")
def task() -> Task:
    return synthetic_biographies(240, correlation=1.0, random_state=0)


@pytest.fixture(scope="module")
def folder(task: Task, minilm_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniLM's body as it is, its head a logistic regression on texts in which gender goes with the profession."""
    names = dict(enumerate(task.label_names))
    model = AutoModelForSequenceClassification.from_pretrained(minilm_path, num_labels=2, id2label=names)
    tokenizer = AutoTokenizer.from_pretrained(minilm_path)
    read: list[torch.Tensor] = []
    handle = model.classifier.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    rows = task.rows("train")
    with torch.inference_mode():
        for start in range(0, len(rows), 32):
            texts = [task.texts[row] for row in rows[start : start + 32]]
            model.eval()(
                **tokenizer(texts, truncation=True, max_length=LENGTH, padding=True, return_tensors="pt")
            )
    handle.remove()
    probe = LogisticRegression(C=10, max_iter=2000).fit(torch.cat(read).numpy(), task.y[rows])
    with torch.no_grad():
        weight = torch.from_numpy(np.concatenate([-probe.coef_, probe.coef_]) / 2)
        model.classifier.weight.copy_(weight)
        model.classifier.bias.copy_(torch.tensor([-1.0, 1.0]) * float(probe.intercept_[0]) / 2)
    path = tmp_path_factory.mktemp("models") / "professions"
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def report(task: Task, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AuditReport:
    part = np.where(np.isin(task.split, ["dev", "test"]), "evaluation", "fit")
    gender = np.array(["M", "F"], dtype=object)[task.sensitive_features]
    gender[part == "fit"] = None  # latents are found by words alone
    with pytest.MonkeyPatch.context() as patch:
        # most of a small audit's time
        patch.setattr(leaks, "mlp_probe", linear_probe)
        patch.setattr(attributed, "MAX_TEXTS", 40)
        return audit(
            TextClassifier(folder, max_length=LENGTH),
            task.texts,
            task.y,
            sensitive_features=gender,
            part=part,
            settings=SETTINGS,
            rivals=False,
            out=tmp_path_factory.mktemp("audits"),
            verbose=0,
        )


@pytest.mark.slow
def test_flips_fall_and_words_alone_found_the_latents(report: AuditReport, task: Task, folder: Path) -> None:
    start, edited = report.original, report.edited
    assert start.flips["rate"].low > 0.05
    assert edited.flips["rate"].mean < start.flips["rate"].mean / 1.5
    assert not edited.needs_group_labels
    assert set(start.groups) == {f"{label}/{value}" for label in task.label_names for value in "FM"}
    assert report.content.attribute == "gender"
    latents = report.content.latents
    ablated = latents[latents["decision"] == "ablate"]
    words = {str(token).lower() for tokens in ablated["top_tokens"] for token in tokens}
    gendered = {word.lower() for side in (0, 1) for word in WordPairs.gender().words(side)}
    assert words & gendered
    assert all(len(texts) for texts in ablated["top_texts"])
    assert ablated["attribution"].notna().all()
    # counted by hand, with transformers alone
    rows = np.flatnonzero(np.isin(task.split, ["dev", "test"]))
    texts = [task.texts[row] for row in rows]
    swapped = [WordPairs.gender().swap(text) for text in texts]
    classifier = TextClassifier(folder, max_length=LENGTH)
    flipped = classifier.logits(texts).argmax(1) != classifier.logits(swapped).argmax(1)
    changed = np.array([one != other for one, other in zip(texts, swapped, strict=True)])
    assert start.flips["n"] == changed.sum()
    assert start.flips["rate"].mean == flipped[changed].mean()


@pytest.mark.slow
def test_the_exported_model_decides_as_the_live_one(report: AuditReport, task: Task, tmp_path: Path) -> None:
    exported = report.export(tmp_path / "edited")
    texts = list(task.texts[:12])
    model = AutoModelForSequenceClassification.from_pretrained(exported.path, trust_remote_code=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(exported.path)
    batch = tokenizer(texts, truncation=True, max_length=LENGTH, padding=True, return_tensors="pt")
    with torch.inference_mode():
        given = {name: batch[name] for name in ("input_ids", "attention_mask")}
        found = model(**given).logits.numpy()
    np.testing.assert_allclose(found, report.edited_classifier()(texts), atol=1e-4)
    assert np.abs(found - report.classifier.logits(texts)).max() > 1e-3


@pytest.mark.slow
def test_texts_without_pairs_need_labels_that_differ_from_y(task: Task, folder: Path) -> None:
    rows = task.rows("train")
    given: dict[str, Any] = {"attribute": None, "settings": SETTINGS, "verbose": 0}
    with pytest.raises(ValueError, match="no label holds two values of the attribute"):
        audit(
            folder,
            [task.texts[row] for row in rows],
            task.y[rows],
            sensitive_features=task.sensitive_features[rows],
            **given,
        )
