"""A team's own text classifier, from audit to edited model, on real biographies.

Fine-tunes MiniLM to tell surgeons from nurses on male surgeons and female nurses only, so that it leans on gender; audits it
with word pairs alone (no gender labels); exports the edited classifier; loads the export with plain transformers, in a
process that cannot import this package; and judges both on all four groups of the evaluation splits.

    python examples/audit_text_classifier.py --data bios_surgeon_nurse.parquet --out runs/audit

The file has the columns `split`, `profession`, `gender` and `text`. Gender is used to draw the skewed training set and to
judge; the audit's latents are found without it. Which sites are edited and with what settings was chosen on training
texts held out from the audit (`--validate` shows that choice); evaluation texts chose nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

from ssae_debias import SSAEDebiaser
from ssae_debias.activations import minilm_path
from ssae_debias.audit import AuditReport, LatentSettings, TextClassifier, audit
from ssae_debias.audit.groups import find_groups
from ssae_debias.audit.measuring import Evaluation, measure
from ssae_debias.audit.variants import at_most, changed_rows
from ssae_debias.data import Task, WordPairs, ambiguous, load_table
from ssae_debias.edit import edit_flagged
from ssae_debias.metrics import seeds_interval

JUDGED_BY_EXPORT = """
import json, sys
sys.modules["ssae_debias"] = None  # an import of this package would fail
from transformers import AutoModelForSequenceClassification, AutoTokenizer
import torch
folder, texts, out = sys.argv[1:]
model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
texts, found = json.load(open(texts)), []
with torch.inference_mode():
    for start in range(0, len(texts), 32):
        batch = tokenizer(texts[start : start + 32], truncation=True, max_length=128, padding=True, return_tensors="pt")
        batch.pop("token_type_ids", None)
        found += model(**batch).logits.tolist()
json.dump(found, open(out, "w"))
"""


def fine_tune(task: Task, folder: Path, *, seed: int, n_texts: int, verbose: int = 1) -> Path:
    """MiniLM with a head, fine-tuned once over some male surgeons and female nurses; read again where it exists."""
    if (folder / "config.json").exists():
        return folder
    torch.manual_seed(seed)
    rows = ambiguous(task, splits=("train",), random_state=seed, draw="random")
    rows = np.random.default_rng(seed).permutation(rows)[:n_texts]
    tokenizer = AutoTokenizer.from_pretrained(minilm_path())
    model = AutoModelForSequenceClassification.from_pretrained(
        minilm_path(), num_labels=2, id2label=dict(enumerate(task.label_names)), label2id={n: i for i, n in enumerate(task.label_names)}
    )  # fmt: skip
    model.train()
    starts = range(0, len(rows) - 31, 32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.01)
    schedule = get_linear_schedule_with_warmup(optimizer, len(starts) // 10, len(starts))
    for start in starts:
        chosen = rows[start : start + 32]
        batch = tokenizer(
            [task.texts[row] for row in chosen],
            truncation=True,
            max_length=128,
            padding=True,
            return_tensors="pt",
        )
        loss = model(**batch, labels=torch.as_tensor(task.y[chosen])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    if verbose:
        print(f"fine-tuned on {len(rows)} texts, last loss {loss.item():.4f}")
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def audited(task: Task, folder: Path, out: Path, *, seed: int, part: np.ndarray, rivals: Any) -> AuditReport:
    """The audit with pairs only: gender is given for the rows that judge, and for no other."""
    rows = np.flatnonzero(part != "")
    gender = np.array(task.attribute_names, dtype=object)[task.sensitive_features]
    gender[part != "evaluation"] = None
    return audit(
        folder,
        [task.texts[row] for row in rows],
        task.y[rows],
        sensitive_features=gender[rows],
        part=part[rows],
        rivals=rivals,
        out=out,
        random_state=seed,
    )


def exported_difference(report: AuditReport, task: Task, rows: np.ndarray, folder: Path) -> float:
    """Largest difference between the logits of the exported model, loaded elsewhere, and of the live edited one."""
    exported = report.export(folder / "edited")
    texts = [task.texts[row] for row in rows]
    (folder / "texts.json").write_text(json.dumps(texts))
    files = [str(folder / name) for name in ("edited", "texts.json", "logits.json")]
    subprocess.run([sys.executable, "-c", JUDGED_BY_EXPORT, *files], check=True, stdout=subprocess.DEVNULL)
    found = np.array(json.loads((folder / "logits.json").read_text()))
    live = report.edited_classifier()(texts)
    print(f"exported to {exported.path}")
    return float(np.abs(found - live).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/audit"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--train-texts", type=int, default=1600)
    parser.add_argument("--rivals", type=int, default=2, metavar="N", help="seeds on which every rival is judged (default: 2)")  # fmt: skip
    parser.add_argument("--validate", action="store_true", help="judge settings on held-out training texts")
    options = parser.parse_args()
    task = load_table(
        options.data, text="text", label="profession", attribute="gender", split="split",
        labels=["surgeon", "nurse"], attributes=["M", "F"],
    )  # fmt: skip
    tables = []
    for seed in options.seeds:
        start = time.perf_counter()
        home = options.out / f"seed-{seed}"
        folder = fine_tune(task, home / "classifier", seed=seed, n_texts=options.train_texts)
        if options.validate:
            tables += validated(task, folder, home, seed)
            continue
        part = np.where(np.isin(task.split, ["dev", "test"]), "evaluation", "fit")
        rivals = True if seed in options.seeds[: options.rivals] else "words"
        report = audited(task, folder, home / "audit", seed=seed, part=part, rivals=rivals)
        print(report)
        difference = exported_difference(report, task, np.flatnonzero(part == "evaluation")[:500], home)
        print(f"largest difference of a logit, exported against live: {difference:.1e}")
        print(f"seed {seed}: {time.perf_counter() - start:.0f} s")
        tables.append(report.to_frame().assign(seed=seed))
    print(summary(pd.concat(tables)))


def validated(task: Task, folder: Path, home: Path, seed: int) -> list[pd.DataFrame]:
    """Candidate settings, judged on 600 training texts that the latents are not found on."""
    rows = np.random.default_rng(seed).permutation(task.rows("train"))
    held, fit = rows[:600], rows[600:2600]
    classifier, pairs = TextClassifier(folder), WordPairs.gender()
    debiaser = SSAEDebiaser(
        classifier.model.module, tokenizer=classifier.model.tokenizer, sites=("embed", "resid.0", "resid.1"),
        output_site="resid.1", train_tokens=LatentSettings().train_tokens, cache_dir=home / "validation", random_state=seed,
    )  # fmt: skip
    debiaser.fit([task.texts[row] for row in fit], task.y[fit])
    texts = [task.texts[row] for row in held]
    swapped = [pairs.swap(text) for text in texts]
    changed = at_most(changed_rows(texts, swapped), 300, seed)
    gender = np.array(task.attribute_names)[task.sensitive_features[held]]
    evaluation = Evaluation(task.y[held], find_groups(texts, gender, pairs), classifier.classes, changed)
    table, found = debiaser.flagged_, {}
    for sites in (("embed",), ("embed", "resid.0"), ("embed", "resid.0", "resid.1")):
        for effect in (0.8, 2.0):
            kept = table[table["site"].isin(sites) & (table["score"] >= effect)]
            found[f"{', '.join(sites)}; effect {effect}"] = edit_flagged(
                kept, debiaser.saes_, "zero", debiaser.centers_
            )
    found["embed, resid.0, resid.1; effect 0.8; realigned and erased"] = debiaser.edits_
    found = {"as it is": {}, **found}
    judged = {}
    for name, edits in found.items():
        other = classifier.logits([swapped[row] for row in np.flatnonzero(changed)], edits)
        state = measure(evaluation, classifier.logits(texts, edits), other, name=name, role="ours")
        judged[name] = {
            "worst_group_accuracy": state.worst_group_accuracy.mean,
            "balanced_accuracy": state.balanced_accuracy.mean,
            "accuracy": state.accuracy.mean,
            "flip_rate": state.flips["rate"].mean,
        }
        print(f"seed {seed}, {name}: {judged[name]}", flush=True)
    return [pd.DataFrame.from_dict(judged, orient="index").assign(seed=seed)]


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds with half of the 95 % interval of that mean; the interval over texts is in each seed's report."""
    columns = ["worst_group_accuracy", "balanced_accuracy", "accuracy", "flip_rate"]
    rows = {}
    for variant, table in frame.groupby(level=0, sort=False):
        cells: dict[str, Any] = {"seeds": len(table)}
        for column in columns:
            interval = seeds_interval(table[column].to_numpy()) if len(table) > 1 else None
            spread = "" if interval is None else f" ± {(interval.high - interval.low) / 2:.3f}"
            cells[column] = f"{table[column].mean():.3f}{spread}"
        rows[variant] = cells
    return pd.DataFrame.from_dict(rows, orient="index")


if __name__ == "__main__":
    pd.set_option("display.width", 200, "display.max_columns", 20, "display.max_colwidth", 60)
    main()
