"""The order of the rivals on real biographies and a real model, on a part small enough for a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ssae_debias.metrics import group_report, leakage, linear_probe
from ssae_debias.rivals import LEACE, LEACEGivenY, group_weights

pytestmark = pytest.mark.slow

SIZES = {("surgeon", "M"): 200, ("surgeon", "F"): 40, ("nurse", "M"): 40, ("nurse", "F"): 200}


@pytest.fixture(scope="module")
def bios(bios_path: Path, minilm_path: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Skewed train rows and 60 test rows of each cell, pooled after four blocks of MiniLM (32 tokens)."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    frame = pd.read_parquet(bios_path)
    cells = frame.groupby(["profession", "gender"])
    train = [cell[cell["split"] == "train"].head(SIZES[key]) for key, cell in cells]
    test = [cell[cell["split"] != "train"].head(60) for _, cell in cells]
    frame = pd.concat([*train, *test])

    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm_path)
    model = transformers.AutoModel.from_pretrained(minilm_path).eval()
    model.encoder.layer = model.encoder.layer[:4]
    pooled = np.empty((len(frame), model.config.hidden_size))
    order = np.argsort(frame["text"].str.len().to_numpy())
    with torch.no_grad():
        for rows in np.array_split(order, len(order) // 32):
            batch = tokenizer(
                frame["text"].iloc[rows].tolist(),
                truncation=True,
                max_length=32,
                padding=True,
                return_tensors="pt",
            )
            mask = batch["attention_mask"][:, :, None]
            stream = model(**batch).last_hidden_state
            pooled[rows] = ((stream * mask).sum(dim=1) / mask.sum(dim=1)).numpy()
    return frame, pooled


def test_the_rivals_stand_in_the_published_order(bios: tuple[pd.DataFrame, np.ndarray]) -> None:
    frame, X = bios
    y, a = frame["profession"].to_numpy(), frame["gender"].to_numpy()
    train = (frame["split"] == "train").to_numpy()
    ambiguous = train & ((y == "surgeon") == (a == "M"))

    def worst(Z: np.ndarray, rows: np.ndarray, **fit: np.ndarray) -> float:
        probe = linear_probe().fit(Z[rows], y[rows], **fit)
        return group_report(y[~train], probe.predict(Z[~train]), a[~train]).worst_group_accuracy.mean

    skewed = LEACE().fit(X[train], y[train], sensitive_features=a[train]).transform(X)
    given_y = LEACEGivenY().fit(X[train], y[train], sensitive_features=a[train]).transform(X)
    weights = group_weights(y[train], a[train])

    original = worst(X, ambiguous)
    assert original < 0.65
    assert worst(skewed, ambiguous) > original
    assert worst(given_y, ambiguous) > worst(skewed, ambiguous) + 0.05
    assert worst(X, train, logisticregression__sample_weight=weights) > original + 0.15


def test_leakage_before_and_after(bios: tuple[pd.DataFrame, np.ndarray]) -> None:
    frame, X = bios
    y, a = frame["profession"].to_numpy(), frame["gender"].to_numpy()
    train = (frame["split"] == "train").to_numpy()
    balanced = frame[train].groupby(["profession", "gender"]).head(40).index
    on = train & frame.index.isin(balanced)
    given_y = LEACEGivenY().fit(X[train], y[train], sensitive_features=a[train]).transform(X)
    for probe in ("linear", "mlp"):
        before = leakage(X[on], a[on], X[~train], a[~train], probe=probe, random_state=0)
        after = leakage(given_y[on], a[on], given_y[~train], a[~train], probe=probe, random_state=0)
        assert before > 0.7
        assert after < before - 0.15
        assert after < 0.65
