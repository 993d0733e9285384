"""How far an exported model's outputs lie from the live edited model's: one row an architecture and edit.

    python benchmarks/export_equality.py [--texts 16]

Real weights where they are at hand (MiniLM of the `demo` extra, ../shared/models/stories260K), else small random
ones. Each export is written, loaded again as anyone would load it, and run on padded batches of random tokens.
The last column is how far the edit itself moves the same outputs: a difference means something beside it alone.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from ssae_debias.activations import TextModel, load_model
from ssae_debias.edit import Affine, Composed, Edit, LatentEdit, Projection, spliced
from ssae_debias.edit.export import export_model
from ssae_debias.edit.export.comparing import max_difference, outputs, quiet

STORIES = Path(__file__).resolve().parents[2] / "shared" / "models" / "stories260K"
SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 120}


def latents(d: int, mode: Any = "zero", m: int = 12) -> LatentEdit:
    value = None if mode == "zero" else torch.rand(m)
    encoder = torch.nn.functional.normalize(torch.randn(d, m), dim=0)
    return LatentEdit(encoder, torch.zeros(m), torch.full((m,), 0.05), encoder.T.clone(), mode, value)


def projection(d: int, r: int = 3) -> Projection:
    return Projection.onto_complement_of(torch.randn(r, d), center=0.1 * torch.randn(d))


def affine(d: int) -> Affine:
    return Affine(0.3 * torch.randn(d, d) / d**0.5, torch.randn(d), 0.1 * torch.randn(d))


def models() -> Iterator[tuple[str, TextModel]]:
    demo = load_model("demo")
    yield "MiniLM", demo
    with quiet():
        head = transformers.AutoModelForSequenceClassification.from_pretrained(
            demo.module.name_or_path, num_labels=3
        )
    yield "MiniLM + classifier", TextModel(head.eval(), demo.tokenizer, "MiniLM")
    if STORIES.is_dir():
        story = transformers.AutoModelForCausalLM.from_pretrained(STORIES).eval()
        yield "stories260K (Llama)", TextModel(story, load_model(STORIES).tokenizer, "stories260K")
    wide = {**SMALL, "intermediate_size": 64}
    grouped = {**wide, "num_key_value_heads": 2, "head_dim": 8}
    made: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("RobertaForSequenceClassification", "RobertaConfig", {**wide, "max_position_embeddings": 64}),
        ("DistilBertForSequenceClassification", "DistilBertConfig",
         {"dim": 32, "hidden_dim": 64, "n_layers": 3, "n_heads": 4, "vocab_size": 120}),
        ("GPT2LMHeadModel", "GPT2Config", {"n_embd": 32, "n_layer": 3, "n_head": 4, "vocab_size": 120}),
        ("GPTNeoXForCausalLM", "GPTNeoXConfig", wide),
        ("Gemma2ForCausalLM", "Gemma2Config", grouped),
        ("Qwen2ForCausalLM", "Qwen2Config", {**wide, "num_key_value_heads": 2}),
    )  # fmt: skip
    for name, config, values in made:
        config = getattr(transformers, config)(**values, pad_token_id=0, bos_token_id=1, eos_token_id=2)
        yield name, TextModel(getattr(transformers, name)(config).eval(), demo.tokenizer, name)


def edits_of(model: TextModel) -> Iterator[tuple[str, dict[str, Edit]]]:
    d = model.d_model
    last = [site for site in model.sites if site.startswith("resid.")][-1]
    same = projection(d)
    yield "latents: zero", {"embed": latents(d), "resid.0": latents(d)}
    yield "latents: mean, clamp", {"embed": latents(d, "mean"), "resid.1": latents(d, "clamp")}
    yield "projection", {"attn.0": projection(d), "mlp.1": projection(d)}
    yield "affine", {"mlp.0": affine(d)}
    yield "one projection in the stream", {"embed": same, "resid.0": same, "resid.1": same}
    yield (
        "as SSAEDebiaser: latents, then residue",
        {
            "embed": latents(d),
            "resid.0": latents(d),
            last: Composed((latents(d), affine(d), projection(d))),
        },
    )


def measured(model: TextModel, edits: Mapping[str, Edit], batch: dict[str, Any]) -> tuple[str, float, float]:
    with tempfile.TemporaryDirectory() as folder, quiet(), torch.no_grad():
        clean = outputs(model.module(**batch))
        with spliced(model, edits):
            live = outputs(model.module(**batch))
        done = export_model(model, edits, Path(folder) / "edited", examples=())
        loader = getattr(transformers, done.auto_class)
        loaded = loader.from_pretrained(done.path, trust_remote_code=done.needs_trust_remote_code).eval()
        found = outputs(loaded(**batch))
    how = (
        " ".join(f"{site}→weights" for site in done.folded)
        + " "
        + " ".join(f"{site}→code" for site in done.in_module)
    )
    return how.strip(), max_difference(live, found), max_difference(clean, live)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--texts", type=int, default=16)
    n = parser.parse_args().texts
    torch.manual_seed(0)
    print("| model | edit | where | max difference | the edit moves |\n| --- | --- | --- | --- | --- |")
    for name, model in models():
        # ids from 3 on: padding and special tokens stay where they belong
        ids = torch.randint(3, model.module.config.vocab_size, (n, 24))
        mask = (torch.arange(24) < torch.randint(4, 25, (n, 1))).long()
        mask[0] = 1
        for edit, edits in edits_of(model):
            how, difference, moved = measured(model, edits, {"input_ids": ids, "attention_mask": mask})
            print(f"| {name} | {edit} | {how} | {difference:.1e} | {moved:.1e} |", flush=True)


if __name__ == "__main__":
    main()
