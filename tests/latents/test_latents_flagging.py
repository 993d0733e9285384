"""Flagging rules: what they flag, the reason they write, and that a person has the last word."""

from __future__ import annotations

import pandas as pd
import pytest

from ssae_debias.latents import FlagRule, overrule


def evidence() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "site": ["embed"] * 4 + ["resid.0"] * 2,
            "latent": [0, 1, 2, 3, 0, 1],
            "response_effect": [1.5, -0.9, 0.5, 0.05, 0.0, -2.0],
            "response_q": [1e-9, 1e-9, 0.2, 1e-9, 1.0, 1e-9],
            "attribute_effect": [1.0, 0.0, 0.0, 0.9, 0.0, 0.3],
            "attribute_q": [1e-9, 1.0, 1.0, 1e-9, 1.0, 1e-9],
            "label_effect": [0.1, 0.0, 0.0, 0.1, 0.0, 2.0],
            "label_q": [1.0] * 6,
            "attribution": [0.2, 0.0, -0.5, 0.05, 0.3, 0.0],
        }
    )


def ablated(table: pd.DataFrame) -> set[tuple[str, int]]:
    chosen = table[table.decision == "ablate"]
    return set(zip(chosen.site, chosen.latent, strict=True))


def test_each_rule_reads_its_own_evidence() -> None:
    assert ablated(FlagRule("counterfactual").decide(evidence())) == {
        ("embed", 0),
        ("embed", 1),
        ("resid.0", 1),
    }
    assert ablated(FlagRule("association").decide(evidence())) == {("embed", 0), ("embed", 3), ("resid.0", 1)}
    assert ablated(FlagRule("both").decide(evidence())) == {
        ("embed", 0), ("embed", 1), ("embed", 3), ("resid.0", 1),
    }  # fmt: skip
    # SHIFT's selection is signed: a strongly negative effect is no reason to ablate
    assert ablated(FlagRule("attribution").decide(evidence())) == {("embed", 0), ("resid.0", 0)}


def test_sites_keep_their_order_and_the_strongest_come_first() -> None:
    table = FlagRule("counterfactual").decide(evidence())
    assert table.site.tolist() == ["embed"] * 4 + ["resid.0"] * 2
    assert table.latent.tolist() == [0, 1, 2, 3, 1, 0]


def test_reasons_tell_effect_and_bound() -> None:
    reasons = FlagRule("counterfactual").decide(evidence()).set_index(["site", "latent"]).reason
    assert reasons["embed", 0] == "responds to the swap: effect +1.50, q 1.0e-09"
    assert reasons["embed", 2] == "q 2.0e-01 above 0.01"
    assert reasons["embed", 3] == "effect +0.05 below 0.2"


def test_a_cap_keeps_the_strongest_of_each_site() -> None:
    table = FlagRule("counterfactual", max_latents=1).decide(evidence())
    assert ablated(table) == {("embed", 0), ("resid.0", 1)}
    assert table.set_index(["site", "latent"]).reason["embed", 1] == "beyond the 1 strongest of its site"


def test_a_latent_of_the_task_is_protected() -> None:
    table = FlagRule("counterfactual", protect=1.0).decide(evidence())
    assert ("resid.0", 1) not in ablated(table)
    assert "carries the task (2.00)" in table.set_index(["site", "latent"]).reason["resid.0", 1]


def test_missing_evidence_says_what_gives_it() -> None:
    with pytest.raises(ValueError, match="needs sensitive_features"):
        FlagRule("association").decide(evidence().drop(columns="attribute_effect"))
    with pytest.raises(ValueError, match="rule must be one of"):
        FlagRule("correlation")  # type: ignore[arg-type]


def test_a_person_has_the_last_word() -> None:
    table = FlagRule("counterfactual").decide(evidence())
    changed = overrule(table, {("embed", 0): "keep", ("resid.0", 0): "ablate"})
    assert ablated(changed) == {("embed", 1), ("resid.0", 0), ("resid.0", 1)}
    assert (changed.reason == "decided by a person").sum() == 2
    assert ablated(table) == {("embed", 0), ("embed", 1), ("resid.0", 1)}
    again = overrule(table, changed[["site", "latent", "decision"]])
    assert ablated(again) == ablated(changed)
    with pytest.raises(ValueError, match="no latent 99"):
        overrule(table, {("embed", 99): "keep"})
    with pytest.raises(ValueError, match="'ablate' or 'keep'"):
        overrule(table, {("embed", 0): "remove"})


def test_of_two_rules_that_flag_the_stronger_is_told() -> None:
    table = FlagRule("both").decide(evidence()).set_index(["site", "latent"])
    assert table.score["embed", 0] == 1.5
    assert table.reason["embed", 3].startswith("differs by attribute")
    stronger = evidence().assign(attribute_effect=3.0)
    assert FlagRule("both").decide(stronger).set_index(["site", "latent"]).score["embed", 0] == 3.0
