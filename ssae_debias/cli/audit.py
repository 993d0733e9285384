"""`ssae-debias audit`: a text classifier and a file of labelled texts → a report, and an edited model."""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path
from typing import Any

import numpy as np

from ssae_debias.audit import LatentSettings, audit
from ssae_debias.data import as_word_pairs, read_frame
from ssae_debias.data.columns import check_column


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes; the defaults are those of `audit` and `LatentSettings`."""
    settings = LatentSettings()
    need = parser.add_argument_group("needed")
    need.add_argument("--model", required=True, help="a Hugging Face text classifier: its folder, or its id on the hub")  # fmt: skip
    need.add_argument("--data", required=True, type=Path, metavar="FILE", help=".parquet, .csv, .tsv or .jsonl")  # fmt: skip
    need.add_argument("--label-column", required=True, metavar="COLUMN", help="the right labels, by the model's names for them or as its indices")  # fmt: skip
    need.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="where report.html and results.json go, and what a stopped audit goes on from")  # fmt: skip
    parser.add_argument("--text-column", default="text", metavar="COLUMN", help="default: text")
    who = parser.add_argument_group("the attribute: by its words, by columns, or by both")
    words = who.add_mutually_exclusive_group()
    words.add_argument("--attribute", choices=["gender", "none"], help="a built-in list of word pairs (default: gender, or none where --attribute-column is given: its words are not known then)")  # fmt: skip
    words.add_argument("--pairs", type=Path, metavar="FILE", help="your own word pairs, two columns")
    who.add_argument("--attribute-column", nargs="+", default=[], metavar="COLUMN", help="attribute values, empty where not known; several columns are crossed")  # fmt: skip
    parts = parser.add_argument_group("which rows judge")
    parts.add_argument("--split-column", metavar="COLUMN", help="default: half of the rows of each group, at random")  # fmt: skip
    parts.add_argument("--evaluation-splits", nargs="+", default=["dev", "validation", "test"], metavar="NAME", help="values of that column that judge; latents are found on the others (default: dev validation test)")  # fmt: skip
    how = parser.add_argument_group("how")
    how.add_argument("--sites", nargs="+", default=["auto"], metavar="SITE", help="where latents are looked for: embed, resid.0, … (default: auto)")  # fmt: skip
    how.add_argument("--corpus", type=Path, metavar="FILE", help="general text to retrieve the subdomain from")  # fmt: skip
    how.add_argument("--flag", default=settings.flag, choices=["auto", "counterfactual", "association", "both"], help=f"what flags a latent (default: {settings.flag})")  # fmt: skip
    how.add_argument("--edit", default=settings.edit, choices=["zero", "mean", "clamp", "project"], help=f"default: {settings.edit}")  # fmt: skip
    how.add_argument("--min-effect", type=float, default=settings.min_effect, metavar="D", help=f"smallest effect size that flags (default: {settings.min_effect})")  # fmt: skip
    how.add_argument("--train-tokens", type=int, default=settings.train_tokens, metavar="N", help=f"tokens each SAE is trained on (default: {settings.train_tokens})")  # fmt: skip
    how.add_argument("--keep-head", action="store_true", help="leave the classifier's last layer as it is")
    how.add_argument("--decisions", type=Path, metavar="FILE", help="a person's decisions about latents: decisions.json from the page")  # fmt: skip
    how.add_argument("--no-rivals", action="store_true", help="leave out the simple methods: about half of the time")  # fmt: skip
    how.add_argument("--export", type=Path, metavar="FOLDER", help="write the edited classifier there, as transformers loads it")  # fmt: skip
    how.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="default: cpu")
    how.add_argument("--seed", type=int, default=inspect.signature(audit).parameters["random_state"].default, metavar="N", help="default: 0")  # fmt: skip
    parser.add_argument("-v", "--verbose", action="count", default=1, help="progress of each step too")
    parser.add_argument("-q", "--quiet", dest="verbose", action="store_const", const=0, help="only the table")


def command(options: argparse.Namespace) -> int:
    """Audit, print the table, write the report and, if asked for, the edited model."""
    frame = read_frame(options.data, options.text_column)
    split = [] if options.split_column is None else [options.split_column]
    for column in (options.text_column, options.label_column, *options.attribute_column, *split):
        check_column(column, list(frame.columns))
    part = None
    if options.split_column is not None:
        judges = frame[options.split_column].astype(str).isin(options.evaluation_splits)
        part = np.where(judges, "evaluation", "fit")
    words: Any = options.attribute or ("none" if options.attribute_column else "gender")
    if options.pairs is not None:
        words = as_word_pairs(options.pairs)
    report = audit(
        options.model,
        frame[options.text_column].tolist(),
        frame[options.label_column].to_numpy(),
        attribute=None if isinstance(words, str) and words == "none" else words,
        sensitive_features=frame[options.attribute_column] if options.attribute_column else None,
        part=part,
        settings=LatentSettings(
            sites="auto" if options.sites == ["auto"] else tuple(options.sites),
            corpus=options.corpus,
            flag=options.flag,
            edit=options.edit,
            min_effect=options.min_effect,
            train_tokens=options.train_tokens,
            refit=not options.keep_head,
            device=options.device,
        ),
        rivals=not options.no_rivals,
        decisions=options.decisions,
        out=options.out,
        random_state=options.seed,
        verbose=options.verbose,
    )
    print(report)
    if options.export is not None:
        exported = report.export(options.export)
        print(f"Edited classifier: {exported.path}")
    print(f"Report: {options.out / 'report.html'}")
    return 0
