"""Edits inside a live model: forward order, hooks removed also on error, and the real decoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssae_debias.activations import TextModel, load_model, read_pooled, read_tokens, resolve_site
from ssae_debias.edit import Projection, edit_latents, spliced
from ssae_debias.sae import SAEConfig, SparseAutoencoder

TEXTS = ["She is a nurse in Leeds.", "Once upon a time there was a little girl.", "Yes."]


@pytest.fixture(scope="module")
def stories(stories_path) -> TextModel:
    return load_model(stories_path)


class Shift:
    """An edit that adds a number: what it does is known without running it."""

    kind = "shift"

    def __init__(self, by: float, width: int) -> None:
        self.by, self.write = by, torch.zeros(1, width)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.by

    def to(self, device) -> Shift:
        return self

    def tensors(self) -> dict:
        return {"write": self.write}

    def settings(self) -> dict:
        return {"by": self.by}


def n_hooks(model: TextModel) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.module.modules())


def test_each_site_sees_the_stream_that_earlier_edits_changed(stories: TextModel) -> None:
    clean = read_pooled(stories, TEXTS, ["embed", "resid.0"])
    with spliced(stories, {"resid.0": Shift(5.0, 64), "embed": Shift(1.0, 64)}):
        edited = read_pooled(stories, TEXTS, ["embed", "resid.0"])
    np.testing.assert_allclose(edited["embed"], clean["embed"] + 1.0, atol=1e-5)
    with spliced(stories, {"embed": Shift(1.0, 64)}):
        after_first = read_pooled(stories, TEXTS, ["resid.0"])["resid.0"]
    assert np.abs(after_first - clean["resid.0"]).max() > 0.01
    np.testing.assert_allclose(edited["resid.0"], after_first + 5.0, atol=1e-4)


def test_hooks_are_gone_after_the_block_and_after_an_error(stories: TextModel) -> None:
    assert n_hooks(stories) == 0
    with spliced(stories, {"embed": Shift(1.0, 64), "mlp.2": Shift(1.0, 64)}):
        assert n_hooks(stories) == 2
    assert n_hooks(stories) == 0
    with pytest.raises(RuntimeError, match="inside"), spliced(stories, {"embed": Shift(1.0, 64)}):
        raise RuntimeError("inside")
    assert n_hooks(stories) == 0
    with (
        pytest.raises(ValueError, match=r"no site .resid\.9."),
        spliced(stories, {"embed": Shift(1.0, 64), "resid.9": Shift(1.0, 64)}),
    ):
        pass
    assert n_hooks(stories) == 0


def test_an_edit_of_another_width_names_the_site(stories: TextModel) -> None:
    with (
        pytest.raises(ValueError, match=r"site 'resid.1' is for d_model = 32; the model has 64"),
        spliced(stories, {"resid.1": Shift(1.0, 32)}),
    ):
        read_pooled(stories, TEXTS, "resid.1")
    assert n_hooks(stories) == 0


def test_an_edit_that_changes_nothing_leaves_the_logits(stories_path) -> None:
    from transformers import AutoModelForCausalLM

    model = load_model(
        AutoModelForCausalLM.from_pretrained(stories_path), tokenizer=load_model(stories_path).tokenizer
    )
    inputs = {"input_ids": torch.tensor([[1, 403, 407, 261, 378]])}
    with torch.no_grad():
        clean = model.module(**inputs).logits
        nothing = Projection.onto_complement_of(torch.zeros(1, 64), center=torch.zeros(64))
        with spliced(model, dict.fromkeys(model.sites, nothing)):
            same = model.module(**inputs).logits
        with spliced(
            model, {"resid.2": Projection.onto_complement_of(torch.eye(64)[:8], center=torch.zeros(64))}
        ):
            other = model.module(**inputs).logits
    torch.testing.assert_close(same, clean)
    assert (other - clean).abs().max() > 0.1


def test_zeroed_latents_are_silent_in_the_live_decoder(stories: TextModel) -> None:
    # a dictionary of the stream's own axes: its latents are read back exactly
    sae = SparseAutoencoder(64, SAEConfig(d_sae=64, k=8))
    with torch.no_grad():
        sae.W_dec.copy_(torch.eye(64))
        sae.W_enc.copy_(torch.eye(64))
    with spliced(stories, {"resid.1": edit_latents(sae, [3, 17])}):
        (batch,) = read_tokens(stories, TEXTS, ["resid.1", "resid.3"])
    (clean,) = read_tokens(stories, TEXTS, ["resid.1", "resid.3"])
    codes, before = sae.encode(batch.activations["resid.1"]), sae.encode(clean.activations["resid.1"])
    assert (before[:, [3, 17]] > 0).any()
    assert codes[:, [3, 17]].abs().max() < 1e-5
    assert (batch.activations["resid.3"] - clean.activations["resid.3"]).abs().max() > 1e-3


def test_a_plain_hugging_face_model_can_be_spliced(stories: TextModel) -> None:
    with spliced(stories.module, {"embed": Shift(1.0, 64)}) as module:
        assert module is stories.module
        assert len(resolve_site(module, "embed").module._forward_hooks) == 1
