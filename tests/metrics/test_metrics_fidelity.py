"""Fidelity on real models: against transformers' own loss, brute force, and dictionaries whose worth is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, BertConfig, BertForMaskedLM

from ssae_debias.activations import TextModel, load_model, read_pooled, read_tokens, resolve_site
from ssae_debias.metrics.corpus_reconstruction import reconstruct_corpus, unexplained
from ssae_debias.metrics.fidelity import fidelities, fidelity
from ssae_debias.metrics.fidelity_figures import recovered
from ssae_debias.metrics.intervals import bootstrap
from ssae_debias.metrics.language_head import language_objective, load_language_model
from ssae_debias.metrics.predictions import CLEAN, causal_predictions
from ssae_debias.metrics.probe_predictions import probe_predictions
from ssae_debias.metrics.pseudo_likelihood import masked_predictions
from ssae_debias.metrics.replacing import reconstruction
from ssae_debias.metrics.text_bootstrap import TextBootstrap, finite_or_none
from ssae_debias.sae import SAEConfig, SparseAutoencoder, fraction_of_variance_unexplained, train_sae

SITE = "resid.2"
TEXTS = [
    "Once upon a time there was a little girl named Lily. She liked to play in the park with her dog.",
    "The dog ran to the big tree. It saw a cat and wanted to play.",
    "Tom was sad. He lost his red ball.",
    "One day, a boy found a shiny stone. He gave it to his mom and she was very happy.",
    "Mia and Ben went to the store. They wanted to buy some apples and milk.",
    "It was night.",
]


def identity_sae(width: int) -> SparseAutoencoder:
    """relu(x) − relu(−x) = x: nothing is lost."""
    sae = SparseAutoencoder(width, SAEConfig(d_sae=2 * width, k=width))
    with torch.no_grad():
        sae.W_dec.copy_(torch.cat([torch.eye(width), -torch.eye(width)]))
        sae.W_enc.copy_(sae.W_dec.T)
    return sae


def zero_sae(width: int) -> SparseAutoencoder:
    sae = SparseAutoencoder(width, SAEConfig(d_sae=4, k=2))
    with torch.no_grad():
        sae.W_dec.zero_()
    return sae


@pytest.fixture(scope="module")
def stories(stories_path) -> TextModel:
    return load_language_model(stories_path)


@pytest.fixture(scope="module")
def trained(stories: TextModel) -> SparseAutoencoder:
    tokens = torch.cat([batch.activations[SITE] for batch in read_tokens(stories, TEXTS, SITE)])
    return train_sae(tokens, SAEConfig(d_sae=128, k=12, n_tokens=20_000, batch_size=128), random_state=0)


@pytest.fixture(scope="module")
def masked() -> TextModel:
    torch.manual_seed(0)
    tokenizer = load_model("demo").tokenizer
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.5,
    )
    return load_model(BertForMaskedLM(config), tokenizer=tokenizer)


def test_the_head_comes_with_the_model(stories: TextModel, stories_path, masked: TextModel) -> None:
    assert language_objective(stories) == "causal"
    assert language_objective(masked) == "masked"
    assert language_objective(load_model(stories_path)) is None
    live = load_model(AutoModelForCausalLM.from_pretrained(stories_path))
    assert language_objective(live) == "causal"
    encoded = stories.encode(TEXTS[:1])
    own = live.module(input_ids=encoded["input_ids"]).logits
    assert torch.equal(own, stories.module(input_ids=encoded["input_ids"]).logits)


def test_a_head_is_never_made_up(minilm_path, stories_path, tmp_path) -> None:
    with pytest.raises(ValueError, match="BertModel, which has no language head"):
        load_language_model(minilm_path)
    with pytest.raises(ValueError, match="lack .* tensors of a masked language model"):
        load_language_model(minilm_path, objective="masked")
    with pytest.raises(OSError, match="neither a model folder nor"):
        load_language_model(tmp_path / "nowhere")
    headless = load_model(stories_path)
    with pytest.raises(ValueError, match="no language head that is known"):
        fidelity(headless, identity_sae(64), SITE, TEXTS)
    with pytest.raises(ValueError, match="returns no logits over tokens"):
        fidelity(headless, identity_sae(64), SITE, TEXTS, objective="causal")


def test_cross_entropy_is_transformers_own_loss(stories: TextModel) -> None:
    found = causal_predictions(stories, TEXTS, SITE, {}, batch_tokens=64)
    for text, loss, count in zip(TEXTS, found.loss[CLEAN], found.count, strict=True):
        ids = stories.encode([text])["input_ids"]
        with torch.no_grad():
            own = stories.module(input_ids=ids, labels=ids).loss
        assert count == ids.shape[1] - 1
        assert loss / count == pytest.approx(float(own), rel=1e-4)
    # padding in one batch of all texts changes nothing
    together = causal_predictions(stories, TEXTS, SITE, {}, batch_tokens=4096)
    np.testing.assert_allclose(together.loss[CLEAN], found.loss[CLEAN], rtol=1e-4)


def test_a_perfect_dictionary_recovers_everything(stories: TextModel) -> None:
    found = fidelity(stories, identity_sae(64), SITE, TEXTS, n_resamples=100)
    for ablation in ("zero", "mean"):
        assert found.loss_recovered[ablation] == (1, 1, 1)
        assert found.kl_recovered[ablation] == (1, 1, 1)
    assert found.kl["spliced"] == (0, 0, 0)
    assert found.agreement["spliced"].mean == 1
    assert found.fvu.mean == 0
    assert found.cross_entropy["spliced"] == found.cross_entropy["clean"]
    assert found.perplexity["clean"].mean == pytest.approx(np.exp(found.cross_entropy["clean"].mean))


def test_an_empty_dictionary_is_zero_ablation(stories: TextModel) -> None:
    found = fidelity(stories, zero_sae(64), SITE, TEXTS, n_resamples=100)
    assert found.cross_entropy["spliced"] == found.cross_entropy["zero"]
    assert found.loss_recovered["zero"].mean == 0
    assert found.cross_entropy["zero"].mean > found.cross_entropy["clean"].mean
    assert found.kl["spliced"].mean > 0.1


def test_a_trained_dictionary_lies_between(stories: TextModel, trained: SparseAutoencoder) -> None:
    found = fidelity(stories, trained, SITE, TEXTS, n_resamples=200)
    assert 0.3 < found.loss_recovered["mean"].mean < 1
    assert 0.3 < found.kl_recovered["mean"].mean < 1
    assert 0 < found.kl["spliced"].mean < found.kl["mean"].mean
    # a mean that never saw the texts cannot beat the mean over them
    assert 0 < found.fvu.mean < 1
    assert 4 < found.l0.mean < 40
    x = torch.cat([batch.activations[SITE] for batch in read_tokens(stories, TEXTS, SITE)])
    with torch.no_grad():
        z = trained.encode(x)
        own = fraction_of_variance_unexplained(x, x - trained.decode(z, x))
    assert found.fvu.mean == pytest.approx(own, rel=1e-5)
    assert found.l0.mean == pytest.approx(float((z > 0).sum(1).float().mean()))
    assert found.dead_fraction == pytest.approx(float((~(z > 0).any(0)).float().mean()))
    assert found.n_tokens == len(x)
    for interval in (found.fvu, found.l0, found.loss_recovered["zero"], found.perplexity["spliced"]):
        assert interval.low < interval.mean < interval.high


def test_only_real_ordinary_tokens_are_replaced(stories: TextModel, trained: SparseAutoencoder) -> None:
    """Against a splice written by hand, text by text, the first token `<s>` left as it is."""

    def spliced_loss(text: str, first: int) -> Tensor:
        def hook(x: Tensor) -> Tensor:
            return torch.cat([x[:, :first], trained(x[:, first:])], 1)

        ids = stories.encode([text])["input_ids"]
        with torch.no_grad(), resolve_site(stories.module, SITE).attach(hook):
            return stories.module(input_ids=ids, labels=ids).loss * (ids.shape[1] - 1)

    for include_special in (False, True):
        found = causal_predictions(
            stories, TEXTS, SITE, {"sae": reconstruction(trained)}, include_special=include_special
        )
        by_hand = [float(spliced_loss(text, 0 if include_special else 1)) for text in TEXTS]
        np.testing.assert_allclose(found.loss["sae"], by_hand, rtol=1e-4)


def test_kl_is_the_divergence_from_the_clean_distribution(stories: TextModel) -> None:
    found = causal_predictions(stories, TEXTS[2:3], SITE, {"zero": torch.zeros_like})
    ids = stories.encode(TEXTS[2:3])["input_ids"]

    def zeroed(x: Tensor) -> Tensor:
        return torch.cat([x[:, :1], torch.zeros_like(x[:, 1:])], 1)

    with torch.no_grad():
        p = stories.module(input_ids=ids).logits[0, :-1].double().softmax(-1)
        with resolve_site(stories.module, SITE).attach(zeroed):
            q = stories.module(input_ids=ids).logits[0, :-1].double().softmax(-1)
    assert found.kl["zero"][0] == pytest.approx(float((p * (p / q).log()).sum()), rel=1e-4)
    assert found.agree["zero"][0] == int((p.argmax(-1) == q.argmax(-1)).sum())


def test_every_prediction_weighs_the_same_unlike_a_mean_of_batch_means(stories: TextModel) -> None:
    """The published code averages batches' means: its figure moves with how texts fall into batches."""
    replacements = {"zero": torch.zeros_like}
    found = causal_predictions(stories, TEXTS, SITE, replacements)
    ours = found.cross_entropy("zero")
    per_batch = [found.loss["zero"][rows].sum() / found.count[rows].sum() for rows in ([0, 1, 2, 3, 4], [5])]
    assert abs(np.mean(per_batch) - ours) > 0.02
    other = causal_predictions(stories, TEXTS[::-1], SITE, replacements, batch_tokens=40)
    assert other.cross_entropy("zero") == pytest.approx(ours, rel=1e-5)


def test_our_variance_is_one_and_the_published_total_is_not(
    stories: TextModel, trained: SparseAutoencoder
) -> None:
    x = torch.cat([batch.activations[SITE] for batch in read_tokens(stories, TEXTS, SITE)]).double()

    def published(x: Tensor, e: Tensor) -> float:
        """SAELens and SAEBench: the squared mean of *squares* is taken off where that of the activations belongs."""
        total = x.square().sum(1).mean() - x.square().mean(0).mean() ** 2
        return float(e.square().sum(1).mean() / total)

    with torch.no_grad():
        e = x - trained(x.float()).double()
    ours = fidelity(stories, trained, SITE, TEXTS, n_resamples=10).fvu.mean
    assert ours == pytest.approx(float(e.var(0, correction=0).sum() / x.var(0, correction=0).sum()), rel=1e-5)
    # what one unit of measurement more or less must not change
    assert published(10 * x, 10 * e) != pytest.approx(published(x, e), rel=0.5)
    _, corpus = reconstruct_corpus(
        stories, {"a": trained, "b": identity_sae(64)}, SITE, TEXTS, batch_tokens=50
    )
    for found in corpus.values():
        totals = [
            v.sum(0, keepdims=True) for m in (found.activations, found.errors) for v in (m.total, m.squares)
        ]
        tenfold = [factor * v for factor, v in zip((10, 100, 10, 100), totals, strict=True)]
        n = found.n_tokens.sum(keepdims=True)
        np.testing.assert_allclose(unexplained(n, *tenfold), unexplained(n, *totals), rtol=1e-9)


def test_several_dictionaries_share_the_predictions_and_one_is_the_reference(
    stories: TextModel, trained: SparseAutoencoder
) -> None:
    saes = {"general": zero_sae(64), "special": trained}
    found = fidelities(stories, saes, SITE, TEXTS, reference="general", n_resamples=50)
    alone = fidelity(stories, trained, SITE, TEXTS, n_resamples=50)
    assert found["special"].cross_entropy == alone.cross_entropy
    assert found["general"].relative_perplexity == (1, 1, 1)
    ratio = found["special"].perplexity["spliced"].mean / found["general"].perplexity["spliced"].mean
    assert found["special"].relative_perplexity is not None
    assert found["special"].relative_perplexity.mean == pytest.approx(ratio)
    with pytest.raises(ValueError, match="none of them called"):
        fidelities(stories, {"zero": trained}, SITE, TEXTS)
    with pytest.raises(ValueError, match="reads 8 wide"):
        fidelity(stories, identity_sae(8), SITE, TEXTS)


def test_pseudo_likelihood_is_every_token_masked_in_turn(masked: TextModel) -> None:
    texts = ["She is a nurse.", "The surgeon was late again today."]
    found = masked_predictions(masked, texts, "resid.0", {"zero": torch.zeros_like}, max_tokens=None)
    site = resolve_site(masked.module, "resid.0")
    for i, text in enumerate(texts):
        ids = masked.encode([text])["input_ids"][0]
        clean, zero, divergence = 0.0, 0.0, 0.0
        for at in range(1, len(ids) - 1):
            one = ids.clone()[None]
            one[0, at] = masked.tokenizer.mask_token_id

            def ends_kept(x: Tensor) -> Tensor:
                return torch.cat([x[:, :1], torch.zeros_like(x[:, 1:-1]), x[:, -1:]], 1)

            with torch.no_grad():
                p = masked.module(input_ids=one).logits[0, at].log_softmax(-1)
                with site.attach(ends_kept):
                    q = masked.module(input_ids=one).logits[0, at].log_softmax(-1)
            clean, zero = clean - float(p[ids[at]]), zero - float(q[ids[at]])
            divergence += float((p.exp() * (p - q)).sum())
        assert found.count[i] == len(ids) - 2
        assert found.loss[CLEAN][i] == pytest.approx(clean, rel=1e-4)
        assert found.loss["zero"][i] == pytest.approx(zero, rel=1e-4)
        assert found.kl["zero"][i] == pytest.approx(divergence, rel=1e-3)


def test_a_sample_of_masked_tokens_is_drawn_over_the_corpus(masked: TextModel) -> None:
    kwargs = {"max_tokens": 7, "random_state": 3}
    first = masked_predictions(masked, TEXTS, "resid.0", {}, **kwargs)
    again = masked_predictions(masked, TEXTS, "resid.0", {}, **kwargs, batch_tokens=30)
    assert first.count.sum() == 7
    np.testing.assert_array_equal(first.count, again.count)
    np.testing.assert_allclose(first.loss[CLEAN], again.loss[CLEAN], rtol=1e-4)
    found = fidelity(masked, identity_sae(16), "resid.0", TEXTS, max_tokens=20, n_resamples=20)
    assert (found.objective, found.n_predictions, found.kl["spliced"].mean) == ("masked", 20, 0)
    with pytest.raises(ValueError, match="no mask token"):
        masked_predictions(load_model(masked.module, tokenizer=_without_mask(masked)), TEXTS, "resid.0", {})


def _without_mask(model: TextModel):
    tokenizer = load_model(model.module, tokenizer=model.tokenizer).tokenizer
    tokenizer.mask_token = None
    return tokenizer


def test_an_encoder_is_judged_by_a_probe_on_undisturbed_activations() -> None:
    model = load_model("demo")
    people = ["nurse", "surgeon"]
    texts = [
        f"My {who} {rest}." for who in people for rest in ("sang", "is tall", "came late", "left", "ate")
    ]
    y = np.repeat(people, 5)
    found = fidelity(
        model, identity_sae(384), "resid.1", texts, y=y, probe_site="resid.3", n_resamples=20, n_folds=5
    )
    assert found.objective == "probe"
    assert found.n_predictions == len(texts)
    assert found.accuracy["clean"].mean == 1
    assert found.agreement["spliced"].mean == 1
    assert found.loss_recovered["mean"].mean == 1
    empty = fidelity(model, zero_sae(384), "resid.1", texts, y=y, probe_site="resid.3", n_resamples=20)
    assert empty.cross_entropy["spliced"] == empty.cross_entropy["zero"]
    # mean ablation at the probe's own site leaves it nothing to tell the texts apart by
    blind = probe_predictions(model, texts, y, "resid.3", {"zero": torch.zeros_like})
    assert blind.correct["zero"].sum() == len(texts) / 2
    pooled = read_pooled(model, texts, "resid.3", include_special=False)["resid.3"]
    assert pooled.shape == (10, 384)
    with pytest.raises(ValueError, match="comes before"):
        probe_predictions(model, texts, y, "resid.3", {}, probe_site="resid.1")
    with pytest.raises(ValueError, match="at least n_folds=5"):
        probe_predictions(model, texts[:6], y[:6], "resid.3", {})


def test_undefined_figures_are_none_in_json(masked: TextModel) -> None:
    found = fidelity(masked, identity_sae(16), "resid.0", TEXTS, max_tokens=20, n_resamples=20)
    flat = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert flat["cross_entropy"]["clean"]["mean"] == found.cross_entropy["clean"].mean
    assert flat["relative_perplexity"] is None
    assert np.isnan(recovered(np.array([1.0]), np.array([1.0]), np.array([1.0])))[0]
    # an ablation that changes nothing leaves nothing to recover
    unmoved = masked_predictions(masked, TEXTS, "resid.0", {"same": lambda x: x}, max_tokens=20)
    draws = TextBootstrap(len(TEXTS), n_resamples=20)
    nothing = draws.interval(recovered, *(unmoved.loss[name] for name in ("same", "same", CLEAN)))
    assert finite_or_none(nothing) == {"mean": None, "low": None, "high": None}


def test_intervals_are_those_of_the_bootstrap_over_texts() -> None:
    rng = np.random.default_rng(0)
    n = rng.integers(5, 50, size=80)
    loss = n * rng.gamma(4, size=80)
    ours = TextBootstrap(80, n_resamples=2000).interval(lambda total, count: total / count, loss, n)
    plain = bootstrap(lambda a, b: a.sum() / b.sum(), loss, n, n_resamples=2000, random_state=1)
    assert ours.mean == pytest.approx(plain.mean)
    assert ours.low == pytest.approx(plain.low, abs=0.1)
    assert ours.high == pytest.approx(plain.high, abs=0.1)
    with pytest.raises(ValueError, match="80 rows"):
        TextBootstrap(80, n_resamples=2).interval(lambda total: total, loss[:3])
