"""The published recipe against directories laid out as the hub's data set, a Pythia and the released dictionaries.

The model is a GPT-NeoX with random weights, the dictionaries are random too: shown is that every file is read,
every site edited and every row scored, not what the rows say.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPTNeoXConfig, GPTNeoXModel, PreTrainedTokenizerFast

from ssae_debias.cli import main
from ssae_debias.data import PROFESSIONS, synthetic_biographies
from ssae_debias.recipe import read_recipe
from ssae_debias.recipe.bench import Bench
from ssae_debias.recipe.methods.shift import SHIFT

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "bias_in_bios.yaml"
D, F = 16, 32


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("datasets", reason='needs datasets: pip install "ssae-debias[hub]"')
    home = tmp_path_factory.mktemp("hub")
    task = synthetic_biographies(400, professions=("professor", "nurse"))
    (home / "bios" / "data").mkdir(parents=True)
    ids = np.array([PROFESSIONS.index(name) for name in task.label_names])
    frame = pd.DataFrame(
        {"hard_text": task.texts, "profession": ids[task.y], "gender": task.sensitive_features}
    )
    for split in ("train", "dev", "test"):
        part = frame[task.split == split]
        part.to_parquet(home / "bios" / "data" / f"{split}-00000-of-00001.parquet")
    _save_model(home / "pythia", task.texts)
    _save_dictionaries(home / "dictionaries")
    return home


def _save_model(path: Path, texts) -> None:
    split = pre_tokenizers.Whitespace()
    words = sorted({word for text in texts for word, _ in split.pre_tokenize_str(text)})
    backend = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(["<|endoftext|>", *words])}, "<|endoftext|>")
    )
    backend.pre_tokenizer = split
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<|endoftext|>", eos_token="<|endoftext|>"
    )
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=len(words) + 1,
        hidden_size=D,
        num_hidden_layers=6,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=130,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPTNeoXModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)


def _save_dictionaries(path: Path) -> None:
    """AutoEncoder files as released: embed/…, and attn_out, mlp_out, resid_out of layers 0 to 4."""
    names = ["embed", *(f"{kind}_out_layer{i}" for i in range(5) for kind in ("attn", "mlp", "resid"))]
    for seed, name in enumerate(names):
        torch.manual_seed(seed)
        decoder = torch.nn.functional.normalize(torch.randn(D, F), dim=0)
        folder = path / name / f"10_{F}"
        folder.mkdir(parents=True)
        torch.save(
            {
                "bias": torch.randn(D) * 0.1,
                "encoder.weight": decoder.T.contiguous() + 0.05 * torch.randn(F, D),
                "encoder.bias": torch.randn(F) * 0.1,
                "decoder.weight": decoder,
            },
            folder / "ae.pt",
        )


def overrides(hub: Path) -> list[str]:
    return [
        f"model={hub / 'pythia'}",
        f"data.path={hub / 'bios'}",
        f"shift.gsae={hub / 'dictionaries'}",
        "shift.ssae_tokens=4000",
        "shift.epochs=1",
        "shift.n_texts=16",
        "shift.steps=3",
        "shift.threshold=0.005",
        f"methods=[original, cbp, {', '.join(SHIFT)}]",
        "seeds=[42]",
    ]


@pytest.mark.slow
def test_the_published_recipe_runs_on_the_layouts_of_the_hub(hub: Path) -> None:
    sets = [part for override in overrides(hub) for part in ("--set", override)]
    assert main(["run", str(RECIPE), *sets, "--out", str(hub / "out"), "-q"]) == 0
    results = json.loads((hub / "out" / "results.json").read_text())
    assert [row["method"] for row in results["rows"]] == ["original", "cbp", *SHIFT]
    flagged = pd.read_csv(hub / "out" / "cache" / "shift" / "gsae.csv")
    assert (flagged["attribution"] > 0.005).all()
    assert flagged["site"].nunique() > 3


@pytest.mark.slow
def test_the_released_dictionaries_stand_at_their_sites_and_act_as_released(hub: Path) -> None:
    bench = Bench(read_recipe(RECIPE, overrides(hub)), hub / "out" / "cache")
    shift = bench.shift
    assert shift.sites == (
        "embed", *(f"{kind}.{i}" for i in range(5) for kind in ("attn", "mlp", "resid")),
    )  # fmt: skip
    x = torch.randn(9, D)
    for site, name in (("embed", "embed"), ("attn.0", "attn_out_layer0"), ("resid.4", "resid_out_layer4")):
        state = torch.load(hub / "dictionaries" / name / f"10_{F}" / "ae.pt", weights_only=True)
        code = torch.relu((x - state["bias"]) @ state["encoder.weight"].T + state["encoder.bias"])
        torch.testing.assert_close(shift.gsae[site].encode(x), code)
        torch.testing.assert_close(shift.gsae[site](x), code @ state["decoder.weight"].T + state["bias"])
        assert shift.ssae[site].d_sae == F
    assert {len(numbers) for numbers in shift._numbers("ssae_slice").values()} == {F // 8}
