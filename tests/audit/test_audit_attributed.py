"""Attribution: sign and size against ablation by hand, and what was not tried is not known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from planted_audit import found_with, named_groups, planted, read_as_is

from ssae_debias.audit import attributed
from ssae_debias.audit.attributed import margin, with_attribution
from ssae_debias.audit.kept_logits import KeptLogits
from ssae_debias.audit.variants import Part

DATA = planted(300)
PART = Part(DATA.X, None, DATA.y, named_groups([""] * 300, source="none"))


def table(ablated: tuple[int, ...] = (0,)) -> pd.DataFrame:
    decision = ["ablate" if latent in ablated else "keep" for latent in range(8)]
    return pd.DataFrame({"site": "module:0", "latent": range(8), "decision": decision})


def test_effects_are_those_of_ablating_by_hand() -> None:
    found = found_with(table())
    result = with_attribution(KeptLogits(read_as_is(), None), PART, found)
    effects = result.table.set_index("latent")["attribution"]
    # the classifier's logits are its first two columns, its latents the columns above 0
    logits = DATA.X[:, :2].astype(float)
    chosen = logits.argmax(1)
    rows = np.arange(300)
    for latent in range(2):
        without = logits.copy()
        without[:, latent] = np.minimum(without[:, latent], 0)
        lost = (logits[rows, chosen] - logits[rows, 1 - chosen]) - (
            without[rows, chosen] - without[rows, 1 - chosen]
        )
        assert effects[latent] == pytest.approx(lost.mean(), abs=1e-5)
    np.testing.assert_allclose(effects[2:], 0, atol=1e-6)  # the other columns decide nothing
    assert "attribution" not in found.table


def test_a_latent_that_serves_the_chosen_label_has_a_positive_effect() -> None:
    for_it = np.zeros((50, 8), dtype="float32")
    for_it[:, 0], for_it[:, 1] = 3.0, 1.0
    part = Part(for_it, None, np.ones(50, dtype=int), PART.groups.at(np.arange(50)))
    result = with_attribution(KeptLogits(read_as_is(), None), part, found_with(table()))
    effects = result.table["attribution"]
    assert effects[0] == pytest.approx(3.0)  # though label 0 is wrong here: the decision is asked about
    assert effects[1] == pytest.approx(-1.0)


def test_latents_to_be_ablated_are_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attributed, "MAX_LATENTS", 2)
    result = with_attribution(KeptLogits(read_as_is(), None), PART, found_with(table(ablated=(6,))))
    assert result.table["attribution"].notna().tolist() == [True] + [False] * 5 + [True, False]


def test_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = with_attribution(KeptLogits(read_as_is(), tmp_path), PART, found_with(table()))
    kept = KeptLogits(read_as_is(), tmp_path)

    def refusing(*_: Any, **__: Any) -> Any:
        raise AssertionError("computed again")

    monkeypatch.setattr(kept.classifier, "decisions", refusing)
    again = with_attribution(kept, PART, found_with(table()))
    pd.testing.assert_frame_equal(again.table, first.table)


def test_margins_are_log_odds() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 0.0]])
    p = logits.softmax(1)
    expected = torch.log(p[:, 2] / (1 - p[:, 2]))
    torch.testing.assert_close(margin(logits, torch.tensor([2, 2])), expected)
