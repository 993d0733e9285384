"""A Hugging Face classifier as an audit sees it: plain transformers' logits, edits inside, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from ssae_debias.activations import read_pooled
from ssae_debias.audit import TextClassifier
from ssae_debias.audit.classifiers import pooled
from ssae_debias.edit import Projection

TEXTS = ["She is a nurse.", "He operates.", "A much longer text about a ward in Leeds and its people.", "No."]


@pytest.fixture(scope="module")
def folder(minilm_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniLM with a head of three labels, saved as a team would save its own."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        minilm_path, num_labels=3, id2label=dict(enumerate(("nurse", "surgeon", "other")))
    )
    path = tmp_path_factory.mktemp("models") / "my-classifier"
    model.save_pretrained(path)
    AutoTokenizer.from_pretrained(minilm_path).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def classifier(folder: Path) -> TextClassifier:
    return TextClassifier(folder, max_length=16, batch_size=3)


def plain(folder: Path, texts: list[str], change: object = None) -> np.ndarray:
    """Logits by transformers alone, text by text, with a hook of ours on the third block."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if change is not None:
        model.bert.encoder.layer[2].register_forward_hook(change)
    with torch.inference_mode():
        return np.concatenate(
            [
                model(**tokenizer(text, truncation=True, max_length=16, return_tensors="pt")).logits
                for text in texts
            ]
        )


def test_logits_are_plain_transformers(classifier: TextClassifier, folder: Path) -> None:
    np.testing.assert_allclose(classifier.logits(TEXTS), plain(folder, TEXTS), atol=2e-5)
    assert classifier.classes == ("nurse", "surgeon", "other")
    assert classifier.name == "my-classifier"
    assert classifier.sites == ("embed", *(f"resid.{block}" for block in range(6)))
    assert classifier.logits([]).shape == (0, 3)


def test_edits_act_inside_the_model(classifier: TextClassifier, folder: Path) -> None:
    direction = torch.nn.functional.normalize(
        torch.randn(384, generator=torch.Generator().manual_seed(1)), dim=0
    )

    def without(_module: object, _given: object, output: object) -> object:
        x = output[0] if isinstance(output, tuple) else output
        edited = x - (x @ direction)[..., None] * direction
        return (edited, *output[1:]) if isinstance(output, tuple) else edited

    edits = {"resid.2": Projection.onto_complement_of(direction[None], center=torch.zeros(384))}
    found = classifier.logits(TEXTS, edits)
    np.testing.assert_allclose(found, plain(folder, TEXTS, without), atol=2e-5)
    assert np.abs(found - classifier.logits(TEXTS)).max() > 1e-3
    edited = pooled(classifier, TEXTS, ["resid.2", "resid.4"], edits)
    assert np.abs(edited["resid.2"] @ direction.numpy()).max() < 1e-5
    np.testing.assert_allclose(
        pooled(classifier, TEXTS, ["resid.4"])["resid.4"],
        read_pooled(classifier.model, TEXTS, "resid.4", include_special=True, max_length=16)["resid.4"],
        atol=1e-5,
    )


def test_a_live_model_is_audited_as_its_folder(classifier: TextClassifier, folder: Path) -> None:
    live = AutoModelForSequenceClassification.from_pretrained(folder).train()
    found = TextClassifier(live, tokenizer=AutoTokenizer.from_pretrained(folder), max_length=16)
    np.testing.assert_allclose(found.logits(TEXTS), classifier.logits(TEXTS), atol=2e-5)
    assert found.fingerprint == classifier.fingerprint
    assert TextClassifier(folder, max_length=8).fingerprint != classifier.fingerprint
    with torch.no_grad():
        live.classifier.bias[0] += 1
    assert found.fingerprint != classifier.fingerprint  # weights as they are now


def test_a_model_without_a_trained_head_is_refused(minilm_path: Path) -> None:
    with pytest.raises(ValueError, match=r"without a trained classification head: it lacks classifier\.bias"):
        TextClassifier(minilm_path)
    body = AutoModel.from_pretrained(minilm_path)
    with pytest.raises(TypeError, match="BertModel has no classification head"):
        TextClassifier(body, tokenizer=AutoTokenizer.from_pretrained(minilm_path))


def test_regressions_and_multi_label_heads_are_refused(minilm_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(minilm_path)
    for options in ({"num_labels": 1}, {"num_labels": 3, "problem_type": "multi_label_classification"}):
        model = AutoModelForSequenceClassification.from_pretrained(minilm_path, **options)
        with pytest.raises(ValueError, match="one of two or more labels"):
            TextClassifier(model, tokenizer=tokenizer)


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="is not a folder here with a classifier"):
        TextClassifier(tmp_path / "nowhere")


def test_texts_are_checked(classifier: TextClassifier) -> None:
    assert classifier.checked(np.array(TEXTS)) == TEXTS
    with pytest.raises(TypeError):
        classifier.checked("one text")
    with pytest.raises((TypeError, ValueError)):
        classifier.checked([1, 2])
