"""Where the attribute hides: how well it is read from each part of the activations of the unedited model, by site.

    x = reconstruction + error            what the SAE explains, and what it does not
    x = flagged part + the rest           what the flagged latents write, and all else

Each part is pooled as the probe reads it; leakage probes, linear and MLP, are trained on balanced training texts and
tested on balanced evaluation texts (chance .5). "Rest, erased" is the rest after LEACE within the classes of y, by
the side of the words.

    python benchmarks/error_term.py --data bios.parquet --out error_term.json
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import torch

from ssae_debias.estimators.residue import erasure
from ssae_debias.files import write_json
from ssae_debias.metrics import seeds_interval
from ssae_debias.metrics.pooled_parts import leakage_of_parts, pooled_parts
from ssae_debias.recipe import read_recipe
from ssae_debias.recipe.bench import Bench

SITES = ("embed", "resid.0", "resid.1", "resid.2", "resid.3")


def parts_of(bench: Bench, seed: int, rows: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Pooled parts of the activations of some texts, by site."""
    debiaser = bench.debiaser(seed)
    table = debiaser.flagged_[debiaser.flagged_.decision == "ablate"]
    return pooled_parts(
        bench.model,
        debiaser.saes_,
        [bench.task.texts[row] for row in rows],
        flagged={site: table.loc[table.site == site, "latent"].to_numpy() for site in debiaser.saes_},
        include_special=bench.recipe.protocol.include_special,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", default="recipes/bias_in_bios_local.yaml")
    parser.add_argument("--home", type=Path, default=Path("runs/error_term"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*stand in more than one split.*")
    recipe = read_recipe(
        options.recipe,
        [
            f"data.path={options.data}",
            "methods=[original]",
            f"ssae.sites=[{', '.join(SITES)}]",
            "ssae.realign=false",
        ],
    )
    bench = Bench(recipe, options.home)
    task, scores = bench.task, {}
    learn = parts_of(bench, 0, bench.sets(options.seeds[0]).train)
    for seed in options.seeds:
        sets = bench.sets(seed)
        train = parts_of(bench, 0, sets.balanced)
        test = parts_of(bench, 0, sets.balanced_evaluation)
        side = bench.side[sets.train]
        a_train, a_test = (
            task.sensitive_features[rows] for rows in (sets.balanced, sets.balanced_evaluation)
        )
        for site in SITES:
            erase = erasure(learn[site]["rest"], task.y[sets.train], side, side != 0)
            pairs = {part: (train[site][part], test[site][part]) for part in train[site]}
            if erase is not None:
                pairs["rest, erased"] = tuple(erase(torch.from_numpy(rows)).numpy() for rows in pairs["rest"])
            read = leakage_of_parts(
                {part: x for part, (x, _) in pairs.items()},
                a_train,
                {part: x for part, (_, x) in pairs.items()},
                a_test,
                random_state=seed,
            )
            for part, values in read.items():
                for probe, value in values.items():
                    scores.setdefault(site, {}).setdefault(part, {}).setdefault(probe, []).append(value)
        print(f"seed {seed}", flush=True)
    rows = {
        site: {
            part: {
                probe: seeds_interval(values)._asdict() | {"seeds": values} for probe, values in found.items()
            }
            for part, found in parts.items()
        }
        for site, parts in scores.items()
    }
    write_json(options.out, {"seeds": options.seeds, "n_balanced_evaluation": len(a_test), "sites": rows})
    for site, parts in rows.items():
        for part, found in parts.items():
            print(
                f"{site:8s} {part:16s} linear {found['linear']['mean']:.3f}  mlp {found['mlp']['mean']:.3f}"
            )


if __name__ == "__main__":
    main()
