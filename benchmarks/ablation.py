"""What each part of the recipe brings: one row a variant, each differing from the base in what it names.

The task is a part of a local recipe's, at most 250 texts of each group of each split, so that a row takes a minute or
two on two cores. Every variant is fitted and scored as in `ssae-debias run`,
with the SAEs' latents alone and with realignment and erasure after them; nothing here was used to choose a
setting. General SAEs are trained on `--corpus`, and retrieval is from it.

    python benchmarks/ablation.py --data bios.parquet --corpus wikipedia_leads.parquet --out ablation.json

With `--validation-folds 5` each seed holds out a fold of the training texts and is judged on it, and the evaluation
texts are not read: so settings are chosen. On all texts, as the choices of docs/why_it_works.md:

    python benchmarks/ablation.py --data bios.parquet --corpus wikipedia_leads.parquet --out validation.json \
        --validation-folds 5 --seeds 0 1 2 3 4 --max-per-group 100000 --tokens 300000 \
        --only base "embed alone" "resid.3 too" "flag:"
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ssae_debias.activations import ActivationStore
from ssae_debias.files import write_json
from ssae_debias.latents.slicing import activation_mass, largest, slice_latents
from ssae_debias.recipe import METHODS, Recipe, read_recipe
from ssae_debias.recipe.bench import Bench
from ssae_debias.recipe.results import score
from ssae_debias.retrieval import as_corpus, sample_documents
from ssae_debias.sae import SAEConfig, SparseAutoencoder, reconstruction_metrics, train_sae

ROWS = ("latents_only", "latents_only_retrain", "debiaser", "debiaser_retrain")


def variants(home: Path, corpus: str) -> dict[str, dict[str, Any]]:
    """Settings of `ssae` in which each variant differs from the base."""
    gsae = str(home / "gsae")
    fine = {"sae": gsae}
    retrieved = {**fine, "corpus": corpus, "n_retrieved": 500}
    return {
        "base: SSAE from scratch on the task's texts, tilt 0.3": {},
        "GSAE (general text, no tilt)": {"sae": gsae, "train_tokens": 0},
        "SSAE fine-tuned from the GSAE": fine,
        "SSAE fine-tuned, + 500 by BM25": {**retrieved, "retriever": "bm25"},
        "SSAE fine-tuned, + 500 dense": {**retrieved, "retriever": "dense"},
        "SSAE fine-tuned, + 500 dense + TracIn": {**retrieved, "retriever": "dense+tracin"},
        "GSAE, 1/8-width slice": {"sae": str(home / "gsae_slice"), "train_tokens": 0},
        "SSAE, 1/8-width slice": {"sae": str(home / "ssae_slice"), "train_tokens": 0},
        "tilt 0 (ERM)": {"tilt": 0.0},
        "tilt 500, raw": {"tilt": 500.0, "tilt_scale": "raw"},
        "tilt 1e9, raw": {"tilt": 1e9, "tilt_scale": "raw"},
        "width 512": {"d_sae": 512},
        "width 4096": {"d_sae": 4096},
        "L0 8": {"k": 8},
        "L0 128": {"k": 128},
        "embed alone": {"sites": ("embed",)},
        "resid.3 alone": {"sites": ("resid.3",)},
        "resid.3 too": {"sites": ("embed", "resid.0", "resid.1", "resid.3")},
        "embed, resid.0 to resid.3": {"sites": ("embed", "resid.0", "resid.1", "resid.2", "resid.3")},
        "flag: effect >= 0.5": {"min_effect": 0.5},
        "flag: response or association, either >= 0.5": {"flag": "both", "min_effect": 0.5},
        "flag: within-class association of the words' side": {"flag": "association"},
        "edit: mean": {"edit": "mean"},
        "edit: clamp": {"edit": "clamp"},
        "edit: project": {"edit": "project"},
    }


def bench_of(recipe: Recipe, settings: dict[str, Any], home: Path) -> Bench:
    return Bench(recipe.model_copy(update={"ssae": recipe.ssae.model_copy(update=settings)}), home)


def general_saes(bench: Bench, corpus: str, home: Path, tokens: int) -> None:
    """Train the GSAEs of every site of the base, on documents drawn from the corpus."""
    sites = list(bench.recipe.ssae.sites)
    drawn = sample_documents(as_corpus(corpus), 1500, random_state=0)
    texts = list(drawn.texts if hasattr(drawn, "texts") else drawn)
    store = ActivationStore.build(home / "general", bench.model, texts, sites, include_special=True)
    config = SAEConfig(d_sae=2048, k=32, architecture="batchtopk", n_tokens=2 * tokens)
    for site in sites:
        sae = train_sae(store.at(site), config, checkpoint_dir=home / "saes", random_state=0)
        sae.cpu().save_pretrained(home / "gsae" / site)


def slices(bench: Bench, home: Path, tokens: int) -> None:
    """An eighth of the latents of GSAE and SSAE, those of most activation on the task's training texts."""
    sites = list(bench.recipe.ssae.sites)
    texts = [bench.task.texts[row] for row in bench.task.rows(*bench.recipe.protocol.train_splits)]
    store = ActivationStore.build(home / "activations", bench.model, texts, sites, include_special=True)
    config = SAEConfig(d_sae=2048, k=32, architecture="batchtopk", tilt=0.3, n_tokens=tokens)
    for site in sites:
        general = SparseAutoencoder.from_pretrained(home / "gsae" / site)
        special = train_sae(
            store.at(site), config, init=general, checkpoint_dir=home / "saes", random_state=0
        ).cpu()
        for name, sae in (("gsae", general), ("ssae", special)):
            mass = activation_mass(store.token_batches(), {site: sae})[site]
            slice_latents(sae, largest(mass, 1 / 8)).save_pretrained(home / f"{name}_slice" / site)


def fidelity(bench: Bench, seed: int) -> dict[str, float]:
    """Means over the variant's SAEs, on 300 of the task's training texts."""
    debiaser = bench.debiaser(seed)
    texts = [bench.task.texts[row] for row in bench.task.rows(*bench.recipe.protocol.train_splits)][:300]
    store = ActivationStore.build(
        bench.home / "fidelity", bench.model, texts, debiaser.sites_, include_special=True
    )
    found = [reconstruction_metrics(sae, store.read(site)) for site, sae in debiaser.saes_.items()]
    return {key: float(np.mean([f[key] for f in found])) for key in ("fvu", "l0", "dead_fraction")}


def measure(bench: Bench, seeds: list[int], rows: tuple[str, ...] = ROWS) -> dict[str, Any]:
    start, scores = time.perf_counter(), []
    facts: list[dict[str, float]] = []
    for seed in seeds:
        here = bench.for_seed(seed)
        sets = here.sets(seed)
        found = {name: score(here, sets, METHODS[name].run(here, seed), seed) for name in rows}
        scores.append(found)
        flagged = here.debiaser(seed).flagged_
        facts.append({**fidelity(here, seed), "flagged": float((flagged.decision == "ablate").sum())})
    row: dict[str, Any] = {key: float(np.mean([fact[key] for fact in facts])) for key in facts[0]}
    for name in rows:
        values = [found[name].worst_group_accuracy for found in scores]
        row[name] = {"mean": float(np.mean(values)), "seeds": values}
        row[f"{name} leakage"] = {
            probe: float(np.mean([found[name].leakage[probe] for found in scores]))
            for probe in ("linear", "mlp")
        }
    return {**row, "seconds": round(time.perf_counter() - start, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", default="recipes/bias_in_bios_local.yaml")
    parser.add_argument("--home", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="*", help="parts of variants' names")
    parser.add_argument("--max-per-group", type=int, default=250)
    parser.add_argument("--tokens", type=int, default=120_000, help="tokens that each SAE is trained on")
    parser.add_argument("--validation-folds", type=int, help="judge on folds of the training texts")
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*stand in more than one split.*")
    recipe = read_recipe(
        options.recipe,
        [
            f"data.path={options.data}",
            "methods=[original]",
            f"data.max_per_group={options.max_per_group}",
            f"ssae.train_tokens={options.tokens}",
            f"dtype={options.dtype}",
            f"protocol.validation_folds={json.dumps(options.validation_folds)}",
        ],
    )
    base = bench_of(recipe, {}, options.home)
    task = base.task
    print(task.cell_counts().to_string(), flush=True)
    rows = json.loads(options.out.read_text())["rows"] if options.out.exists() else {}
    chosen = {
        name: settings
        for name, settings in variants(options.home, options.corpus).items()
        if name not in rows and (not options.only or any(part in name for part in options.only))
    }
    if any("sae" in settings for settings in chosen.values()):
        general_saes(base, options.corpus, options.home, options.tokens)
        slices(base, options.home, options.tokens)
    for name, settings in chosen.items():
        rows[name] = measure(bench_of(recipe, settings, options.home), options.seeds)
        facts = {"seeds": options.seeds, "texts": len(task), "tokens": options.tokens, "rows": rows}
        write_json(options.out, facts)
        print(name, {key: rows[name][key] for key in ("fvu", "l0", "flagged", "seconds")}, end=" ")
        print({row: round(rows[name][row]["mean"], 3) for row in ROWS}, flush=True)
    print(pd.DataFrame({n: {r: v[r]["mean"] for r in ROWS} for n, v in rows.items()}).T.round(3).to_string())


if __name__ == "__main__":
    main()
