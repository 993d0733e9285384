"""`SSAEDebiaser` end to end on real models: effect, round trips, resumption, and bad input."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from ssae_debias import SSAEDebiaser
from ssae_debias.data import Task, synthetic_biographies
from ssae_debias.estimators import text_debiaser
from ssae_debias.files import DamagedFileError
from ssae_debias.metrics import leakage
from ssae_debias.sae import train_sae
from ssae_debias.sae.trainer import Trainer

SETTINGS = {
    "sites": ["embed", "resid.1"],
    "output_site": "resid.2",
    "max_length": 48,
    "d_sae": 256,
    "k": 16,
    "train_tokens": 20_000,
    "min_effect": 0.5,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def task() -> Task:
    return synthetic_biographies(600, correlation=0.9, random_state=0)


@pytest.fixture(scope="module")
def fitted(task: Task, minilm_path) -> SSAEDebiaser:
    rows = task.rows("train")
    return SSAEDebiaser("demo", **SETTINGS).fit([task.texts[row] for row in rows], task.y[rows])


def of(task: Task, *splits: str, per_cell: int = 30) -> tuple[list[str], np.ndarray, np.ndarray]:
    from ssae_debias.data import balanced

    rows = balanced(task, splits=splits, n_per_cell=per_cell, random_state=0)
    return [task.texts[row] for row in rows], task.y[rows], task.sensitive_features[rows]


@pytest.mark.slow
def test_the_attribute_is_harder_to_read_and_the_task_is_not(fitted: SSAEDebiaser, task: Task) -> None:
    train, y_train, a_train = of(task, "dev")
    test, y_test, a_test = of(task, "test")
    before = fitted.transform_unedited(train), fitted.transform_unedited(test)
    after = fitted.transform(train), fitted.transform(test)
    assert after[0].shape == before[0].shape == (len(train), 384)
    assert leakage(before[0], a_train, before[1], a_test) > 0.85
    assert leakage(after[0], a_train, after[1], a_test) < leakage(before[0], a_train, before[1], a_test) - 0.2
    assert (
        leakage(after[0], y_train, after[1], y_test) > leakage(before[0], y_train, before[1], y_test) - 0.05
    )


@pytest.mark.slow
def test_flagged_latents_speak_of_the_attribute(fitted: SSAEDebiaser) -> None:
    table = fitted.flagged_
    assert set(table.site) == {"embed", "resid.1"}
    assert len(table) == 2 * SETTINGS["d_sae"]
    flagged = table[table.decision == "ablate"]
    assert (flagged.response_effect.abs() >= 0.5).all()
    assert (flagged.response_q <= 0.01).all()
    top = {token for tokens in flagged[flagged.site == "embed"].head(10).top_tokens for token in tokens[:3]}
    assert top & {"he", "she", "his", "her", "him"}
    # the response's sign says whose words the latent goes with
    she = flagged[[tokens[:1] == ["she"] for tokens in flagged.top_tokens]]
    assert len(she)
    assert (she.response > 0).all()


@pytest.mark.slow
def test_the_live_model_is_edited_only_inside_the_block(fitted: SSAEDebiaser) -> None:
    text = ["She is a nurse at the county hospital."]
    tokenizer = fitted.model_.tokenizer
    inputs = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        plain = fitted.model_.module(**inputs).last_hidden_state
        with fitted.edited_model() as model:
            assert model is fitted.model_.module
            edited = model(**inputs).last_hidden_state
        again = fitted.model_.module(**inputs).last_hidden_state
    assert torch.equal(plain, again)
    assert (plain - edited).abs().max() > 0.01


@pytest.mark.slow
def test_inside_the_block_nothing_is_edited_twice_or_passed_off_as_unedited(fitted: SSAEDebiaser) -> None:
    text = ["She is a nurse at the county hospital."]
    before = fitted.transform(text)
    with fitted.edited_model():
        for read in (fitted.transform, fitted.transform_unedited):
            with pytest.raises(RuntimeError, match="edited already"):
                read(text)
        with pytest.raises(RuntimeError, match="edited already"), fitted.edited_model():
            pass
    with pytest.raises(KeyError), fitted.edited_model():
        raise KeyError("a user's own error")
    np.testing.assert_array_equal(fitted.transform(text), before)


@pytest.mark.slow
def test_saved_and_loaded_it_transforms_the_same(fitted: SSAEDebiaser, task: Task, tmp_path: Path) -> None:
    texts = list(task.texts[:12])
    fitted.save(tmp_path / "debiaser")
    loaded = SSAEDebiaser.load(tmp_path / "debiaser")
    np.testing.assert_array_equal(loaded.transform(texts), fitted.transform(texts))
    assert loaded.flagged_.decision.tolist() == fitted.flagged_.decision.tolist()
    assert loaded.flagged_.top_tokens.tolist() == fitted.flagged_.top_tokens.tolist()
    assert loaded.descriptions_ == fitted.descriptions_
    assert loaded.pairs_ == fitted.pairs_
    assert loaded.pairs_.swap("Ms. King met her brother.") == fitted.pairs_.swap("Ms. King met her brother.")
    assert loaded.get_params()["attribute"] == "gender"
    with pytest.warns(UserWarning, match="stay as they were learned"):
        loaded.set_decisions(fitted.flagged_.assign(decision="keep"))
    assert list(loaded.residue_) == ["erasure"]
    erased = loaded.residue_["erasure"](torch.from_numpy(fitted.transform_unedited(texts))).numpy()
    np.testing.assert_allclose(loaded.transform(texts), erased, atol=1e-5)

    settings = tmp_path / "debiaser" / "debiaser.json"
    settings.write_text(settings.read_text().replace("gender", "g3nder").replace("embed", "emb3d"))
    with pytest.raises(DamagedFileError, match="sha256"):
        SSAEDebiaser.load(tmp_path / "debiaser")
    with pytest.raises(FileNotFoundError, match="no manifest"):
        SSAEDebiaser.load(tmp_path)


def test_saving_never_replaces_somebodys_folder(minilm_path, tmp_path: Path) -> None:
    texts = ["She is a nurse.", "He is a surgeon.", "Her ward was full.", "His theatre was empty."]
    pairs = [("he", "she"), ("his", "her")]
    debiaser = SSAEDebiaser(
        "demo", sites=["embed"], attribute=pairs, d_sae=32, k=4, train_tokens=500, random_state=0
    )
    debiaser.fit(texts)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("")
    with pytest.raises(FileExistsError, match="choose another path"):
        debiaser.save(tmp_path / "photos")
    for _ in range(2):  # its own kind it does replace
        debiaser.save(tmp_path / "mine")
    loaded = SSAEDebiaser.load(tmp_path / "mine")
    assert loaded.pairs_.pairs == debiaser.pairs_.pairs
    np.testing.assert_array_equal(
        sklearn.clone(loaded).fit(texts).transform(texts), debiaser.transform(texts)
    )


@pytest.mark.slow
def test_another_models_weights_are_refused(fitted: SSAEDebiaser, stories_path: Path, tmp_path: Path) -> None:
    fitted.save(tmp_path / "debiaser")
    with pytest.raises(ValueError, match="other weights"):
        SSAEDebiaser.load(tmp_path / "debiaser", model=stories_path)


@pytest.mark.slow
def test_the_report_tells_groups_and_leakage_before_and_after(
    fitted: SSAEDebiaser, task: Task, tmp_path
) -> None:
    texts, y, a = of(task, "test")
    as_frames = sklearn.config_context(transform_output="pandas")
    with as_frames:
        report = fitted.report(texts, y, sensitive_features=a, n_splits=3)
    table = report.to_frame()
    assert table.index.tolist() == ["original", "edited, probe kept", "edited, probe retrained"]
    assert (table.low <= table.worst_group_accuracy).all()
    assert (table.worst_group_accuracy <= table.high).all()
    assert table.leakage_linear["edited, probe kept"] < table.leakage_linear["original"]
    assert json.loads(report.save(tmp_path / "effect.json").read_text())["leakage"]["original"]
    with pytest.raises(ValueError, match="fewer than n_splits"):
        fitted.report(texts[:8], y[:8], sensitive_features=a[:8])


@pytest.mark.slow
def test_it_stands_in_a_pipeline_and_clones(fitted: SSAEDebiaser, task: Task) -> None:
    rows = task.rows("train")[:60]
    texts, y = [task.texts[row] for row in rows], task.y[rows]
    small = sklearn.clone(fitted).set_params(sites=["embed"], train_tokens=3000, d_sae=128)
    pipeline = make_pipeline(small.set_output(transform="pandas"), LogisticRegression(max_iter=500))
    assert pipeline.fit(texts, y).predict(texts).shape == (60,)
    names = pipeline[0].get_feature_names_out()
    assert names[0] == "ssaedebiaser0"
    assert len(names) == 384
    assert isinstance(pipeline[0].transform(texts[:2]), pd.DataFrame)
    assert "SSAEDebiaser" in pipeline._repr_html_()


@pytest.mark.slow
def test_a_decoder_works_the_same(stories_path: Path, tmp_path: Path) -> None:
    girl, boy = (
        "Once there was a girl named Lily. She liked her red ball.",
        "Tom was a boy. He liked his dog.",
    )
    texts = [girl, boy, "One day she saw her mom.", "He ran to his dad.", "She was sad.", "He was happy."] * 5
    debiaser = SSAEDebiaser(
        stories_path, sites=["embed", "attn.1", "mlp.1", "resid.2"], d_sae=128, k=8, train_tokens=20_000,
        min_effect=0.5, include_special=False, random_state=0, cache_dir=tmp_path,
    )  # fmt: skip
    edited = debiaser.fit_transform(texts)
    assert edited.shape == (30, 64)
    assert set(debiaser.latent_edits()) <= {"embed", "attn.1", "mlp.1", "resid.2"}
    assert set(debiaser.edits_) <= {*debiaser.latent_edits(), debiaser.output_site_}
    assert len(debiaser.edits_) >= 2
    gap = np.linalg.norm(debiaser.transform_unedited(["She ran."]) - debiaser.transform_unedited(["He ran."]))
    assert np.linalg.norm(debiaser.transform(["She ran."]) - debiaser.transform(["He ran."])) < 0.8 * gap


@pytest.mark.slow
def test_corpus_text_is_retrieved_and_given_saes_are_specialised(
    fitted: SSAEDebiaser, task: Task, tmp_path
) -> None:
    for site, sae in fitted.saes_.items():
        sae.save_pretrained(tmp_path / "gsae" / site)
    corpus = [
        "The ship left the port at noon.",
        "Prices of wheat rose.",
        "The nurse spoke with a doctor.",
    ] * 4
    debiaser = sklearn.clone(fitted).set_params(
        sae=tmp_path / "gsae", corpus=corpus, n_retrieved=4, retriever="bm25", train_tokens=5000
    )
    texts = list(task.texts[:40])
    debiaser.fit(texts)
    assert len(debiaser.subdomain_.texts) == 4
    assert not any("wheat" in text for text in debiaser.subdomain_.texts)
    as_given = debiaser.set_params(train_tokens=0).fit(texts)
    for site, sae in as_given.saes_.items():
        assert torch.equal(sae.W_dec, fitted.saes_[site].W_dec)
    with pytest.raises(ValueError, match=r"holds none for resid\.0"):
        debiaser.set_params(sites=["resid.0"]).fit(texts)


CHECKPOINT = 4


def fit_with_checkpoints(cache_dir: Path) -> SSAEDebiaser:
    """Some twenty steps of training, with a checkpoint after every fourth."""
    debiaser = SSAEDebiaser(
        "demo", sites=["embed"], output_site="resid.0", max_length=32, d_sae=128, k=8, train_tokens=15_000,
        min_effect=0.5, random_state=0, cache_dir=cache_dir,
    )  # fmt: skip
    often = partial(train_sae, checkpoint_every=CHECKPOINT)
    with mock.patch.object(text_debiaser, "train_sae", often):
        return debiaser.fit(list(synthetic_biographies(200, random_state=0).texts[:80]))


KILLED_AT_THE_SECOND_CHECKPOINT = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import torch
from test_estimators_text_debiaser import fit_with_checkpoints
from ssae_debias.sae.checkpoints import Checkpoints

torch.set_num_threads(1)
save, saved = Checkpoints.save, []

def killed(self, step, *state):
    save(self, step, *state)
    saved.append(step)
    if len(saved) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

Checkpoints.save = killed
fit_with_checkpoints(sys.argv[2])
"""


@pytest.mark.slow
def test_killed_during_training_it_goes_on_and_ends_the_same(
    minilm_path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-W", "ignore", "-c", KILLED_AT_THE_SECOND_CHECKPOINT]
    child = subprocess.run(
        [*command, Path(__file__).parent, tmp_path / "killed"], capture_output=True, check=False
    )
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()[-2000:]

    steps: list[int] = []
    train_on = Trainer.train_on
    monkeypatch.setattr(Trainer, "train_on", lambda self, x: steps.append(len(x)) or train_on(self, x))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the child had: matrix products depend on their number to the last bit
    try:
        whole, n_whole = fit_with_checkpoints(tmp_path / "undisturbed"), len(steps)
        continued, n_continued = fit_with_checkpoints(tmp_path / "killed"), len(steps) - n_whole
    finally:
        torch.set_num_threads(threads)
    assert n_continued == n_whole - 2 * CHECKPOINT > CHECKPOINT
    weights = (debiaser.saes_["embed"].parameters() for debiaser in (whole, continued))
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
    assert continued.flagged_.to_json() == whole.flagged_.to_json()


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        ("one text", TypeError, "one bare string|string"),
        (["a", None], TypeError, "None"),
        ([], ValueError, "text"),
    ],
)
def test_bad_texts_are_named(texts, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SSAEDebiaser("demo").fit(texts)


def test_bad_input_is_named(minilm_path, tmp_path: Path) -> None:
    texts = ["She is here.", "He is there.", "Her hat.", "His hat."]
    small = {"sites": ["embed"], "d_sae": 32, "k": 4, "train_tokens": 500}
    with pytest.raises(ValueError, match="lengths differ"):
        SSAEDebiaser("demo").fit(texts, [0, 1])
    with pytest.raises(ValueError, match="constant"):
        SSAEDebiaser("demo").fit(texts, sensitive_features=["F"] * 4)
    with pytest.raises(ValueError, match="indices"):
        SSAEDebiaser("demo").fit(pd.Series(texts), pd.Series([0, 1, 0, 1], index=[3, 2, 1, 0]))
    with pytest.raises(ValueError, match=r"no site 'resid\.9'.*i = 0\.\.5"):
        SSAEDebiaser("demo", sites=["resid.9"]).fit(texts)
    with pytest.raises(OSError, match="neither a folder"):
        SSAEDebiaser("no/such-model").fit(texts)
    with pytest.raises(ValueError, match="Nothing says what the attribute is"):
        SSAEDebiaser("demo", attribute=None).fit(texts)
    with pytest.raises(ValueError, match="flag must be"):
        SSAEDebiaser("demo", flag="attribution").fit(texts)
    with pytest.raises(ValueError, match="texts hold words"):
        SSAEDebiaser("demo", attribute=[("xyzzy", "plugh")], **small).fit(texts)
    with pytest.raises(NotFittedError):
        SSAEDebiaser("demo").transform(texts)
    file = tmp_path / "a file"
    file.write_text("")
    with pytest.raises(OSError, match="a file"):
        SSAEDebiaser("demo", cache_dir=file, **small).fit(texts)


def test_an_attribute_that_determines_the_label_still_goes_by_pairs(minilm_path) -> None:
    texts = ["She is a nurse.", "He is a surgeon.", "Her ward was full.", "His theatre was empty."] * 3
    y = [1, 0] * 6
    debiaser = SSAEDebiaser("demo", sites=["embed"], d_sae=64, k=4, train_tokens=2000, random_state=0)
    with pytest.warns(UserWarning, match="counterfactual"):
        debiaser.fit(texts, y, sensitive_features=y)
    assert "response_effect" in debiaser.flagged_


def test_missing_attributes_leave_their_texts_out(minilm_path) -> None:
    texts = ["She is a nurse.", "He is a surgeon.", "Her ward was full.", "His theatre was empty."] * 3
    a = ["F", "M", None, "M"] * 3
    debiaser = SSAEDebiaser(
        "demo", sites=["embed"], d_sae=64, k=4, train_tokens=2000, flag="both", random_state=0
    )
    with pytest.raises(ValueError, match="missing in 3 of 12 rows"):
        debiaser.fit(texts, sensitive_features=a)
    debiaser.set_params(missing="drop").fit(texts, sensitive_features=a)
    assert set(debiaser.flagged_.attribute_value) == {"M"}
    debiaser.set_params(missing="keep").fit(texts, sensitive_features=a)
    assert set(debiaser.flagged_.attribute_value) <= {"F", "M", "missing"}
    assert "missing" in set(debiaser.flagged_.attribute_value)
