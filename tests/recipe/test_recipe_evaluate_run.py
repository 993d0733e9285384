"""Evaluations whole: through the command line on a real language model and a real encoder, stopped and gone on with."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ssae_debias.cli import main
from ssae_debias.data import synthetic_corpus
from ssae_debias.latents.interpretability import lexicon_judge
from ssae_debias.recipe import EvaluateRecipe, Interpreter, read_recipe, run_evaluate
from ssae_debias.recipe.evaluate import run as running
from ssae_debias.recipe.evaluate.training import EvaluateBench, Variant
from ssae_debias.report.evaluation.content import TABLES
from ssae_debias.sae import SAEConfig, SparseAutoencoder, save_sae

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def small(**changes: object) -> EvaluateRecipe:
    """One seed, an SAE of a few seconds, on the embedded texts."""
    sections: dict[str, object] = {
        "kind": "evaluate",
        "title": "A small run",
        "site": "resid.1",
        "max_length": 32,
        "general": {"n_texts": 150, "n_test": 0},
        "subdomain": {"n_seeds": 10, "n_test": 140},
        "train": {
            "strategies": ["bm25"], "tilts": [0], "ks": [4], "d_sae": 64, "general_tokens": 3000, "tokens": 1000,
            "n_retrieved": 40,
        },
        "concepts": {"drawn": 4, "least": 8},
        "interpretability": {"n_latents": 4},
        "circuit": {"n_texts": 10, "variants": ["gsae"], "node_threshold": 1e-5, "edge_threshold": 1e-5},
        "seeds": [0],
        "n_resamples": 20,
    }  # fmt: skip
    return EvaluateRecipe.model_validate(sections | changes)


@pytest.mark.slow
def test_the_quick_form_on_a_language_model(
    stories_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    texts = tmp_path / "general.parquet"
    pd.DataFrame({"text": synthetic_corpus(700, random_state=3)}).to_parquet(texts)
    changes = {
        "model": str(stories_path), "train.strategies": "[general, bm25]", "circuit.variants": "[gsae, bm25]", "general.paths": f"[{texts}]", "general.n_texts": "450", "seeds": "[0]",
        "subdomain.pattern": "'hospital|clinic|patients|surgery|exam'", "subdomain.n_test": "40", "train.general_tokens": "20000", "train.d_sae": "128",
    }  # fmt: skip
    assert main([
        "run", str(RECIPES / "evaluate_stories.yaml"), "--quick", "--quiet", "--out", str(out),
        *[part for key, value in changes.items() for part in ("--set", f"{key}={value}")],
    ]) == 0  # fmt: skip
    results = json.loads((out / "results.json").read_text())
    tables = {name: pd.DataFrame(columns) for name, columns in results["tables"].items()}
    assert set(TABLES) - set(tables) <= {"umap"}  # an extra
    fidelity = tables["fidelity"]
    # 1 GSAE and 2 strategies with 2 tilts, at 2 sparsity levels, on the subdomain and on general text
    assert len(fidelity) == (1 + 2 * 2) * 2 * 2
    assert set(fidelity["objective"]) == {"causal"}
    assert set(fidelity["corpus"]) == {"subdomain", "general"}
    assert (fidelity["cross_entropy"] > fidelity["clean_cross_entropy"]).all()
    assert np.allclose(np.exp(fidelity["cross_entropy"]), fidelity["perplexity"])
    gsae = fidelity[fidelity["variant"] == "gsae"]
    assert np.allclose(gsae["relative_perplexity"].astype(float), 1.0)
    by_k = gsae[gsae["corpus"] == "subdomain"].set_index("k")
    assert by_k.loc[8, "l0"] > by_k.loc[4, "l0"]
    assert by_k.loc[8, "fvu"] < by_k.loc[4, "fvu"]
    # equal L0 wherever latents are compared
    assert np.ptp(tables["shape"]["l0"]) < 0.05 * tables["shape"]["l0"].mean()
    assert set(tables["recall"]["kind"]) == {"sae", "neurons", "random latents"}
    assert len(results["claims"]) > 5
    assert {claim["verdict"] for claim in results["claims"]} == {"unclear"}
    assert results["seconds"].keys() >= {"SAEs", "fidelity", "tail", "recall", "error", "circuit"}
    plots = {path.name for path in (out / "plots").iterdir()}
    assert {"pareto.svg", "pareto.png", "recall.svg", "rank_error.png"} <= plots
    page = (out / "report.html").read_text()
    assert "gsae" in page
    assert len(page) < 5_000_000
    assert not re.search(r'(src|href)="https?://', page)
    printed = capsys.readouterr().out
    assert "report.html" in printed
    assert "UNCLEAR" in printed


def test_an_encoder_is_measured_by_a_probe_and_a_stopped_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small(analyses=["tail", "error", "circuit"])
    with monkeypatch.context() as patched:

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        patched.setattr(running, "measure_error", stop)
        with pytest.raises(KeyboardInterrupt):
            run_evaluate(recipe, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(running, "measure_tail", stop)  # kept, so not asked again
        found = run_evaluate(recipe, tmp_path)
    assert {"tail", "coverage", "rank_error", "error_term"} <= set(found.tables)
    assert found.tables["error_term"]["r2"].between(-1, 1).all()
    assert found.circuits.keys() == {"gsae"}
    assert found.circuits["gsae"]["labels"] == ["nurse", "surgeon"]
    assert "leakage_error" in found.tables["error_term"]  # the made-up biographies tell gender
    again = run_evaluate(recipe, tmp_path / "elsewhere")
    pd.testing.assert_frame_equal(again.tables["tail"], found.tables["tail"])


def test_saved_saes_are_compared_without_training_any(tmp_path: Path) -> None:
    random = SparseAutoencoder(384, SAEConfig(d_sae=96, k=8), top_k=8, random_state=5)
    save_sae(random, tmp_path / "mine")
    recipe = small(
        train={"strategies": [], "ks": []},
        saes={"mine <b>": str(tmp_path / "mine")},
        analyses=["fidelity", "recall", "interpretability", "circuit"],
        seeds=[0],
    )
    explained = []

    def explainer(examples: object) -> str:
        explained.append(examples)
        return "a thing"

    def judge(explanation: str, shown: object, task: str) -> list[float]:
        return [1.0] * len(shown)  # type: ignore[arg-type]

    found = run_evaluate(recipe, tmp_path / "out", interpreter=Interpreter(explainer, judge))
    fidelity = found.tables["fidelity"]
    assert list(fidelity["variant"]) == ["mine <b>"]
    assert fidelity["k"].isna().all()
    assert fidelity["objective"].item() == "probe"
    assert fidelity["l0"].item() == pytest.approx(8)
    assert explained
    assert set(found.tables["interpretability"]["explanation"]) == {"a thing"}
    assert not found.circuits
    assert "nothing is trained" in found.notes[0]
    assert found.claims == []
    assert "mine <b>" not in found.report.read_text()
    assert "mine &lt;b&gt;" in found.report.read_text()


def test_a_specialised_sae_starts_from_its_gsae_and_the_control_from_other_tokens(tmp_path: Path) -> None:
    recipe = small(train={"strategies": ["general", "seeds"], "tilts": [0, 2], "ks": [4], "d_sae": 64,
                          "general_tokens": 3000, "tokens": 1000, "n_retrieved": 40})  # fmt: skip
    bench = EvaluateBench(recipe, tmp_path)
    assert [v.name for v in bench.variants()] == [
        "gsae",
        "general",
        "general, tilt 2",
        "seeds",
        "seeds, tilt 2",
    ]
    gsae, general, seeds = (bench.sae(Variant(name, 0.0, 4), 0) for name in ("gsae", "general", "seeds"))
    cosine = (gsae.W_dec * general.W_dec).sum(1).detach()
    assert float(cosine.min()) > 0.5
    assert float((gsae.W_dec - general.W_dec).detach().abs().max()) > 1e-3
    assert not np.allclose(general.W_dec.detach(), seeds.W_dec.detach())
    again = EvaluateBench(recipe, tmp_path).sae(Variant("seeds", 0.0, 4), 0)
    assert bool((again.W_dec == seeds.W_dec).all())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "no/such-model"}, "no/such-model"),
        ({"site": "resid.99"}, "resid.99"),
        (
            {
                "subdomain": {"pattern": "hospital|clinic", "n_seeds": 5, "n_test": 10},
                "general": {"n_texts": 400},
            },
            "no language head",
        ),
        ({"objective": "causal"}, "language head"),
    ],
)
def test_what_cannot_be_measured_is_told_before_anything_is_trained(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    with pytest.raises((ValueError, OSError), match=re.escape(said)):
        run_evaluate(small(**changes), tmp_path)
    assert not (tmp_path / "cache" / "saes").exists()


@pytest.mark.parametrize("name", ["evaluate", "evaluate_stories", "evaluate_bios"])
def test_the_recipes_that_come_with_it_are_valid(name: str) -> None:
    file = RECIPES / f"{name}.yaml"
    needs = [] if name != "evaluate_bios" else ["subdomain.path=x"]
    whole = read_recipe(file, needs)
    quick = read_recipe(file, needs, quick=True)
    assert isinstance(whole, EvaluateRecipe)
    assert isinstance(quick, EvaluateRecipe)
    assert len(whole.seeds) >= 3
    assert quick.train.general_tokens < whole.train.general_tokens
    assert Interpreter.named(whole.interpretability.explainer).judge is lexicon_judge
