"""The module file: its steps against the edits that they stand for, and that it stands alone."""

from __future__ import annotations

import ast
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from export_models import D, affine, composed, latents, projection, small
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.modeling_outputs import BaseModelOutput

from ssae_debias.edit import Edit
from ssae_debias.edit.export import module_file, remote_code
from ssae_debias.edit.export.remote_code import SiteEdit


def site_edit(edit: Edit, side: str = "output") -> SiteEdit:
    """The code's edit with the arrays of ours."""
    steps = [module_file._step(part) for part in module_file._parts(edit)]
    made = SiteEdit({"site": "resid.0", "path": "", "side": side, "in_base_model": True, "steps": steps})
    base = SimpleNamespace(base_model_prefix="")
    base.base_model = base
    arrays = module_file.buffers(base, {"resid.0": edit})
    made.load_state_dict({name.removeprefix("activation_edits.0."): array for name, array in arrays.items()})
    return made


@settings(max_examples=40, deadline=None)
@given(
    mode=st.sampled_from(["zero", "mean", "clamp"]),
    normalization=st.sampled_from(["none", "constant_norm", "layer_norm"]),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    m=st.integers(0, 5),
    seed=st.integers(0, 9999),
)
def test_latents_are_edited_as_live(
    mode: str, normalization: str, dtype: torch.dtype, m: int, seed: int
) -> None:
    torch.manual_seed(seed)
    edit = latents(D, mode, m, normalization)
    x = torch.randn(2, 3, D, dtype=dtype)
    x[0, 0] = 0
    found = site_edit(edit)(x)
    assert found.dtype == dtype
    # the same operations; how a small product is summed depends on where its arrays lie in memory
    torch.testing.assert_close(found, edit(x))


@pytest.mark.parametrize("make", [projection, lambda: projection(strength=0.4), affine, composed])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_edits_are_the_same_too(make: Any, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    edit, x = make(), torch.randn(4, D).to(dtype)
    torch.testing.assert_close(site_edit(edit)(x), edit(x), atol=1e-6, rtol=1e-6)


class Named(NamedTuple):
    hidden: torch.Tensor
    weights: Any


def test_what_else_a_module_returns_or_is_given_is_kept() -> None:
    edit, x = projection(), torch.randn(2, D)
    made, new = site_edit(edit), edit(x)
    assert torch.equal(made.after(made, (), x), new)
    tuple_ = made.after(made, (), (x, "weights"))
    assert torch.equal(tuple_[0], new)
    assert tuple_[1] == "weights"
    list_ = made.after(made, (), [x, None])
    assert isinstance(list_, list)
    assert torch.equal(list_[0], new)
    named = made.after(made, (), Named(x, 3))
    assert isinstance(named, Named)
    assert torch.equal(named.hidden, new)
    output = made.after(made, (), BaseModelOutput(last_hidden_state=x, attentions=(x,)))
    assert torch.equal(output.last_hidden_state, new)
    assert output.attentions[0] is x
    before = site_edit(edit, "input")
    (first, second), kept = before.before(before, (x, "mask"), {"cache": 1})
    assert torch.equal(first, new)
    assert (second, kept) == ("mask", {"cache": 1})
    assert torch.equal(before.before(before, (), {"hidden_states": x})[1]["hidden_states"], new)


def test_a_hook_acts_before_or_after_its_module() -> None:
    edit, x, layer = projection(), torch.randn(2, D), torch.nn.Linear(D, D)
    with torch.no_grad():
        plain, edited_first = layer(x), layer(edit(x))
        for side, expected in (("output", edit(plain)), ("input", edited_first)):
            target = torch.nn.Linear(D, D)
            target.load_state_dict(layer.state_dict())
            made = site_edit(edit, side)
            made.attach(target)
            torch.testing.assert_close(target(x), expected)


def test_without_weights_the_code_changes_nothing() -> None:
    for edit in (latents(), projection(), affine()):
        made = SiteEdit({"side": "output", "steps": [module_file._step(edit)]})
        x = torch.randn(3, D)
        assert torch.equal(made(x), x)


def test_the_file_imports_torch_and_transformers_alone() -> None:
    model = small("gemma2").module
    source = module_file.module_source(model, module_file.auto_classes(model), ["embed", "resid.1"])
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add((node.module or "").split(".")[0])
    assert imported == {"__future__", "typing", "torch", "transformers"}
    assert source.startswith(remote_code.__doc__.join(['"""', '"""']))
    assert "edited at embed, resid.1" in source
    assert 'model_type = "edited-gemma2"' in source


def test_the_exported_head_comes_first_among_the_auto_classes() -> None:
    found = module_file.auto_classes(small("gpt2").module)
    assert next(iter(found.items())) == ("AutoModelForCausalLM", "GPT2LMHeadModel")
    assert found["AutoModel"] == "GPT2Model"
    assert (
        next(iter(module_file.auto_classes(small("roberta").module))) == "AutoModelForSequenceClassification"
    )
