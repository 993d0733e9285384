"""The model card: what it tells, that its code runs, and that data cannot act in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from export_models import batch, latents, main_output, small

from ssae_debias.edit.export import Facts, export_model
from ssae_debias.edit.export.card import export_card


def card(facts: Facts, **changes) -> str:
    values = {
        "auto_class": "AutoModelForSequenceClassification",
        "folded": {"mlp.0": ["layer.weight", "layer.bias"]},
        "in_module": {"resid.1": "latents"},
        "max_difference": 3.2e-6,
    }
    return export_card(facts, **{**values, **changes})


def header(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def test_it_tells_what_where_on_what_evidence_and_to_what_effect() -> None:
    text = card(
        Facts(
            base_model="me/model",
            license="mit",
            attribute="gender",
            evidence="They answer to swaps.",
            latents=[{"site": "resid.1", "latent": 7, "top tokens": "she her"}],
            residue=["erasure at resid.5"],
            effect=[{"method": "original", "worst": 0.323}, {"method": "edited", "worst": 0.747}],
            effect_of="On 400 texts.",
            limits=["English alone."],
        )
    )
    assert header(text) == {
        "library_name": "transformers",
        "base_model": "me/model",
        "license": "mit",
        "pipeline_tag": "text-classification",
        "tags": ["ssae-debias", "fairness", "model-editing"],
    }
    for line in (
        "# me/model, edited against gender",
        "| mlp.0 | folded into weights | layer.weight, layer.bias |",
        r"| resid.1 | code that runs there | modeling\_edited.py: latents |",
        "| resid.1 | 7 | she her |",
        "| original | 0.323 |",
        "- erasure at resid.5",
        "- English alone.",
    ):
        assert line in text.splitlines()
    assert "3.2e-06" in text
    assert "trust_remote_code=True" in text


def test_what_was_not_measured_is_said_so() -> None:
    text = card(Facts(), in_module={}, max_difference=None)
    assert "The effect was not measured" in text
    assert "was not compared with the live one" in text
    assert "trust_remote_code" not in text
    assert header(text).keys() == {"library_name", "pipeline_tag", "tags"}


def test_a_head_that_alone_is_edited_is_told() -> None:
    assert "the last hidden state that the model also returns is not" in card(Facts(), head_only=True)
    assert "also returns" not in card(Facts())


def test_data_cannot_act_in_the_card() -> None:
    evil = "a|b\n\n# <script>x</script> [x](http://y) `c` ![i](u) $x$\u202e"
    text = card(
        Facts(
            base_model="me/model\nlicense: evil",
            license="mit\nevil: 1",
            attribute=evil,
            evidence=evil,
            latents=[{"site": evil, "latent": float("nan"), evil: None}],
            residue=[evil],
            effect=[{evil: evil}],
            limits=[evil],
        )
    )
    assert header(text).keys() == {"library_name", "pipeline_tag", "tags"}
    assert "<script>" not in text
    assert "](" not in text.replace(r"\](", "").replace(r"\]\(", "")
    assert "\u202e" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert all(line.replace(r"\|", "").count("|") in (2, 4) for line in rows)


def test_a_folder_of_this_machine_stays_private() -> None:
    text = card(Facts(base_model="/home/somebody/secret project/model-7"))
    assert "# model-7, edited" in text
    assert "somebody" not in text
    assert "base_model" not in header(text)


@pytest.mark.parametrize("trust", [True, False])
def test_its_code_loads_what_was_exported(
    trust: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "cache"))
    model = small("gpt_neox")
    done = export_model(model, {"resid.0" if trust else "embed": latents()}, tmp_path / "edited")
    code = (done.path / "README.md").read_text().split("```python\n")[1].split("```")[0]
    found: dict = {}
    exec(code.replace("path/to/this/folder", str(done.path)), found)
    assert type(found["model"]).__name__ == ("EditedGPTNeoXForCausalLM" if trust else "GPTNeoXForCausalLM")
    assert main_output(found["model"], batch(model)).isfinite().all()
    assert found["run"]("The nurse said", max_new_tokens=2)
