"""Reading: the right tokens, no further than needed, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_text_models import each_family
from torch import Tensor, nn

from ssae_debias.activations import TextModel, load_model, read_pooled, read_tokens, resolve_site

Make = Callable[..., TextModel]


def hooks(module: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


@contextmanager
def blocks_run(model: TextModel) -> Iterator[list[int]]:
    """The blocks that a forward pass enters, in order."""
    entered: list[int] = []
    count = sum(name.startswith("resid") for name in model.sites)
    handles = [
        resolve_site(model.module, f"resid.{i}").module.register_forward_pre_hook(
            lambda module, arguments, i=i: entered.append(i)
        )
        for i in range(count)
    ]
    yield entered
    for handle in handles:
        handle.remove()


def by_text(model: TextModel, texts: list[str], site: str, **options: object) -> dict[int, Tensor]:
    rows: dict[int, Tensor] = {}
    for batch in read_tokens(model, texts, site, **options):  # type: ignore[arg-type]
        for text in np.unique(batch.text_index):
            rows[int(text)] = batch.activations[site][torch.from_numpy(batch.text_index == text)]
    return rows


@each_family
def test_forward_stops_after_the_last_site(tiny_model: Make, texts: list[str], family: str) -> None:
    model = tiny_model(family)
    # before transformers 5 no module returns Gemma's scaled embeddings: they are read as block 0 is entered
    at_embed = [0] if resolve_site(model.module, "embed").side == "input" else []
    for sites, expected in ((["embed"], at_embed), (["attn.1"], [0, 1]), (["resid.1", "embed"], [0, 1])):
        with blocks_run(model) as entered:
            read_pooled(model, texts, sites)
        assert entered == expected


@each_family
def test_tokens_are_those_of_the_whole_forward(tiny_model: Make, texts: list[str], family: str) -> None:
    model = tiny_model(family)
    for i, rows in by_text(model, texts, "resid.1", include_special=True).items():
        encoding = model.encode([texts[i]])
        with torch.no_grad():
            output = model.module(encoding["input_ids"], output_hidden_states=True)
        torch.testing.assert_close(rows, output.hidden_states[2][0], rtol=1e-4, atol=1e-4)


@each_family
def test_special_tokens_and_padding_are_left_out(tiny_model: Make, texts: list[str], family: str) -> None:
    model = tiny_model(family)
    (batch,) = read_tokens(model, texts, "embed")
    assert not set(batch.token_id.tolist()) & {0, 1, 2}, "no <s>, <pad>, </s>"
    words = {i: len(text.split()) for i, text in enumerate(texts)}
    assert {i: int((batch.text_index == i).sum()) for i in words} == words
    special = len(model.encode(["a"])["input_ids"][0]) - 1
    (all_tokens,) = read_tokens(model, texts, "embed", include_special=True)
    assert len(all_tokens) - len(batch) == special * len(texts)
    ids = model.encode(texts)["input_ids"].numpy()
    assert (ids[batch.text_index, batch.position] == batch.token_id).all()


@each_family
def test_results_do_not_depend_on_order_or_size_of_batches(
    tiny_model: Make, texts: list[str], family: str
) -> None:
    model = tiny_model(family)
    expected = read_pooled(model, texts, "resid.2")["resid.2"]
    order = np.random.default_rng(0).permutation(len(texts))
    shuffled = [texts[i] for i in order]
    for batch_tokens in (1, 12, 40):
        rows = read_pooled(model, shuffled, "resid.2", batch_tokens=batch_tokens)["resid.2"]
        np.testing.assert_allclose(rows, expected[order], rtol=1e-4, atol=1e-4)


def test_pooling_is_over_the_tokens_that_count(tiny_model: Make, texts: list[str]) -> None:
    model = tiny_model("bert")
    for include_special in (False, True):
        tokens = by_text(model, texts, "resid.0", include_special=include_special)
        for pool, of_tokens in (("mean", lambda rows: rows.mean(0)), ("last", lambda rows: rows[-1])):
            pooled = read_pooled(model, texts, "resid.0", pool=pool, include_special=include_special)[
                "resid.0"
            ]
            for i, rows in tokens.items():
                np.testing.assert_allclose(pooled[i], of_tokens(rows), rtol=1e-4, atol=1e-5)
    cls = read_pooled(model, texts, "resid.0", pool="cls")["resid.0"]
    tokens = by_text(model, texts, "resid.0", include_special=True)
    np.testing.assert_allclose(cls, np.stack([tokens[i][0] for i in range(len(texts))]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_cls_needs_a_cls_token(tiny_model: Make, texts: list[str], family: str) -> None:
    with pytest.raises(ValueError, match=r"no \[CLS\]"):
        read_pooled(tiny_model(family), texts, "embed", pool="cls")


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
def test_text_without_tokens_is_a_row_of_zeros(tiny_model: Make, family: str) -> None:
    model = tiny_model(family)
    with pytest.warns(UserWarning, match="empty"):
        rows = read_pooled(model, ["", "a nurse", ""], "resid.1")["resid.1"]
    assert not rows[[0, 2]].any()
    np.testing.assert_allclose(
        rows[1], read_pooled(model, ["a nurse"], "resid.1")["resid.1"][0], rtol=1e-4, atol=1e-5
    )
    sites = ["embed", "module:" + ("h.0.mlp.c_fc" if family == "gpt2" else "embed_tokens")]
    if family != "bert":
        with pytest.warns(UserWarning, match="empty"):
            empty = read_pooled(model, [""], sites)
        assert [empty[site].shape for site in sites] == [(1, 16), (1, 64 if family == "gpt2" else 16)]


def test_mean_pooling_is_that_of_sentence_transformers(minilm_path: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    texts = ["She is a nurse in Lyon.", "He operates on hearts, and writes about it.", "Yes."]
    encoder = sentence_transformers.SentenceTransformer(str(minilm_path), device="cpu")
    expected = encoder.encode(texts, normalize_embeddings=True)
    rows = read_pooled(load_model("demo"), texts, "resid.5", include_special=True, max_length=256)["resid.5"]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(rows, expected, atol=1e-6)


def test_real_decoder_is_read(stories_path: Path) -> None:
    model = load_model(stories_path)
    rows = read_pooled(model, ["Once upon a time", "She was happy."], ["resid.4", "embed"], pool="last")
    assert {site: array.shape for site, array in rows.items()} == {"resid.4": (2, 64), "embed": (2, 64)}
    assert list(rows) == ["resid.4", "embed"], "sites come in the order asked for"


@each_family
def test_edits_made_before_are_seen(tiny_model: Make, texts: list[str], family: str) -> None:
    model = tiny_model(family)
    plain = read_pooled(model, texts, ["resid.0", "resid.1"])
    with resolve_site(model.module, "resid.0").attach(lambda x: 2 * x):
        edited = read_pooled(model, texts, ["resid.0", "resid.1"])
    np.testing.assert_allclose(edited["resid.0"], 2 * plain["resid.0"], rtol=1e-5)
    assert not np.allclose(edited["resid.1"], plain["resid.1"], rtol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@each_family
def test_gpu_gives_what_the_cpu_gives(tiny_model: Make, texts: list[str], family: str) -> None:
    model = tiny_model(family)
    expected = read_pooled(model, texts, ["embed", "resid.1"])
    model.module.cuda()
    for site, rows in read_pooled(model, texts, ["embed", "resid.1"]).items():
        np.testing.assert_allclose(rows, expected[site], rtol=1e-3, atol=1e-3)


def test_activations_can_be_trained_on(tiny_model: Make, texts: list[str]) -> None:
    (batch,) = read_tokens(tiny_model("bert"), texts, "resid.0")
    weights = nn.Linear(16, 2)
    weights(batch.activations["resid.0"]).sum().backward()
    assert weights.weight.grad is not None


def test_no_hook_stays_after_an_error_or_an_early_end(tiny_model: Make, texts: list[str]) -> None:
    model = tiny_model("bert")
    reading = read_tokens(model, texts, ["embed", "resid.2"], batch_tokens=12)
    next(reading)
    assert hooks(model.module) == 0, "none between batches"

    def broken(*arguments: object, **named: object) -> Tensor:
        raise RuntimeError("out of memory, say")

    model.module.encoder.layer[1].forward = broken
    with pytest.raises(RuntimeError, match="out of memory"):
        read_pooled(model, texts, ["embed", "resid.2"])
    assert hooks(model.module) == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_activations_name_site_and_text(tiny_model: Make, value: float) -> None:
    model = tiny_model("bert")
    word = model.tokenizer.convert_tokens_to_ids("surgeon")
    with torch.no_grad():
        model.module.embeddings.word_embeddings.weight[word] = value
    texts = ["a nurse", "a surgeon", "the surgeon", "care"]
    with pytest.raises(ValueError, match=r"resid\.1 are NaN .* 2 text\(s\), first at text index 1"):
        read_pooled(model, texts, "resid.1")
    with pytest.raises(ValueError, match=r"embed are NaN .* 2 text\(s\), first at text index 1"):
        list(read_tokens(model, texts, ["embed", "resid.1"]))
    assert hooks(model.module) == 0


def test_site_that_is_never_run_or_no_stream_is_named(tiny_model: Make, texts: list[str]) -> None:
    model = tiny_model("bert")
    with pytest.raises(ValueError, match=r"never runs module:encoder\.layer"):
        read_pooled(model, texts, "module:encoder.layer")
    with pytest.raises(ValueError, match="one vector a token"):
        read_pooled(model, texts, "module:pooler")
    with pytest.raises(ValueError, match="No site was given"):
        read_pooled(model, texts, [])


@pytest.mark.parametrize(
    ("texts", "error"), [("a nurse", TypeError), (["a", None], TypeError), ([], ValueError)]
)
def test_bad_texts_are_refused_before_anything_runs(tiny_model: Make, texts: list[str], error: type) -> None:
    model = tiny_model("bert")
    with pytest.raises(error):
        read_pooled(model, texts, "embed")
    with pytest.raises(error):
        read_tokens(model, texts, "embed")


def test_unknown_pool_is_refused(tiny_model: Make, texts: list[str]) -> None:
    with pytest.raises(ValueError, match="pool must be one of mean, last, cls"):
        read_pooled(tiny_model("bert"), texts, "embed", pool="max")  # type: ignore[arg-type]
