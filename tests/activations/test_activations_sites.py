"""Sites: each name means the same place in every family, by transformers' own states and by arithmetic."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
import transformers
from tiny_text_models import CONFIGS, TEXTS, each_decoder, each_encoder, each_family, make_tiny_model
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from ssae_debias.activations import (
    FAMILIES,
    TextModel,
    available_sites,
    load_model,
    resolve_site,
    site_tensor,
    with_site_tensor,
)

Make = Callable[..., TextModel]


def inputs_of(model: TextModel, texts: list[str]) -> dict[str, Tensor]:
    encoding = model.encode(texts, max_length=32)
    return {name: encoding[name] for name in ("input_ids", "attention_mask")}


def run(model: TextModel, texts: list[str]) -> tuple[dict[str, Tensor], Any]:
    """Activations at every standard site, and the output with hidden states, of one forward pass."""
    seen: dict[str, Tensor] = {}
    handles = []
    for name in model.sites:
        handles.append(resolve_site(model.module, name).attach(lambda x, name=name: seen.update({name: x})))
    try:
        with torch.no_grad():
            output = model.module(**inputs_of(model, texts), output_hidden_states=True)
    finally:
        for handle in handles:
            handle.remove()
    return seen, output


@cache
def tiny_run(family: str) -> tuple[TextModel, dict[str, Tensor], Any]:
    """One family's model, and `run` on it; for tests that change neither."""
    model = make_tiny_model(family)
    return model, *run(model, list(TEXTS))


def final_norm(module: Any) -> nn.Module:
    return next(
        getattr(module, name) for name in ("norm", "ln_f", "final_layer_norm") if hasattr(module, name)
    )


@each_family
def test_stream_is_transformers_hidden_states(family: str) -> None:
    model, seen, output = tiny_run(family)
    hidden = output.hidden_states
    torch.testing.assert_close(seen["embed"], hidden[0])
    for block in range(2):
        torch.testing.assert_close(seen[f"resid.{block}"], hidden[block + 1])
    assert seen["embed"].shape[-1] == model.d_model == 16


@each_encoder
def test_last_block_of_an_encoder_is_its_output(family: str) -> None:
    _, seen, output = tiny_run(family)
    torch.testing.assert_close(seen["resid.2"], output.last_hidden_state)


@each_decoder
def test_last_block_of_a_decoder_is_taken_before_the_final_norm(family: str) -> None:
    model, seen, output = tiny_run(family)
    torch.testing.assert_close(final_norm(model.module)(seen["resid.2"]), output.last_hidden_state)
    assert not torch.allclose(seen["resid.2"], output.last_hidden_state, rtol=0.01)


@each_decoder
def test_decoder_block_adds_attention_and_mlp_to_the_stream(family: str) -> None:
    _, seen, _ = tiny_run(family)
    stream = seen["embed"]
    for block in range(3):
        stream = stream + seen[f"attn.{block}"] + seen[f"mlp.{block}"]
        torch.testing.assert_close(stream, seen[f"resid.{block}"], rtol=1e-4, atol=1e-4)
        assert seen[f"attn.{block}"].std() > 1e-3 < seen[f"mlp.{block}"].std()


@each_encoder
def test_encoder_block_adds_then_normalises(family: str) -> None:
    model, seen, _ = tiny_run(family)
    stream = seen["embed"]
    for index in range(3):
        block: Any = resolve_site(model.module, f"resid.{index}").module
        if family == "distilbert":
            after_attention, after_mlp = block.sa_layer_norm, block.output_layer_norm
        elif family == "mpnet":
            after_attention, after_mlp = block.attention.LayerNorm, block.output.LayerNorm
        else:
            after_attention, after_mlp = block.attention.output.LayerNorm, block.output.LayerNorm
        middle = after_attention(stream + seen[f"attn.{index}"])
        stream = after_mlp(middle + seen[f"mlp.{index}"])
        torch.testing.assert_close(stream, seen[f"resid.{index}"], rtol=1e-4, atol=1e-4)


@each_family
def test_order_is_the_forward_order(family: str) -> None:
    model, seen, _ = tiny_run(family)
    # GPT-NeoX's attention and MLP run beside each other; everywhere else calls come in the sites' order
    assert list(seen) == list(model.sites)
    orders = [resolve_site(model.module, name).order for name in model.sites]
    assert orders == sorted(set(orders))


@each_family
def test_every_family_is_tested(family: str) -> None:
    assert tiny_run(family)[0].module.config.model_type in FAMILIES
    assert {name.split()[0] for name in CONFIGS} == FAMILIES.keys()


@pytest.mark.parametrize(
    ("family", "head"),
    [
        ("bert", "BertForSequenceClassification"),
        ("bert", "BertForMaskedLM"),
        ("distilbert", "DistilBertForSequenceClassification"),
        ("gpt2", "GPT2LMHeadModel"),
        ("gpt_neox", "GPTNeoXForCausalLM"),
        ("llama", "LlamaForCausalLM"),
        ("gemma2", "Gemma2ForSequenceClassification"),
    ],
)
def test_task_models_are_looked_through(tiny_model: Make, texts: list[str], family: str, head: str) -> None:
    model = tiny_model(family, model_class=getattr(transformers, head))
    seen, output = run(model, texts)
    torch.testing.assert_close(seen["embed"], output.hidden_states[0])
    torch.testing.assert_close(seen["resid.1"], output.hidden_states[2])


@each_family
def test_what_attached_functions_return_flows_on(tiny_model: Make, texts: list[str], family: str) -> None:
    model = tiny_model(family)
    plain = tiny_run(family)[2].last_hidden_state
    for name in ("embed", "attn.0", "mlp.1", "resid.2"):
        site = resolve_site(model.module, name)
        seen: list[Tensor] = []
        with torch.no_grad(), site.attach(torch.zeros_like), site.attach(seen.append):
            edited = model.module(**inputs_of(model, texts)).last_hidden_state
        assert seen[0].abs().sum() == 0, "the second function sees what the first returned"
        assert not torch.allclose(edited, plain)


def test_real_encoder_and_decoder(minilm_path: Any, stories_path: Any) -> None:
    for path, blocks in ((minilm_path, 6), (stories_path, 5)):
        model = load_model(path)
        seen, output = run(model, ["Once upon a time there was a nurse.", "She saw him."])
        assert len(model.sites) == 3 * blocks + 1
        torch.testing.assert_close(seen["embed"], output.hidden_states[0])
        for block in range(blocks - 1):
            torch.testing.assert_close(seen[f"resid.{block}"], output.hidden_states[block + 1])


def test_module_path_names_any_module(tiny_model: Make) -> None:
    model = tiny_model("bert")
    site = resolve_site(model.module, "module:encoder.layer.1.intermediate")
    assert site.module is model.module.encoder.layer[1].intermediate
    before, after = (resolve_site(model.module, name).order for name in ("resid.0", "resid.1"))
    assert before < site.order < after


@pytest.mark.parametrize("name", ["resid.3", "resid.-1", "resid", "resid_0", "", "Embed", "mlp.x"])
def test_unknown_site_lists_what_there_is(tiny_model: Make, name: str) -> None:
    with pytest.raises(ValueError, match=r"no site .* embed, and attn\.i, mlp\.i, resid\.i for i = 0\.\.2"):
        resolve_site(tiny_model("llama").module, name)


def test_unknown_module_path_suggests_the_nearest(tiny_model: Make) -> None:
    with pytest.raises(ValueError, match=r"Did you mean module:layers\.1\.mlp\?"):
        resolve_site(tiny_model("llama").module, "module:layer.1.mlp")


def test_site_name_must_be_a_string(tiny_model: Make) -> None:
    with pytest.raises(TypeError, match="got int"):
        resolve_site(tiny_model("bert").module, 3)  # type: ignore[arg-type]


def test_unknown_architecture_names_the_families_and_the_way_out() -> None:
    module = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"'Sequential'.*bert.*gpt_neox.*module:path"):
        available_sites(module)
    assert resolve_site(module, "module:0").module is module[0]


Pair = namedtuple("Pair", ["states", "weights"])


@pytest.mark.parametrize(
    "output",
    [
        torch.ones(2),
        (torch.ones(2), "kept"),
        [torch.ones(2), "kept"],
        Pair(torch.ones(2), "kept"),
        BaseModelOutput(last_hidden_state=torch.ones(2), hidden_states=(torch.ones(1),)),
    ],
    ids=lambda output: type(output).__name__,
)
def test_replacing_keeps_kind_and_rest_of_the_output(output: Any) -> None:
    new = torch.zeros(2)
    replaced = with_site_tensor(output, new)
    assert type(replaced) is type(output)
    assert site_tensor(replaced) is new
    assert torch.equal(site_tensor(output), torch.ones(2)), "the original is left as it was"
    if not isinstance(output, Tensor):
        assert replaced[1] is output[1]


def test_output_without_a_tensor_is_refused() -> None:
    for output in ({"a": torch.ones(1)}, (None,), (), None):
        with pytest.raises(TypeError, match="must return a tensor"):
            site_tensor(output)
