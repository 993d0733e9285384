"""`SSAEDebiaser.export`: the folder computes what the debiaser's edited model does, and its card says what was done."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.exceptions import NotFittedError
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from ssae_debias import SSAEDebiaser
from ssae_debias.data import synthetic_biographies
from ssae_debias.edit.export.comparing import quiet
from ssae_debias.estimators.exporting import MAX_LATENTS, effect_rows

SETTINGS = {
    "sites": ["embed", "resid.1"],
    "output_site": "resid.2",
    "d_sae": 256,
    "k": 8,
    "train_tokens": 8_000,
    "max_length": 48,
    "random_state": 0,
}
TASK = synthetic_biographies(240, correlation=0.8, random_state=0)
TEXTS, Y, A = list(TASK.texts[:160]), TASK.y[:160], TASK.sensitive_features[:160]


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    with quiet():
        yield
    while str(tmp_path / "modules") in sys.path:
        sys.path.remove(str(tmp_path / "modules"))


@pytest.fixture(scope="module")
def fitted(minilm_path: Path) -> SSAEDebiaser:
    return SSAEDebiaser("demo", **SETTINGS).fit(TEXTS, Y)


def pooled(folder: Path, texts: list[str], site: int) -> np.ndarray:
    """Mean of the hidden state after block `site`, with transformers alone."""
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=48, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**inputs, output_hidden_states=True).hidden_states[site + 1]
    mask = inputs["attention_mask"][..., None]
    return ((hidden * mask).sum(1) / mask.sum(1)).numpy()


def test_the_folder_gives_what_transform_gives(fitted: SSAEDebiaser, tmp_path: Path) -> None:
    done = fitted.export(tmp_path / "edited")
    assert done.in_module.keys() == {"embed", "resid.1", "resid.2"}
    assert done.max_difference is not None
    assert done.max_difference < 1e-5
    found = pooled(done.path, TEXTS[:20], 2)
    np.testing.assert_allclose(found, fitted.transform(TEXTS[:20]), atol=2e-5)
    assert np.abs(found - fitted.transform_unedited(TEXTS[:20])).max() > 0.01


def test_the_card_says_what_was_found_done_and_measured(fitted: SSAEDebiaser, tmp_path: Path) -> None:
    report = fitted.report(TEXTS, Y, sensitive_features=A, n_splits=2)
    done = fitted.export(tmp_path / "edited", report=report)
    card = (done.path / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(card.split("---\n")[1])
    assert (front["base_model"], front["license"]) == ("sentence-transformers/all-MiniLM-L6-v2", "apache-2.0")
    flagged = fitted.flagged_[fitted.flagged_["decision"] == "ablate"]
    assert f"{len(flagged)} of 512 latents at embed, resid.1 were flagged" in card
    first = flagged.iloc[0]
    assert f"| {first['site']} | {first['latent']} |" in card
    assert first["reason"] in card
    for row in report.to_frame().reset_index().to_dict("records"):
        assert f"| {row['method']} | {row['task_accuracy']:.3f}".rstrip("0") in card
    assert "over 160 texts" in card
    for kind in fitted.residue_:
        assert f"- {kind}:" in card
    assert (
        len([line for line in card.splitlines() if line.startswith(("| embed", "| resid"))])
        <= MAX_LATENTS + 3
    )


def test_words_of_private_texts_can_be_left_out(fitted: SSAEDebiaser, tmp_path: Path) -> None:
    fitted.export(tmp_path / "edited", show_words=False, examples=())
    card = (tmp_path / "edited" / "README.md").read_text(encoding="utf-8")
    assert "top tokens" not in card
    assert "| site | latent | evidence |" in card
    assert "The effect was not measured" in card


def test_a_classifier_is_exported_with_its_head(minilm_path: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    with quiet():
        head = AutoModelForSequenceClassification.from_pretrained(
            minilm_path, id2label={0: "nurse", 1: "surgeon"}
        )
    torch.nn.init.normal_(head.classifier.weight)
    debiaser = SSAEDebiaser(head, **{**SETTINGS, "sites": ["embed"]}).fit(TEXTS[:60])
    done = debiaser.export(tmp_path / "edited", license="apache-2.0")
    run = pipeline("text-classification", model=str(done.path), trust_remote_code=True, device="cpu")
    with debiaser.edited_model() as model:
        # the live one in a pipeline, for as long as the block lasts
        live = pipeline("text-classification", model=model, tokenizer=debiaser.model_.tokenizer, device="cpu")
        expected = live(TEXTS[:8])
    found = run(TEXTS[:8])
    assert [row["label"] for row in found] == [row["label"] for row in expected]
    np.testing.assert_allclose([row["score"] for row in found], [row["score"] for row in expected], atol=1e-5)
    card = (done.path / "README.md").read_text(encoding="utf-8")
    assert str(minilm_path.parent) not in card
    assert "pipeline_tag: text-classification" in card


def test_what_cannot_be_exported_is_told(fitted: SSAEDebiaser, tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        SSAEDebiaser("demo").export(tmp_path / "edited")
    with fitted.edited_model(), pytest.raises(RuntimeError, match="edited already"):
        fitted.export(tmp_path / "edited")
    with pytest.raises(TypeError, match="report must be an EffectReport, a DataFrame or a list of rows"):
        fitted.export(tmp_path / "edited", report=[1, 2])
    assert not (tmp_path / "edited").exists()


def test_rows_come_from_a_frame_with_or_without_an_index() -> None:
    import pandas as pd

    frame = pd.DataFrame({"method": ["original"], "worst": [0.3]})
    expected = [{"method": "original", "worst": 0.3}]
    assert effect_rows(frame) == effect_rows(frame.set_index("method")) == expected
    assert effect_rows(None) is None
