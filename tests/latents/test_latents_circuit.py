"""Circuits: a network whose circuit is known, and a real model against brute force."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from ssae_debias.activations import TextModel, load_model, read_pooled, read_tokens, resolve_site
from ssae_debias.latents import ModelDecision, Neurons, ProbeDecision, attribute_decision
from ssae_debias.latents.circuit import Circuit, find_circuit, share_of_margin
from ssae_debias.latents.circuit_ablation import ablated_margins
from ssae_debias.latents.circuit_batches import decision_batches
from ssae_debias.latents.circuit_edges import edge_effects
from ssae_debias.sae import SAEConfig, SparseAutoencoder

TEXTS = [
    "Once upon a time there was a girl.",
    "The dog ran to the park.",
    "Tom was sad.",
    "She had a red ball.",
]
Y = np.array([1, 0, 0, 1])
EMBED, MIDDLE = "module:embed", "module:middle"


class Planted(nn.Module):
    """logit = mean over tokens of 2·middle₁ + embed₁, with middle₁ = 3·embed₀ and middle₀ = embed₂, read by none."""

    def __init__(self, n_tokens: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(hidden_size=3, model_type="planted")
        self.embed = nn.Embedding(n_tokens, 3)
        self.middle = nn.Linear(3, 2, bias=False)
        with torch.no_grad():
            self.middle.weight.copy_(torch.tensor([[0.0, 0.0, 1.0], [3.0, 0.0, 0.0]]))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        stream = self.embed(input_ids)
        score = 2 * self.middle(stream)[..., 1] + stream[..., 1]
        logit = (score * attention_mask).sum(1) / attention_mask.sum(1)
        return SimpleNamespace(logits=torch.stack([torch.zeros_like(logit), logit], 1))


@pytest.fixture(scope="module")
def planted() -> TextModel:
    torch.manual_seed(0)
    tokenizer = load_model("demo").tokenizer
    return load_model(Planted(len(tokenizer)), tokenizer=tokenizer)


def one_axis(axis: int, width: int) -> SparseAutoencoder:
    """A dictionary of one coordinate, both its signs; all others are error."""
    sae = SparseAutoencoder(width, SAEConfig(d_sae=2, k=1))
    with torch.no_grad():
        row = torch.eye(width)[axis]
        sae.W_dec.copy_(torch.stack([row, -row]))
        sae.W_enc.copy_(sae.W_dec.T)
    return sae


def effect(table: pd.DataFrame, upstream: str, downstream: str) -> float:
    return float(table.loc[(table.upstream == upstream) & (table.downstream == downstream), "effect"].iloc[0])


def planted_parts(model: TextModel) -> tuple[np.ndarray, np.ndarray]:
    """Mean embed₀ and embed₁ of each text, all tokens counted."""
    pooled = read_pooled(model, TEXTS, EMBED, include_special=True)[EMBED]
    return pooled[:, 0], pooled[:, 1]


def test_a_planted_circuit_is_found_with_its_effects(planted: TextModel) -> None:
    saes = {MIDDLE: Neurons(2), EMBED: Neurons(3)}  # named out of order
    circuit = find_circuit(
        planted, saes, TEXTS, Y, ModelDecision(), node_threshold=1e-3, edge_threshold=1e-3, batch_size=3
    )
    assert circuit.nodes["node"].tolist() == [
        *circuit.nodes.loc[circuit.nodes["site"] == EMBED, "node"],
        f"{MIDDLE}/1",
    ]
    assert set(circuit.nodes["node"]) == {f"{EMBED}/0", f"{EMBED}/1", f"{MIDDLE}/1"}
    edges = {(e.upstream, e.downstream): e.effect for e in circuit.edges.itertuples()}
    # the way through the middle, and the one past it: no edge leads from embed₁ to the middle
    assert set(edges) == {
        (f"{EMBED}/0", f"{MIDDLE}/1"),
        (f"{EMBED}/1", "decision"),
        (f"{MIDDLE}/1", "decision"),
    }
    first, second = planted_parts(planted)
    sign = 2 * Y - 1
    assert edges[f"{EMBED}/0", f"{MIDDLE}/1"] == pytest.approx(np.mean(sign * 6 * first), abs=1e-5)
    assert edges[f"{MIDDLE}/1", "decision"] == pytest.approx(np.mean(sign * 6 * first), abs=1e-5)
    assert edges[f"{EMBED}/1", "decision"] == pytest.approx(np.mean(sign * second), abs=1e-5)
    assert circuit.faithfulness == pytest.approx(1, abs=1e-4)
    assert circuit.completeness == pytest.approx(0, abs=1e-4)
    assert circuit.n_nodes == 3 + 1 + 2 + 1


def test_what_no_latent_says_is_the_error_node(planted: TextModel) -> None:
    saes = {EMBED: one_axis(1, 3), MIDDLE: one_axis(0, 2)}
    circuit = find_circuit(planted, saes, TEXTS, Y, ModelDecision(), node_threshold=1e-3, edge_threshold=1e-3)
    nodes = circuit.nodes.set_index("node")
    assert {f"{EMBED}/error", f"{MIDDLE}/error"} <= set(nodes.index)
    assert pd.isna(nodes.loc[f"{EMBED}/error", "latent"])
    first, _ = planted_parts(planted)
    expected = pytest.approx(np.mean((2 * Y - 1) * 6 * first), abs=1e-5)
    assert nodes.loc[f"{EMBED}/error", "effect"] == expected
    assert effect(circuit.edges, f"{EMBED}/error", f"{MIDDLE}/error") == expected
    # embed₁ is a latent's, in two signs, and goes past the middle
    assert set(circuit.edges.loc[circuit.edges.downstream == f"{MIDDLE}/error", "upstream"]) == {
        f"{EMBED}/error"
    }


def test_without_the_node_that_matters_nothing_is_left(planted: TextModel) -> None:
    saes = {EMBED: Neurons(3)}
    only = {name: {EMBED: np.array(mask)} for name, mask in {
        "model": [True] * 4, "nothing": [False] * 4, "first": [True, False, False, False],
        "useless": [False, False, True, True],
    }.items()}  # fmt: skip
    margins = ablated_margins(planted, saes, TEXTS, Y, ModelDecision(), only)
    first, second = planted_parts(planted)
    np.testing.assert_allclose(margins["model"], (2 * Y - 1) * (6 * first + second), atol=1e-5)
    assert share_of_margin(margins, "useless") == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(margins["useless"], margins["nothing"], atol=1e-6)
    assert abs(share_of_margin(margins, "first")) > 0


@pytest.fixture(scope="module")
def stories(stories_path) -> TextModel:
    return load_model(stories_path)


@pytest.fixture(scope="module")
def saes() -> dict[str, SparseAutoencoder]:
    config = SAEConfig(d_sae=48, k=8)
    sites = ("resid.1", "mlp.2", "resid.2")
    return {site: SparseAutoencoder(64, config, random_state=i) for i, site in enumerate(sites)}


@pytest.fixture(scope="module")
def decision() -> ProbeDecision:
    return ProbeDecision("resid.3", np.random.default_rng(0).normal(size=64) / 4, 0.1)


@pytest.fixture(scope="module")
def everything(stories, saes, decision) -> Circuit:
    return find_circuit(stories, saes, TEXTS, Y, decision, node_threshold=0, edge_threshold=0)


def test_edges_out_of_a_node_add_up_to_its_effect(everything: Circuit, stories, saes, decision) -> None:
    """Through the MLP, past it, and into both error terms: nothing of a node's effect is lost or counted twice."""
    out = everything.edges.groupby("upstream")["effect"].sum()
    nodes = everything.nodes.set_index("node")["effect"]
    assert nodes.abs().max() > 0.05
    for site in saes:
        own = nodes[nodes.index.str.startswith(site)]
        np.testing.assert_allclose(out.reindex(own.index).fillna(0), own, atol=2e-4, err_msg=site)
    plain = attribute_decision(stories, saes, TEXTS, Y, decision)
    for site, effects in plain.items():
        latents = everything.nodes[(everything.nodes.site == site) & everything.nodes.latent.notna()]
        np.testing.assert_allclose(
            latents.sort_values("latent")["effect"], effects[latents["latent"].sort_values().astype(int)],
            atol=1e-5,
        )  # fmt: skip


def test_edges_are_what_brute_force_finds(everything: Circuit, stories, saes, decision) -> None:
    """A small share of a latent is taken away, the MLP between is held, and the later nodes are watched."""
    (batch,) = decision_batches(stories, TEXTS, Y, decision, max_length=64, batch_size=4)
    sites = {name: resolve_site(stories.module, name) for name in saes}
    clean: dict[str, Tensor] = {}
    worth: dict[str, Tensor] = {}
    for name, site in sites.items():  # the gradient of the metric at one site after another
        with torch.enable_grad():

            def leaf(x: Tensor, name: str = name) -> Tensor:
                clean[name] = x.detach()
                worth[name] = x.detach().requires_grad_()
                return worth[name]

            with site.attach(leaf):
                metric = -batch.margins(stories, decision).sum()
            worth[name] = torch.autograd.grad(metric, worth[name])[0]

    def downstream(change: Tensor, held: list[str], name: str) -> Tensor:
        seen = []
        handles = [sites["resid.1"].attach(lambda x: x + change)]
        handles += [sites[one].attach(lambda x, one=one: clean[one]) for one in held]
        handles += [sites[name].attach(lambda x: seen.append(x))]
        with torch.no_grad():
            batch.margins(stories, decision)
        for handle in handles:
            handle.remove()
        return seen[0]

    share = 1e-3
    up = saes["resid.1"]
    with torch.no_grad():
        codes = up.encode(clean["resid.1"])
        parts = {str(i): codes[..., i, None] * up.W_dec[i] for i in (2, 17)}
        parts["error"] = clean["resid.1"] - up(clean["resid.1"])
    compared = 0
    for upstream, part in parts.items():
        for name, held in (("mlp.2", []), ("resid.2", ["mlp.2"])):
            sae = saes[name]
            minus, plus = (downstream(factor * share * part, held, name) for factor in (-1, 1))
            with torch.no_grad():
                slope = (sae.encode(minus) - sae.encode(plus)) / (2 * share)
                along = worth[name] @ sae.W_dec.T
                expected = (along * slope).sum((0, 1)).numpy() / 4
                errors = [x - sae(x) for x in (minus, plus)]
                into_error = float((worth[name] * (errors[0] - errors[1])).sum() / (2 * share) / 4)
            edges = everything.edges[everything.edges.upstream == f"resid.1/{upstream}"].set_index(
                "downstream"
            )
            found = edges["effect"].reindex([f"{name}/{i}" for i in range(48)]).fillna(0)
            # a latent at its threshold has no slope: a few may differ
            close = np.isclose(found, expected, rtol=0.05, atol=3e-4)
            assert close.mean() > 0.9, (upstream, name)
            assert np.corrcoef(found, expected)[0, 1] > 0.98
            assert edges.loc[f"{name}/error", "effect"] == pytest.approx(into_error, rel=0.15, abs=5e-3)
            compared += int((np.abs(expected) > 1e-3).sum())
    assert compared > 30


def test_everything_is_faithful_and_nothing_is_not(everything: Circuit, stories, saes, decision) -> None:
    assert (everything.faithfulness, everything.completeness) == (1.0, 0.0)
    np.testing.assert_array_equal(everything.margins["circuit"], everything.margins["model"])
    logits = read_pooled(stories, TEXTS, "resid.3")["resid.3"] @ decision.coef + decision.intercept
    np.testing.assert_allclose(everything.margins["model"], (2 * Y - 1) * logits, atol=1e-4)
    # with all nodes at their means every ordinary token is the same: only length and <s> are left
    small = find_circuit(stories, saes, TEXTS, Y, decision, node_threshold=0.05)
    assert 0 < len(small.nodes) < len(everything.nodes)
    assert (small.nodes["effect"].abs() >= 0.05).all()
    assert (small.edges["effect"].abs() >= 0.01).all()
    assert set(small.edges["upstream"]) <= set(small.nodes["node"])
    again = ablated_margins(stories, saes, TEXTS, Y, decision, {"circuit": small.kept(saes)})
    np.testing.assert_allclose(again["circuit"], small.margins["circuit"])
    assert json.loads(json.dumps(small.to_dict(), allow_nan=False))["n_texts"] == 4


def test_ablated_tokens_are_at_the_mean_of_their_kind(stories: TextModel) -> None:
    """`<s>`, whose activations are like no word's, is not averaged with the words."""
    sae = SparseAutoencoder(64, SAEConfig(d_sae=32, k=4))
    decision = ProbeDecision("resid.2", np.eye(64)[5], 0.0, include_special=False)
    nothing = {"none": {"resid.2": np.zeros(33, dtype=bool)}}
    margins = ablated_margins(stories, {"resid.2": sae}, TEXTS, np.ones(4), decision, nothing)["none"]
    x = torch.cat([batch.activations["resid.2"] for batch in read_tokens(stories, TEXTS, "resid.2")])
    np.testing.assert_allclose(margins, float(x[:, 5].mean()), atol=1e-4)
    other = ablated_margins(
        stories, {"resid.2": sae}, TEXTS, np.ones(4), decision, nothing, mean_texts=TEXTS[:1]
    )["none"]
    x = next(iter(read_tokens(stories, TEXTS[:1], "resid.2"))).activations["resid.2"]
    np.testing.assert_allclose(other, float(x[:, 5].mean()), atol=1e-4)


def test_integrated_nodes_and_late_sites(stories: TextModel, saes, decision) -> None:
    late = {**saes, "resid.4": SparseAutoencoder(64, SAEConfig(d_sae=8, k=2))}
    circuit = find_circuit(
        stories, late, TEXTS, Y, decision, node_threshold=0.05, method="integrated", steps=4
    )
    assert "resid.4" not in set(circuit.nodes["site"])
    assert all(parameter.grad is None for parameter in stories.module.parameters())
    assert not any(part._forward_hooks for part in stories.module.modules())


def test_bad_requests_are_named(stories: TextModel, saes, decision) -> None:
    with pytest.raises(ValueError, match="the largest effect is"):
        find_circuit(stories, saes, TEXTS, Y, decision, node_threshold=1e6)
    with pytest.raises(ValueError, match="tried exactly by attribute_decision"):
        find_circuit(stories, saes, TEXTS, Y, decision, method="exact")
    with pytest.raises(ValueError, match="4 labels 0 or 1"):
        list(decision_batches(stories, TEXTS, [1, 0], decision, max_length=8, batch_size=2))
    with pytest.raises(ValueError, match="a bool for each latent"):
        ablated_margins(stories, saes, TEXTS, Y, decision, {"a": {"resid.1": np.ones(3, dtype=bool)}})
    with pytest.raises(ValueError, match="a bool for each latent"):
        ablated_margins(stories, saes, TEXTS, Y, decision, {"a": {"embed": np.ones(49, dtype=bool)}})
    masks = {site: np.zeros(49, dtype=bool) for site in saes}
    batches = decision_batches(stories, TEXTS, Y, decision, max_length=64, batch_size=2)
    assert edge_effects(stories, saes, masks, batches, decision).empty
    assert np.isnan(share_of_margin(dict.fromkeys(("model", "nothing"), np.ones(2)), "model"))
