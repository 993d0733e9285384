"""`ssae-debias run RECIPE`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("recipe", type=Path, help="a YAML file, such as recipes/bias_in_bios_demo.yaml")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="replace a value, with dots for sections: --set ssae.tilt=0 --set 'seeds=[0, 1]'",
    )
    parser.add_argument("--out", type=Path, help="where results go (default: runs/ and the recipe's name)")
    parser.add_argument(
        "--decisions",
        type=Path,
        metavar="FILE",
        help="a person's decisions on latents: decisions.json of a report page or of ssae-debias review",
    )
    parser.add_argument("--quick", action="store_true", help="the recipe's own smaller form")
    parser.add_argument("-v", "--verbose", action="count", default=1, help="progress of each step too")
    parser.add_argument("-q", "--quiet", dest="verbose", action="store_const", const=0, help="only the table")


def command(options: argparse.Namespace) -> int:
    """Run the recipe and print its table."""
    # imported here, so that --help and a mistyped option answer at once
    from ssae_debias.recipe import (
        EvaluateRecipe,
        Recipe,
        ScrRecipe,
        read_recipe,
        run_evaluate,
        run_recipe,
        run_scr,
    )

    recipe = read_recipe(options.recipe, options.overrides, quick=options.quick)
    out = options.out if options.out is not None else Path("runs") / options.recipe.stem
    say = print if options.verbose else (lambda _: None)
    if options.decisions is not None and not isinstance(recipe, Recipe):
        raise ValueError(
            f"--decisions is for recipes with the debiaser; kind: {recipe.kind} flags no latents."
        )
    if isinstance(recipe, EvaluateRecipe):
        print(run_evaluate(recipe, out, verbose=options.verbose, say=say))
    elif isinstance(recipe, ScrRecipe):
        print(run_scr(recipe, out, verbose=options.verbose, say=say))
    else:
        print(run_recipe(recipe, out, decisions=options.decisions, verbose=options.verbose, say=say))
    return 0
