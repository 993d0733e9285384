"""Attribution: gradients against exact ablation, on real models, where the two must agree and where not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ssae_debias.activations import TextModel, load_model, read_pooled, read_tokens, resolve_site
from ssae_debias.edit import edit_latents, spliced
from ssae_debias.latents import ModelDecision, ProbeDecision, attribute_decision, describe_latents
from ssae_debias.sae import SAEConfig, SparseAutoencoder, train_sae

TEXTS = [
    "Once upon a time there was a girl.",
    "The dog ran to the park.",
    "Tom was sad.",
    "She had a red ball.",
]
Y = np.array([1, 0, 0, 1])


@pytest.fixture(scope="module")
def stories(stories_path) -> TextModel:
    return load_model(stories_path)


@pytest.fixture(scope="module")
def sae(stories: TextModel) -> SparseAutoencoder:
    tokens = torch.cat([batch.activations["resid.2"] for batch in read_tokens(stories, TEXTS, "resid.2")])
    return train_sae(tokens, SAEConfig(d_sae=128, k=8, n_tokens=8000, batch_size=64), random_state=0)


def probe(stories: TextModel, site: str) -> ProbeDecision:
    pooled = read_pooled(stories, TEXTS, site)[site]
    return ProbeDecision.from_pipeline(
        make_pipeline(StandardScaler(), LogisticRegression()).fit(pooled, Y), site
    )


def test_a_probe_from_a_pipeline_gives_the_pipelines_logits(stories: TextModel) -> None:
    pooled = read_pooled(stories, TEXTS, "resid.3")["resid.3"]
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(pooled, Y)
    decision = ProbeDecision.from_pipeline(pipeline, "resid.3")
    np.testing.assert_allclose(
        pooled @ decision.coef + decision.intercept, pipeline.decision_function(pooled), atol=1e-4
    )
    with pytest.raises(TypeError, match="binary linear classifier"):
        ProbeDecision.from_pipeline(StandardScaler(), "resid.3")


def test_where_the_decision_is_linear_all_three_methods_agree(
    stories: TextModel, sae: SparseAutoencoder
) -> None:
    decision = probe(stories, "resid.2")  # read at the very site that is edited
    effects = {
        method: attribute_decision(
            stories, {"resid.2": sae}, TEXTS, Y, decision, method=method, batch_size=3
        )["resid.2"]
        for method in ("gradient", "integrated", "exact")
    }
    assert np.abs(effects["exact"]).max() > 1e-3
    np.testing.assert_allclose(effects["gradient"], effects["exact"], atol=1e-4)
    np.testing.assert_allclose(effects["integrated"], effects["exact"], atol=1e-4)


def test_exact_is_what_the_live_edit_does_to_the_margin(stories: TextModel, sae: SparseAutoencoder) -> None:
    decision = probe(stories, "resid.4")
    exact = attribute_decision(stories, {"resid.2": sae}, TEXTS, Y, decision, method="exact")["resid.2"]
    latent = int(np.abs(exact).argmax())
    before = read_pooled(stories, TEXTS, "resid.4")["resid.4"] @ decision.coef
    with spliced(stories, {"resid.2": edit_latents(sae, [latent])}):
        after = read_pooled(stories, TEXTS, "resid.4")["resid.4"] @ decision.coef
    assert exact[latent] == pytest.approx(np.mean(-(2 * Y - 1) * (after - before)), rel=1e-3, abs=1e-5)


def test_downstream_gradients_rank_like_exact_ablation(stories: TextModel, sae: SparseAutoencoder) -> None:
    decision = probe(stories, "resid.4")
    exact = attribute_decision(stories, {"resid.2": sae}, TEXTS, Y, decision, method="exact")["resid.2"]
    for method in ("gradient", "integrated"):
        estimate = attribute_decision(stories, {"resid.2": sae}, TEXTS, Y, decision, method=method)["resid.2"]
        live = np.abs(exact) > 0
        assert live.sum() > 20
        assert np.corrcoef(estimate[live], exact[live])[0, 1] > 0.7


def test_only_the_asked_latents_are_tried_exactly(stories: TextModel, sae: SparseAutoencoder) -> None:
    decision = probe(stories, "resid.4")
    some = attribute_decision(
        stories, {"resid.2": sae}, TEXTS, Y, decision, method="exact", latents={"resid.2": [1, 5]}
    )["resid.2"]
    assert np.flatnonzero(~np.isnan(some)).tolist() == [1, 5]


def test_a_models_own_head_can_be_attributed(
    stories: TextModel, stories_path, sae: SparseAutoencoder
) -> None:
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)  # the head is new, the blocks are the real ones
    classifier = AutoModelForSequenceClassification.from_pretrained(stories_path, num_labels=2)
    classifier.config.pad_token_id = stories.tokenizer.pad_token_id
    model = load_model(classifier, tokenizer=stories.tokenizer)
    decision = ModelDecision(label=1, against=0)
    gradient = attribute_decision(model, {"resid.2": sae}, TEXTS, Y, decision, batch_size=4)["resid.2"]
    encoded = model.encode(TEXTS, 64)
    inputs = {name: encoded[name] for name in ("input_ids", "attention_mask")}

    def metric(latent: int, share: float) -> float:
        def remove(x: torch.Tensor) -> torch.Tensor:
            return x - share * sae.encode(x)[..., latent, None] * sae.W_dec[latent]

        with torch.no_grad(), resolve_site(model.module, "resid.2").attach(remove):
            logits = model.module(**inputs).logits.double()
        return float(np.mean(-(2 * Y - 1) * (logits[:, 1] - logits[:, 0]).numpy()))

    # the head is nonlinear in the stream, so the gradient is compared with a small share of the ablation
    for latent in np.argsort(-np.abs(gradient))[:3]:
        slope = (metric(latent, 0.01) - metric(latent, -0.01)) / 0.02
        assert gradient[latent] == pytest.approx(slope, rel=0.05, abs=1e-4)


def test_bad_labels_and_methods_are_named(stories: TextModel, sae: SparseAutoencoder) -> None:
    decision = ProbeDecision("resid.2", np.zeros(64), 0.0)
    with pytest.raises(ValueError, match="4 labels 0 or 1"):
        attribute_decision(stories, {"resid.2": sae}, TEXTS, [1, 0, 2, 1], decision)
    with pytest.raises(ValueError, match="method must be one of"):
        attribute_decision(stories, {"resid.2": sae}, TEXTS, Y, decision, method="shap")


def test_descriptions_are_the_strongest_tokens_and_texts(stories: TextModel, sae: SparseAutoencoder) -> None:
    latents = [3, 40, 77]
    batches = list(read_tokens(stories, TEXTS, "resid.2", batch_tokens=20))
    assert len(batches) > 1
    found = describe_latents(batches, {"resid.2": sae}, {"resid.2": latents}, stories.tokenizer, n_texts=2)
    peaks = np.zeros((len(TEXTS), 3))
    for batch in batches:
        z = sae.encode_selected(batch.activations["resid.2"], latents).detach().numpy()
        for text in np.unique(batch.text_index):
            peaks[text] = z[batch.text_index == text].max(0)
    for column, latent in enumerate(latents):
        described = found["resid.2", latent]
        best = [text for text in np.argsort(-peaks[:, column]) if peaks[text, column] > 0][:2]
        assert [text for text, _ in described.top_texts] == best
        for text, tokens in described.top_texts:
            assert max(value for _, value in tokens) == pytest.approx(peaks[text, column], abs=1e-5)
            assert "".join(token for token, _ in tokens).strip() == TEXTS[text]
        ids = np.concatenate([batch.token_id for batch in batches])
        z = np.concatenate(
            [sae.encode_selected(b.activations["resid.2"], [latent]).detach().numpy()[:, 0] for b in batches]
        )
        share = np.bincount(ids, z) / z.sum()
        usual = np.bincount(ids) / len(ids)
        main = np.flatnonzero((share >= 0.2) & (share >= 3 * usual))
        assert sorted(value for _, value in described.main_tokens) == pytest.approx(sorted(share[main]))


def test_the_model_keeps_its_gradients_and_later_sites_have_no_effect(stories: TextModel, sae) -> None:
    decision = ProbeDecision("resid.1", np.ones(64), 0.0)
    effects = attribute_decision(stories, {"resid.1": sae, "resid.3": sae}, TEXTS, Y, decision)
    assert np.abs(effects["resid.1"]).max() > 0
    assert (effects["resid.3"] == 0).all()
    assert all(parameter.grad is None for parameter in stories.module.parameters())
