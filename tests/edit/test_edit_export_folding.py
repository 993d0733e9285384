"""Which edits fold into which weights, and that folded weights compute what the live edit does."""

from __future__ import annotations

import pytest
import torch
from export_models import (
    D,
    affine,
    batch,
    composed,
    gap,
    latents,
    live_output,
    main_output,
    projection,
    small,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from ssae_debias.activations import TextModel, resolve_site
from ssae_debias.edit import Composed, Edit, Projection
from ssae_debias.edit.export import fold_edits
from ssae_debias.edit.export.linear import affine_form, is_projection


def folded_output(model: TextModel, edits: dict[str, Edit], fold="writers") -> tuple[torch.Tensor, dict]:
    """Output of a fresh model with the new weights and config, on the same inputs as `live`."""
    rewriting, folded, left = fold_edits(model.module, edits, fold)
    assert not left, f"left over: {list(left)}"
    config = type(model.module.config).from_dict({**model.module.config.to_dict(), **rewriting.config})
    fresh = type(model.module)(config).eval()
    missing = fresh.load_state_dict(rewriting.state(), strict=True)
    assert not missing.missing_keys
    torch.manual_seed(1)
    return main_output(fresh, batch(model)), folded


def live(model: TextModel, edits: dict[str, Edit]) -> torch.Tensor:
    torch.manual_seed(1)
    return live_output(model, edits, batch(model))


@settings(max_examples=25, deadline=None)
@given(kinds=st.lists(st.sampled_from(["p", "half", "a"]), min_size=1, max_size=4), seed=st.integers(0, 999))
def test_the_matrix_form_does_what_the_edit_does(kinds: list[str], seed: int) -> None:
    torch.manual_seed(seed)
    make = {"p": projection, "half": lambda: projection(strength=0.5), "a": affine}
    edit = Composed(tuple(make[kind]() for kind in kinds))
    form = affine_form(edit)
    assert form is not None
    x = torch.randn(7, D)
    torch.testing.assert_close((x.double() @ form[0] + form[1]).float(), edit(x), atol=2e-4, rtol=1e-4)
    assert affine_form(Composed((*edit.parts, latents()))) is None
    if kinds == ["p"]:
        assert is_projection(form)
    if kinds == ["half"] or kinds == ["a"]:
        assert not is_projection(form)


WRITING = {
    "bert": ("attn.0", "mlp.2"),
    "roberta": ("attn.1", "mlp.0"),
    "distilbert": ("attn.0", "mlp.1"),
    "gpt2": ("attn.0", "mlp.2"),
    "gpt_neox": ("attn.2", "mlp.0"),
    "llama": ("attn.0", "mlp.2"),
    "qwen3": ("attn.1",),
    "gemma": ("attn.1",),
}


@pytest.mark.parametrize("kind", list(WRITING))
def test_affine_edits_fold_into_the_layer_that_writes_there(kind: str) -> None:
    model = small(kind)
    chained = Composed((projection(), affine()))
    edits: dict[str, Edit] = dict(zip(WRITING[kind], (chained, affine()), strict=False))
    found, folded = folded_output(model, edits)
    expected = live(model, edits)
    assert gap(found, expected) < 1e-5
    assert gap(live(model, {}), expected) > 1e-3
    assert list(folded) == list(edits)


@pytest.mark.parametrize("kind", ["gpt_neox", "llama", "mistral", "qwen3", "gemma", "gemma2"])
@pytest.mark.parametrize("make", [latents, projection, affine, composed])
def test_any_edit_folds_into_a_table_of_embeddings(kind: str, make) -> None:
    model = small(kind)
    if resolve_site(model.module, "embed").side == "input":
        pytest.skip("this transformers scales Gemma's embeddings outside their module")
    edits = {"embed": make()}
    found, folded = folded_output(model, edits)
    expected = live(model, edits)
    assert gap(found, expected) < 1e-5
    assert gap(live(model, {}), expected) > 1e-3
    assert len(folded["embed"]) == 1


def test_a_head_tied_to_the_embeddings_keeps_them_as_they_were() -> None:
    model = small("llama")
    assert model.module.lm_head.weight is model.module.model.embed_tokens.weight
    rewriting, _, _ = fold_edits(model.module, {"embed": latents()})
    state = rewriting.state()
    assert rewriting.config == {"tie_word_embeddings": False}
    assert torch.equal(state["lm_head.weight"], model.module.lm_head.weight)
    assert not torch.equal(state["model.embed_tokens.weight"], model.module.lm_head.weight)
    assert model.module.config.tie_word_embeddings is True


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_summed_or_normalised_embeddings_do_not_fold(kind: str) -> None:
    _, folded, left = fold_edits(small(kind).module, {"embed": projection()})
    assert (folded, list(left)) == ({}, ["embed"])


def test_latents_behind_a_layer_and_norms_after_it_do_not_fold() -> None:
    _, folded, left = fold_edits(small("bert").module, {"mlp.0": latents(), "attn.0": composed()})
    assert (folded, list(left)) == ({}, ["mlp.0", "attn.0"])
    _, folded, left = fold_edits(small("gemma2").module, {"mlp.0": projection(), "attn.0": projection()})
    assert (folded, list(left)) == ({}, ["mlp.0", "attn.0"])


def test_a_layer_without_bias_and_without_a_flag_for_it_folds_only_what_shifts_nothing() -> None:
    model = small("mistral")
    still = Projection.onto_complement_of(torch.randn(2, D), center=torch.zeros(D))
    found, folded = folded_output(model, {"attn.0": still, "mlp.1": still})
    assert gap(found, live(model, {"attn.0": still, "mlp.1": still})) < 1e-5
    assert folded["mlp.1"] == ("model.layers.1.mlp.down_proj.weight",)
    assert list(fold_edits(model.module, {"attn.0": projection()})[2]) == ["attn.0"]


def test_a_bias_that_the_config_can_say_is_added_everywhere_it_says() -> None:
    rewriting, folded, _ = fold_edits(small("llama").module, {"mlp.1": projection()})
    assert rewriting.config == {"mlp_bias": True}
    biases = {name for name in rewriting.changed if name.endswith(".bias")}
    assert len(biases) == 9
    nonzero = {name for name in biases if rewriting.changed[name].any()}
    assert nonzero == {"model.layers.1.mlp.down_proj.bias"} < set(folded["mlp.1"])


def test_one_projection_along_the_stream_of_a_parallel_decoder_folds() -> None:
    model, same = small("gpt_neox"), projection()
    edits: dict[str, Edit] = {"embed": same, "attn.1": affine(), "resid.0": same, "resid.1": same}
    found, folded = folded_output(model, edits)
    expected = live(model, edits)
    assert gap(found, expected) < 1e-5
    assert gap(live(model, {"embed": same, "attn.1": edits["attn.1"]}), expected) > 1e-3
    assert folded["resid.1"][0] == "gpt_neox.layers.1.attention.dense.weight"
    assert not any("layers.2" in name for names in folded.values() for name in names)


@pytest.mark.parametrize(
    ("kind", "edits", "left"),
    [
        # the MLP reads between the two additions
        ("gpt_neox_sequential", ["embed", "resid.0"], ["resid.0"]),
        ("llama", ["embed", "resid.0"], ["resid.0"]),
        # the stream is not in the projection's image
        ("gpt_neox", ["resid.0", "resid.1"], ["resid.0", "resid.1"]),
        ("gpt_neox", ["embed", "resid.1"], ["resid.1"]),
    ],
)
def test_where_the_sum_is_not_exact_the_stream_is_not_folded(
    kind: str, edits: list[str], left: list[str]
) -> None:
    same = projection()
    assert list(fold_edits(small(kind).module, dict.fromkeys(edits, same))[2]) == left


def test_other_maps_along_the_stream_do_not_fold() -> None:
    model = small("gpt_neox").module
    half = projection(strength=0.5)
    assert list(fold_edits(model, {"embed": half, "resid.0": half})[2]) == ["resid.0"]
    assert list(fold_edits(model, {"embed": projection(), "resid.0": projection()})[2]) == ["resid.0"]
    same = projection()
    # code at a writer would run after what the stream's edit changed in its weights
    edits: dict[str, Edit] = {"embed": same, "resid.0": same, "mlp.0": latents()}
    _, folded, left = fold_edits(model, edits)
    assert "resid.0" in left
    assert "mlp.0" in left
    assert not any("layers" in name for names in folded.values() for name in names)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_the_last_block_folds_into_a_head_only_on_request(kind: str) -> None:
    model, edits = small(kind), {"resid.2": Composed((affine(), projection()))}
    assert list(fold_edits(model.module, edits)[2]) == ["resid.2"]
    found, _ = folded_output(model, edits, "head")
    assert gap(found, live(model, edits)) < 1e-5
    assert gap(live(model, {}), found) > 1e-3
    assert list(fold_edits(model.module, {"resid.1": affine()}, "head")[2]) == ["resid.1"]
    assert list(fold_edits(model.module, {"resid.2": latents()}, "head")[2]) == ["resid.2"]
    assert list(fold_edits(model.module.base_model, edits, "head")[2]) == ["resid.2"]


def test_two_edits_at_one_module_fold_in_order_or_not_at_all() -> None:
    model = small("bert")
    first, second = affine(), projection()
    alias = "module:bert.encoder.layer.0.output.dense"
    edits: dict[str, Edit] = {"mlp.0": first, alias: second}
    found, _ = folded_output(model, edits)
    assert gap(found, live(model, edits)) < 1e-5
    assert list(fold_edits(model.module, {"mlp.0": latents(), alias: second})[2]) == ["mlp.0", alias]


def test_nothing_of_the_model_changes_and_bad_requests_are_told() -> None:
    model = small("gpt_neox")
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    fold_edits(model.module, {"embed": latents(), "mlp.0": affine()})[0].state()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.module.state_dict().items())
    assert not fold_edits(model.module, {"embed": latents()}, "none")[1]
    with pytest.raises(ValueError, match="fold must be one of writers, head, none; got 'all'"):
        fold_edits(model.module, {}, "all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no site 'resid.7'"):
        fold_edits(model.module, {"resid.7": affine()})
