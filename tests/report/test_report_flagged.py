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


def test_nearest_latents_are_read_in_every_form_a_table_may_hold() -> None:
    forms = [("embed", 2), ("embed", np.int64(3), 0.5), ("embed", 4, np.float32(0.25), "her"),
             {"site": "embed", "latent": 5, "cosine": 0.125, "name": None}]  # fmt: skip
    table = pd.DataFrame({"site": ["embed"], "latent": [1], "nearest": [np.array(forms, dtype=object)]})
    near = flagged_latents(table)[0].nearest
    assert [(one.latent, one.cosine, one.name) for one in near] == [
        (2, None, ""), (3, 0.5, ""), (4, 0.25, "her"), (5, 0.125, ""),
    ]  # fmt: skip


def test_a_persons_note_is_not_said_twice() -> None:
    table = pd.DataFrame(
        {"site": "embed", "latent": [1, 2], "decision": "keep", "note": ["a task word", None],
         "reason": ["decided by a person: a task word", "weak"]}
    )  # fmt: skip
    first, second = flagged_latents(table)
    assert (first.reason, first.note, first.by_a_person) == ("decided by a person", "a task word", True)
    assert (second.reason, second.note, second.by_a_person) == ("weak", "", False)


def test_the_order_of_the_table_is_kept() -> None:
    table = example_content().flagged
    assert [latent.latent for latent in flagged_latents(table)] == table["latent"].tolist()


def test_what_was_edited_is_counted_by_site() -> None:
    assert edited(example_content().flagged) == (
        "5 latents ablated: 2 at embed, 2 at resid.1 and 1 at resid.3. 1 more of those listed is kept, by a "
        "person's decision."
    )
    assert edited(None) == "This run lists no latents."
    assert "unchanged" in edited(pd.DataFrame({"site": [], "latent": [], "decision": []}))
    table = pd.DataFrame(
        {
            "site": "embed", "latent": range(4), "decision": ["ablate", "keep", "keep", "keep"],
            "reason": ["strong", "weak", "decided by a person: the task's word", "weak"],
        }
    )  # fmt: skip
    assert edited(table).endswith("3 more of those listed are kept, 1 by a person's decision.")
    assert "Nothing was ablated. 1 more" in edited(
        pd.DataFrame({"site": ["a"], "latent": [1], "decision": ["keep"]})
    )
    assert "none is decided yet" in edited(pd.DataFrame({"site": ["a"], "latent": [1]}))
