"""The command line: `ssae-debias run RECIPE`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ssae_debias import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 if it did what was asked, 2 if the input was wrong, 1 if the machine failed it."""
    options = _parser().parse_args(arguments)
    try:
        command: int = options.command(options)
        return command
    except (ValueError, TypeError, ImportError, FileNotFoundError) as error:
        print(f"ssae-debias: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"ssae-debias: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("ssae-debias: stopped; the same command goes on from here", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ssae-debias",
        description="Find where a model represents a protected attribute, ablate it there, and prove the effect.",
    )
    parser.add_argument("--version", action="version", version=f"ssae-debias {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run a recipe: table, results.json and report.html")
    run.add_argument("recipe", type=Path, help="a YAML file, such as recipes/bias_in_bios_demo.yaml")
    run.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="replace a value, with dots for sections: --set ssae.tilt=0 --set 'seeds=[0, 1]'",
    )
    run.add_argument("--out", type=Path, help="where results go (default: runs/ and the recipe's name)")
    run.add_argument("--quick", action="store_true", help="the recipe's own smaller form")
    run.add_argument("-v", "--verbose", action="count", default=1, help="progress of each step too")
    run.add_argument("-q", "--quiet", dest="verbose", action="store_const", const=0, help="only the table")
    run.set_defaults(command=_run)
    return parser


def _run(options: argparse.Namespace) -> int:
    # imported here, so that --help and a mistyped option answer at once
    from ssae_debias.recipe import ScrRecipe, read_recipe, run_recipe, run_scr

    recipe = read_recipe(options.recipe, options.overrides, quick=options.quick)
    out = options.out if options.out is not None else Path("runs") / options.recipe.stem
    say = print if options.verbose else (lambda _: None)
    if isinstance(recipe, ScrRecipe):
        print(run_scr(recipe, out, verbose=options.verbose, say=say))
    else:
        print(run_recipe(recipe, out, verbose=options.verbose, say=say))
    return 0


if __name__ == "__main__":
    sys.exit(main())
