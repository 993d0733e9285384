"""Exported folders, loaded as a stranger would load them, against the live edited model."""

from __future__ import annotations

import copy
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import transformers
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
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    pipeline,
)

from ssae_debias.activations import TextModel, load_model
from ssae_debias.edit import Edit, Projection, spliced
from ssae_debias.edit.export import export_model, exporting
from ssae_debias.edit.export.comparing import quiet
from ssae_debias.files import read_manifest

TEXTS = [
    "She is a nurse in Leeds, and her brother is a surgeon.",
    "Yes.",
    "He drove home; his ward was full.",
]


@pytest.fixture(scope="module", autouse=True)
def modules(tmp_path_factory) -> Iterator[None]:
    """transformers copies module files into a cache: into one of our own here."""
    with pytest.MonkeyPatch.context() as patch, quiet():
        cache = str(tmp_path_factory.mktemp("modules"))
        patch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", cache)
        yield
        while cache in sys.path:
            sys.path.remove(cache)


@pytest.fixture(scope="module")
def demo(minilm_path) -> TextModel:
    return load_model("demo")


@pytest.fixture(scope="module")
def classifier(demo: TextModel) -> TextModel:
    torch.manual_seed(0)
    with quiet():
        head = AutoModelForSequenceClassification.from_pretrained(demo.module.name_or_path, num_labels=3)
    torch.nn.init.normal_(head.classifier.weight)
    return TextModel(head.eval(), demo.tokenizer, "MiniLM")


@pytest.fixture(scope="module")
def stories(stories_path) -> TextModel:
    module = AutoModelForCausalLM.from_pretrained(stories_path).eval()
    return TextModel(module, load_model(stories_path).tokenizer, "stories260K")


def as_debiaser(d: int, last: str) -> dict[str, Edit]:
    torch.manual_seed(0)
    return {"embed": latents(d), "resid.0": latents(d, "clamp"), last: composed(d)}


def real(model: TextModel) -> dict[str, torch.Tensor]:
    inputs = dict(model.encode(TEXTS))
    del inputs["special_tokens_mask"]
    return inputs


@pytest.mark.parametrize(
    "kind", ["roberta", "distilbert", "gpt2", "gpt_neox", "llama", "qwen3", "gemma", "gemma2"]
)
def test_every_family_comes_back_with_its_head(kind: str, tmp_path: Path) -> None:
    model = small(kind)
    edits: dict[str, Edit] = {
        "embed": latents(mode="mean"),
        "attn.0": projection(),
        "mlp.1": affine(),
        "resid.1": latents(mode="clamp", normalization="layer_norm"),
        "resid.2": composed(),
    }
    done = export_model(model, edits, tmp_path / "edited")
    assert {**done.folded, **done.in_module}.keys() == edits.keys()
    assert {"resid.1", "resid.2"} <= done.in_module.keys()
    loaded = getattr(transformers, done.auto_class).from_pretrained(done.path, trust_remote_code=True)
    assert type(loaded).__name__ == f"Edited{type(model.module).__name__}"
    inputs = batch(model)
    expected = live_output(model, edits, inputs)
    assert gap(main_output(loaded, inputs), expected) < 2e-5
    assert gap(main_output(model.module, inputs), expected) > 1e-3
    base = AutoModel.from_pretrained(done.path, trust_remote_code=True)
    with spliced(model, edits):
        assert gap(main_output(base, inputs), main_output(model.module.base_model, inputs)) < 2e-5


def test_a_sentence_encoder_on_real_texts(demo: TextModel, tmp_path: Path) -> None:
    edits = as_debiaser(384, "resid.5") | {"mlp.1": projection(384)}
    done = export_model(demo, edits, tmp_path / "edited", examples=TEXTS)
    assert list(done.folded) == ["mlp.1"]
    assert done.max_difference is not None
    assert done.max_difference < 5e-5
    loaded = AutoModel.from_pretrained(done.path, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(done.path, trust_remote_code=True)
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt", return_token_type_ids=False)
    assert gap(main_output(loaded, inputs), live_output(demo, edits, real(demo))) < 1e-5
    assert {"README.md", "modeling_edited.py", "model.edited.safetensors", "tokenizer.json"} <= {
        file.name for file in done.path.iterdir()
    }
    assert read_manifest(done.path, "edited model")["in_module"].keys() == {"embed", "resid.0", "resid.5"}


def test_a_classifier_in_a_pipeline_resaved_and_without_its_head(
    classifier: TextModel, tmp_path: Path
) -> None:
    edits = as_debiaser(384, "resid.5")
    done = export_model(classifier, edits, tmp_path / "edited")
    expected = live_output(classifier, edits, real(classifier))
    run = pipeline("text-classification", model=str(done.path), trust_remote_code=True, device="cpu")
    scores = [[row[f"LABEL_{label}"] for label in range(3)] for row in
              ({item["label"]: item["score"] for item in found} for found in run(TEXTS, top_k=None))]  # fmt: skip
    torch.testing.assert_close(torch.tensor(scores), expected.softmax(-1), atol=1e-5, rtol=0)
    run.model.save_pretrained(tmp_path / "again")
    run.tokenizer.save_pretrained(tmp_path / "again")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "again", trust_remote_code=True)
    torch.testing.assert_close(main_output(again, real(classifier)), main_output(run.model, real(classifier)))
    assert (tmp_path / "again" / "model.safetensors").is_file()
    base = AutoModel.from_pretrained(done.path, trust_remote_code=True)
    with spliced(classifier, edits):
        live = main_output(classifier.module.base_model, real(classifier))
    torch.testing.assert_close(main_output(base, real(classifier)), live)


def test_without_trust_nothing_loads_the_unedited_model(demo: TextModel, tmp_path: Path) -> None:
    done = export_model(demo, {"resid.1": latents(384)}, tmp_path / "edited")
    for _ in range(2):
        for trust in (None, False):
            with pytest.raises(ValueError, match="trust_remote_code=True"):
                AutoModel.from_pretrained(done.path, trust_remote_code=trust)
        with pytest.raises(OSError, match=r"model\.safetensors"):
            transformers.BertModel.from_pretrained(done.path)
        # nor when the edited class is known to this process already
        AutoModel.from_pretrained(done.path, trust_remote_code=True)


@pytest.mark.slow
def test_nothing_of_ours_is_needed_to_run_it(
    classifier: TextModel, stories: TextModel, tmp_path: Path
) -> None:
    for name, model, edits in (
        ("code", classifier, as_debiaser(384, "resid.5")),
        ("folded", stories, {"embed": latents(64), "mlp.1": projection(64)}),
    ):
        export_model(model, edits, tmp_path / name)
        torch.save(
            {"inputs": real(model), "output": live_output(model, edits, real(model))}, tmp_path / f"{name}.pt"
        )
    script = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "ssae_debias":
            raise ImportError("nothing of ours is here")
sys.meta_path.insert(0, Absent())
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
for name, auto, trust in (("code", AutoModelForSequenceClassification, True), ("folded", AutoModelForCausalLM, False)):
    saved = torch.load(f"{sys.argv[1]}/{name}.pt")
    with torch.no_grad():
        found = auto.from_pretrained(f"{sys.argv[1]}/{name}", trust_remote_code=trust)(**saved["inputs"])[0]
    assert (found - saved["output"]).abs().max() < 1e-4, name
assert not any(module.startswith("ssae_debias") for module in sys.modules)
print("the same")
"""
    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": "", "HF_MODULES_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert ran.stdout.strip() == "the same", ran.stderr


def test_a_decoder_with_all_edits_in_its_weights_is_an_ordinary_model(
    stories: TextModel, tmp_path: Path
) -> None:
    edits: dict[str, Edit] = {"embed": latents(64, "mean"), "attn.0": affine(64), "mlp.3": projection(64)}
    done = export_model(stories, edits, tmp_path / "edited")
    assert not done.needs_trust_remote_code
    assert not (done.path / "modeling_edited.py").exists()
    loaded = AutoModelForCausalLM.from_pretrained(done.path)
    assert type(loaded) is transformers.LlamaForCausalLM
    assert loaded.lm_head.weight is not loaded.model.embed_tokens.weight
    assert torch.equal(loaded.lm_head.weight, stories.module.lm_head.weight)
    inputs = batch(stories)
    assert gap(main_output(loaded, inputs), live_output(stories, edits, inputs)) < 1e-5
    start = torch.tensor([[1, 403, 407, 261, 378]])
    with spliced(stories, edits):
        told = stories.module.generate(start, max_new_tokens=12, do_sample=False)
    assert torch.equal(loaded.generate(start, max_new_tokens=12, do_sample=False), told)


def test_generation_with_a_cache_when_the_edit_is_code(stories: TextModel, tmp_path: Path) -> None:
    edits: dict[str, Edit] = {"resid.1": latents(64), "resid.2": latents(64)}
    done = export_model(stories, edits, tmp_path / "edited")
    loaded = AutoModelForCausalLM.from_pretrained(done.path, trust_remote_code=True)
    start = torch.tensor([[1, 403, 407, 261, 378]])
    with spliced(stories, edits):
        told = stories.module.generate(start, max_new_tokens=12, do_sample=False)
    assert torch.equal(loaded.generate(start, max_new_tokens=12, do_sample=False), told)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_edits_stay_in_float32_in_a_half_precision_model(dtype: torch.dtype, tmp_path: Path) -> None:
    model = small("bert")
    edits: dict[str, Edit] = {"embed": latents(), "resid.1": composed()}
    done = export_model(model, edits, tmp_path / "edited")
    loaded = AutoModelForSequenceClassification.from_pretrained(
        done.path, trust_remote_code=True, dtype=dtype
    )
    cast = AutoModelForSequenceClassification.from_pretrained(done.path, trust_remote_code=True).to(dtype)
    inputs = batch(model)
    model.module.to(dtype)
    expected = live_output(model, edits, inputs)
    for found in (loaded, cast):
        assert found.dtype == dtype
        arrays = {tensor.dtype for name, tensor in found.state_dict().items() if "activation_edits" in name}
        assert arrays == {torch.float32}
        torch.testing.assert_close(main_output(found, inputs), expected)


def test_a_half_precision_model_is_exported_in_its_own_dtype(tmp_path: Path) -> None:
    model = small("llama")
    model.module.to(torch.bfloat16)
    edits: dict[str, Edit] = {"embed": projection(), "resid.0": projection()}
    done = export_model(model, edits, tmp_path / "edited")
    loaded = AutoModelForCausalLM.from_pretrained(done.path, trust_remote_code=True)
    assert loaded.dtype == torch.bfloat16
    inputs = batch(model)
    assert gap(main_output(loaded, inputs), live_output(model, edits, inputs)) < 0.05


def test_copies_and_pickles_are_edited_too(tmp_path: Path) -> None:
    model = small("bert")
    edits: dict[str, Edit] = {"resid.1": latents()}
    done = export_model(model, edits, tmp_path / "edited")
    loaded = AutoModelForSequenceClassification.from_pretrained(done.path, trust_remote_code=True)
    inputs = batch(model)
    expected = live_output(model, edits, inputs)
    twin = copy.deepcopy(loaded)
    for edit in loaded.base_model.activation_edits:
        edit.steps[0].decoder.zero_()  # a copy's hooks must be the copy's own
    assert gap(main_output(loaded, inputs), expected) > 1e-4
    torch.testing.assert_close(main_output(twin, inputs), expected)
    file = io.BytesIO()
    torch.save(twin, file)
    file.seek(0)
    torch.testing.assert_close(main_output(torch.load(file, weights_only=False), inputs), expected)


def test_hidden_states_and_training_work_as_in_the_live_model(tmp_path: Path) -> None:
    model = small("bert")
    edits: dict[str, Edit] = {"resid.1": latents(), "resid.2": projection()}
    done = export_model(model, edits, tmp_path / "edited")
    loaded = AutoModelForSequenceClassification.from_pretrained(done.path, trust_remote_code=True)
    inputs = batch(model)
    with spliced(model, edits), torch.no_grad():
        live = model.module(**inputs, output_hidden_states=True).hidden_states
    found = loaded(**inputs, output_hidden_states=True).hidden_states
    for a, b in zip(found, live, strict=True):
        torch.testing.assert_close(a, b)
    loaded.train()(**inputs, labels=torch.zeros(5, dtype=torch.long)).loss.backward()
    assert all(not name.startswith("bert.activation_edits") for name, _ in loaded.named_parameters())
    assert loaded.bert.embeddings.word_embeddings.weight.grad is not None


def test_the_live_model_is_left_as_it_was(tmp_path: Path) -> None:
    model = small("llama")
    before, config = model.fingerprint, copy.deepcopy(model.module.config.to_dict())
    export_model(model, {"embed": latents(), "resid.0": latents()}, tmp_path / "edited")
    assert model.fingerprint == before
    assert model.module.config.to_dict() == config
    assert not any(part._forward_hooks for part in model.module.modules())


def test_an_edit_in_the_head_is_exported_with_the_head_alone(tmp_path: Path) -> None:
    model = small("roberta")
    edits: dict[str, Edit] = {"module:classifier.dense": latents(), "resid.0": latents()}
    done = export_model(model, edits, tmp_path / "edited")
    loaded = AutoModelForSequenceClassification.from_pretrained(done.path, trust_remote_code=True)
    inputs = batch(model)
    torch.testing.assert_close(main_output(loaded, inputs), live_output(model, edits, inputs))
    assert json.loads((done.path / "config.json").read_text())["auto_map"].keys() == {
        "AutoConfig",
        "AutoModelForSequenceClassification",
    }


def test_a_base_model_is_fine_tuned_with_a_new_head(demo: TextModel, tmp_path: Path) -> None:
    edits: dict[str, Edit] = {"resid.1": latents(384)}
    done = export_model(demo, edits, tmp_path / "edited", examples=())
    assert done.max_difference is None
    loaded = AutoModelForSequenceClassification.from_pretrained(
        done.path, trust_remote_code=True, num_labels=4
    )
    assert main_output(loaded, real(demo)).shape == (3, 4)
    torch.testing.assert_close(main_output(loaded.bert, real(demo)), live_output(demo, edits, real(demo)))


def test_without_edits_it_is_the_model_itself(tmp_path: Path) -> None:
    model = small("gpt_neox")
    done = export_model(model, {}, tmp_path / "edited")
    loaded = AutoModelForCausalLM.from_pretrained(done.path)
    inputs = batch(model)
    torch.testing.assert_close(main_output(loaded, inputs), main_output(model.module, inputs))
    assert "Nothing: this is the unedited model." in (done.path / "README.md").read_text()


def test_what_is_written_depends_on_nothing_but_the_input(tmp_path: Path) -> None:
    model, edits = small("bert"), {"embed": latents(), "mlp.0": affine()}
    one, two = (export_model(model, edits, tmp_path / name).path for name in ("one", "two"))
    assert json.loads((one / "manifest.json").read_text()) == json.loads((two / "manifest.json").read_text())
    assert not list(one.glob("**/__pycache__"))
    assert {file.stat().st_mode for file in one.iterdir()} == {(one / "README.md").stat().st_mode}


def test_the_tokenizer_is_saved_as_it_was_before_its_last_call(tmp_path: Path) -> None:
    model = small("bert")
    model.tokenizer(["a", "b c"], truncation=True, max_length=1, padding=True)
    done = export_model(model, {"embed": latents()}, tmp_path / "edited")
    saved = json.loads((done.path / "tokenizer.json").read_text())
    assert saved["truncation"] is None
    assert saved["padding"] is None


def test_large_weights_are_split(tmp_path: Path) -> None:
    model, edits = small("bert"), {"embed": latents()}
    done = export_model(model, edits, tmp_path / "edited", max_shard_size="30KB")
    assert len(list(done.path.glob("model.edited-*.safetensors"))) > 1
    loaded = AutoModelForSequenceClassification.from_pretrained(done.path, trust_remote_code=True)
    inputs = batch(model)
    torch.testing.assert_close(main_output(loaded, inputs), live_output(model, edits, inputs))


def test_an_earlier_export_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    model = small("bert")
    done = export_model(model, {"embed": latents()}, tmp_path / "edited")
    export_model(model, {"mlp.0": affine()}, tmp_path / "edited")
    assert not (done.path / "modeling_edited.py").exists()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("irreplaceable")
    with pytest.raises(FileExistsError, match=r"thesis exists and is no saved edited model"):
        export_model(model, {}, tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "irreplaceable"


def test_an_export_that_computes_something_else_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small("bert")
    monkeypatch.setattr(exporting, "buffers", lambda *_: {})
    with pytest.raises(RuntimeError, match=r"differs from the live edited one by .* nothing was written"):
        export_model(model, {"embed": latents()}, tmp_path / "edited")
    assert list(tmp_path.iterdir()) == []


class Shift:
    kind = "shift"

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1

    def to(self, device: object) -> Shift:
        return self

    def tensors(self) -> dict[str, torch.Tensor]:
        return {}

    def settings(self) -> dict[str, object]:
        return {}


def test_what_cannot_be_exported_is_told(tmp_path: Path) -> None:
    model = small("bert")
    with pytest.raises(ValueError, match="kind 'shift' cannot be exported; those that can: latents"):
        export_model(model, {"resid.0": Shift()}, tmp_path / "edited")

    class Mine(transformers.BertModel):
        pass

    with pytest.raises(ValueError, match="Mine cannot be exported: it is not a class of transformers"):
        export_model(TextModel(Mine(model.module.config), model.tokenizer, "mine"), {}, tmp_path / "edited")
    with pytest.raises(ValueError, match="Only a transformers model can be exported, got Linear"):
        export_model(TextModel(torch.nn.Linear(2, 2), model.tokenizer, "linear"), {}, tmp_path / "edited")
    with pytest.raises(ValueError, match=r"no site 'resid.9'"):
        export_model(model, {"resid.9": Projection.onto_complement_of(torch.eye(D)[:1], center=torch.zeros(D))},
                     tmp_path / "edited")  # fmt: skip
    assert list(tmp_path.iterdir()) == []
