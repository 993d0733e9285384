"""Did the method find carriers beyond its word list? First names are the check; they are never an input.

Each name stands in the same sentence, "NAME works at the hospital." Names of one gender only count. Reported:
how well the direction that the erasure reads tells men's names from women's (area under the ROC curve; .5 is
chance), how many names fire a flagged latent, beside as many other words of the task's texts, and how well probes
read a name's gender before and after the edit (balanced accuracy, five folds; chance .5).

    python benchmarks/carriers.py --data bios.parquet --names first_names.parquet --out carriers.json
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from ssae_debias.activations import read_tokens
from ssae_debias.estimators import SSAEDebiaser
from ssae_debias.files import write_json
from ssae_debias.latents import pool_latents
from ssae_debias.metrics import leakage
from ssae_debias.recipe import read_recipe
from ssae_debias.recipe.bench import Bench

SENTENCE = "{} works at the hospital."


def names_of(path: str) -> tuple[list[str], np.ndarray]:
    """Names that are given to one gender only, and whether that is women's."""
    table = pd.read_parquet(path)
    table["female"] = table["gender"].str.lower().str[0] == "f"
    table = table.groupby("name")["female"].agg(["mean", "size"])
    table = table[table["mean"].isin([0.0, 1.0])]
    return [name.capitalize() for name in table.index], table["mean"].to_numpy() == 1.0


def other_words(texts: list[str], names: list[str], n: int) -> list[str]:
    """The most frequent capitalised words of the task that are no first name."""
    known = {name.lower() for name in names}
    words = Counter(word for text in texts for word in text.split() if word.isalpha() and word.istitle())
    return [word for word, _ in words.most_common() if word.lower() not in known][:n]


def share_that_fires(debiaser: SSAEDebiaser, words: list[str]) -> float:
    """Share of words whose sentence fires some flagged latent that the sentence without a name does not."""
    table = debiaser.flagged_[debiaser.flagged_.decision == "ablate"]
    fired = np.zeros(len(words), dtype=bool)
    texts = [SENTENCE.format(word) for word in [*words, "Somebody"]]
    tokens = read_tokens(debiaser.model_, texts, debiaser.sites_, include_special=False)
    pooled = pool_latents(tokens, debiaser.saes_, len(texts))
    for site, rows in table.groupby("site"):
        active = pooled[site].pooled[:, rows["latent"].to_numpy()] > 0
        fired |= (active[:-1] & ~active[-1]).any(axis=1)
    return float(fired.mean())


def read_by_probes(rows: np.ndarray, female: np.ndarray) -> dict[str, float]:
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    found: dict[str, list[float]] = {"linear": [], "mlp": []}
    for train, test in folds.split(rows, female):
        for probe, values in found.items():
            values.append(
                leakage(rows[train], female[train], rows[test], female[test], probe=probe, random_state=0)
            )
    return {probe: float(np.mean(values)) for probe, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--names", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", default="recipes/bias_in_bios_local.yaml")
    parser.add_argument("--home", type=Path, default=Path("runs/bias_in_bios_local/cache"))
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*stand in more than one split.*")
    recipe = read_recipe(options.recipe, [f"data.path={options.data}", "methods=[original]"])
    bench = Bench(recipe, options.home)
    debiaser = bench.debiaser(recipe.seeds[0])
    names, female = names_of(options.names)
    texts = [SENTENCE.format(name) for name in names]
    before, after = debiaser.transform_unedited(texts), debiaser.transform(texts)
    direction = debiaser.residue_["erasure"].tensors()["read"].numpy()[:, 0]
    rows = bench.task.rows(*recipe.protocol.train_splits)
    # which end of the direction is women's is told by the training texts' words, not by the names
    direction *= np.sign(np.corrcoef(bench.original[rows] @ direction, bench.side[rows])[0, 1])
    read = before @ direction
    train = [bench.task.texts[row] for row in rows]
    common = set(" ".join(train).lower().replace(",", " ").split())
    seen = np.array([name.lower() in common for name in names])
    facts = {
        "names": len(names),
        "of women": int(female.sum()),
        "in the training texts": int(seen.sum()),
        "auc of the erased direction": float(roc_auc_score(female, read)),
        "auc, names not in the training texts": float(roc_auc_score(female[~seen], read[~seen])),
        "fire a flagged latent": {
            "men's names": share_that_fires(
                debiaser, [n for n, f in zip(names, female, strict=True) if not f]
            ),
            "women's names": share_that_fires(debiaser, [n for n, f in zip(names, female, strict=True) if f]),
            "other words": share_that_fires(debiaser, other_words(train, names, 2000)),
        },
        "gender of a name is read": {
            "before": read_by_probes(before, female),
            "after": read_by_probes(after, female),
        },
    }
    write_json(options.out, facts)
    for key, value in facts.items():
        print(f"{key}: {value}")


if __name__ == "__main__":
    main()
