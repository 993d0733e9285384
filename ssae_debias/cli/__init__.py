"""The command line: `ssae-debias COMMAND`, or `python -m ssae_debias COMMAND`.

`run` runs a recipe; `extract` and `train` are its two longest steps by themselves, and each can be shared by several
processes: ``torchrun --nproc-per-node=N -m ssae_debias train …``. A command is a module here with two functions:
`add_arguments`, which is called when the command is chosen (defaults are read where they are defined, and that can
take an import of PyTorch), and `command`, which does it.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from ssae_debias import __version__

COMMANDS = {
    "run": "run a recipe: table, results.json and report.html",
    "audit": "audit a text classifier: who is served worse, why, and what helps",
    "extract": "read texts by a model and keep its activations",
    "train": "train a sparse autoencoder on activations, or specialise one",
    "review": "look at a report's latents in a browser, and keep what is decided on them",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 if it did what was asked, 2 if the input was wrong, 1 if the machine failed it."""
    options = _parser().parse_args(arguments)
    try:
        command: int = options.command(options)
        return command
    except (
        ValueError,
        TypeError,
        ImportError,
        FileNotFoundError,
        FileExistsError,
        FloatingPointError,
    ) as error:
        return _failed(error, 2)
    except OSError as error:
        return _failed(error, 1)
    except KeyboardInterrupt:
        return _failed("stopped; the same command goes on from here", 130)
    except RuntimeError as error:
        if type(error).__name__ != "RankFailedError":  # its module needs PyTorch
            raise
        return _failed(error, 1)


def _failed(why: object, code: int) -> int:
    ranks = os.environ.get("WORLD_SIZE", "1")
    who = "ssae-debias" if ranks == "1" else f"ssae-debias (rank {os.environ.get('RANK', '?')} of {ranks})"
    print(f"{who}: {why}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ssae-debias",
        description="Find where a model represents a protected attribute, ablate it there, and prove the effect.",
    )
    parser.add_argument("--version", action="version", version=f"ssae-debias {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_CommandParser)
    for name, help in COMMANDS.items():
        commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.", module=name)
    return parser


class _CommandParser(argparse.ArgumentParser):
    """Takes its arguments from the command's module when they are needed first."""

    def __init__(self, *args: Any, module: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self._module: str | None = module

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._module is not None:
            module = importlib.import_module(f"ssae_debias.cli.{self._module}")
            self._module = None
            module.add_arguments(self)
            self.set_defaults(command=module.command)
        return super().parse_known_args(args, namespace)
