"""Loading models: from a folder, live, and everything that can be wrong with the request."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_text_models import word_tokenizer

from ssae_debias.activations import TextModel, load_model, read_pooled

Make = Callable[..., TextModel]


def save(model: TextModel, folder: Path) -> Path:
    model.module.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


def test_folder_gives_back_the_saved_model(tiny_model: Make, tmp_path: Path, texts: list[str]) -> None:
    model = tiny_model("bert")
    loaded = load_model(save(model, tmp_path / "bert"))
    assert not loaded.module.training
    assert loaded.fingerprint == model.fingerprint
    before, after = (read_pooled(m, texts, "resid.2")["resid.2"] for m in (model, loaded))
    assert (before == after).all()


def test_fingerprint_tells_weights_config_and_tokenizer_apart(tiny_model: Make) -> None:
    model = tiny_model("bert")
    before = model.fingerprint
    model.encode(["a nurse"], max_length=3)
    assert model.fingerprint == before, "use does not change it"
    assert tiny_model("bert", seed=1).fingerprint != before
    assert tiny_model("bert", layer_norm_eps=1e-3).fingerprint != before
    other = TextModel(model.module, word_tokenizer("<s> $A"), model.name)
    assert other.fingerprint != before
    with torch.no_grad():
        model.module.encoder.layer[2].output.dense.bias[0] += 1e-3
    assert model.fingerprint != before


def test_dtype_is_applied(tiny_model: Make, tmp_path: Path, texts: list[str]) -> None:
    folder = save(tiny_model("llama"), tmp_path / "llama")
    model = load_model(folder, dtype="bfloat16")
    assert model.dtype == torch.bfloat16
    rows = read_pooled(model, texts, "resid.1")["resid.1"]
    exact = read_pooled(load_model(folder), texts, "resid.1")["resid.1"]
    assert rows.dtype == "float32"
    assert 0 < abs(rows - exact).max() < 0.1 * abs(exact).max()


def test_a_textmodel_is_passed_through(tiny_model: Make) -> None:
    model = tiny_model("bert")
    assert load_model(model) is model


def test_live_model_stays_where_and_as_it_is(tiny_model: Make) -> None:
    module = tiny_model("gpt2").module.to(torch.bfloat16).train()
    model = load_model(module, tokenizer=word_tokenizer("$A"))
    assert model.module is module
    assert model.dtype == torch.bfloat16
    assert not module.training
    with pytest.raises(ValueError, match="move it yourself"):
        load_model(module, tokenizer=word_tokenizer("$A"), dtype="float16")


def test_live_model_needs_a_tokenizer(tiny_model: Make) -> None:
    with pytest.raises(ValueError, match="pass tokenizer="):
        load_model(tiny_model("bert").module)


def test_padding_token_is_found_on_a_copy_of_the_tokenizer(tiny_model: Make) -> None:
    tokenizer = word_tokenizer("$A")
    tokenizer.padding_side = "left"
    facts = copy.deepcopy(tokenizer.special_tokens_map)
    model = load_model(tiny_model("gpt2").module, tokenizer=tokenizer)
    assert model.tokenizer.pad_token == "</s>"
    assert model.encode(["a nurse", "a"])["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert (tokenizer.special_tokens_map, tokenizer.padding_side) == (facts, "left")


def test_name_that_is_nowhere_says_both() -> None:
    with pytest.raises(OSError, match=r"neither a folder here nor a model .* hub"):
        load_model("no-such-owner/no-such-model")


def test_folder_without_a_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="holds no model that transformers can load"):
        load_model(tmp_path)


@pytest.mark.parametrize("model", [None, 3, ["demo"]])
def test_other_types_are_refused(model: object) -> None:
    with pytest.raises(TypeError, match="must be a name, a folder or a transformers model"):
        load_model(model)  # type: ignore[arg-type]


def test_unknown_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match="dtype must be one of float32"):
        load_model("demo", dtype="int8")


def test_inputs_longer_than_the_model_are_refused(tiny_model: Make) -> None:
    model = tiny_model("bert")
    assert model.max_positions == 130
    with pytest.raises(ValueError, match="exceeds the 130 positions"):
        model.encode(["a"], max_length=131)
    with pytest.raises(ValueError, match="at least 1"):
        model.encode(["a"], max_length=0)


@pytest.mark.parametrize("family", ["roberta", "mpnet"], scope="function")
def test_positions_that_start_after_padding_are_not_overrun(tiny_model: Make, family: str) -> None:
    model = tiny_model(family)
    assert model.max_positions == 128
    rows = read_pooled(model, ["a " * 200], "embed", max_length=128)["embed"]
    assert abs(rows).sum() > 0


def test_bare_string_is_refused(tiny_model: Make) -> None:
    with pytest.raises(TypeError, match="str"):
        tiny_model("bert").encode("a nurse")
