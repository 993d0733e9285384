from __future__ import annotations

import numpy as np
import pandas as pd

from ssae_debias.report import example_content
from ssae_debias.report.flagged import edited, flagged_latents


def test_only_site_and_latent_are_needed() -> None:
    latent = flagged_latents(pd.DataFrame({"site": ["embed"], "latent": np.array([3])}))[0]
    assert (latent.site, latent.latent, latent.decision, latent.reason) == ("embed", 3, None, None)
    assert latent.evidence == latent.tokens == latent.texts == ()


def test_missing_values_are_left_out_and_zero_is_not_missing() -> None:
    table = pd.DataFrame(
        {
            "site": ["embed", "embed"], "latent": [1, 2], "response": [None, 0.0], "q": [np.nan, 0.5],
            "decision": [pd.NA, "keep"], "top_tokens": [None, ["she"]], "top_texts": [np.nan, []],
        }
    )  # fmt: skip
    first, second = flagged_latents(table)
    assert first.evidence == first.tokens == first.texts == ()
    assert first.decision is None
    assert [(fact.label, fact.value) for fact in second.evidence] == [("Response", 0.0), ("FDR q", 0.5)]
    assert second.tokens == ("she",)


def test_all_texts_of_a_latent_share_one_scale() -> None:
    texts = [("she", [("she", 4.0)]), ("her", [("her", 1.0)])]
    latent = flagged_latents(pd.DataFrame({"site": ["embed"], "latent": [1], "top_texts": [texts]}))[0]
    assert [piece.strength for text in latent.texts for piece in text] == [1.0, 0.25]


def test_the_order_of_the_table_is_kept() -> None:
    table = example_content().flagged
    assert [latent.latent for latent in flagged_latents(table)] == table["latent"].tolist()


def test_what_was_edited_is_counted_by_site() -> None:
    assert edited(example_content().flagged) == (
        "5 latents ablated: 2 at embed, 2 at resid.1 and 1 at resid.3. 1 flagged latent was kept."
    )
    assert edited(None) == "This run lists no latents."
    assert "unchanged" in edited(pd.DataFrame({"site": [], "latent": [], "decision": []}))
    assert "Nothing was ablated. 1 flagged" in edited(
        pd.DataFrame({"site": ["a"], "latent": [1], "decision": ["keep"]})
    )
    assert "none is decided yet" in edited(pd.DataFrame({"site": ["a"], "latent": [1]}))
