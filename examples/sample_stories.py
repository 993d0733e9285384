"""Texts for evaluating SAEs of a language model whose training text is not at hand: sampled from the model itself.

What a model writes at temperature 1 is drawn from the distribution that it has learned, so its activations on it are
those that its dictionary has to explain.

    python examples/sample_stories.py --model stories260K/ --n 12000 --out stories.parquet
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
import torch
from tqdm.auto import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer

from ssae_debias.files import file_aside


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="folder or hub id of a causal language model")
    parser.add_argument("--n", type=int, default=12_000, help="how many texts")
    parser.add_argument("--tokens", type=int, default=200, help="tokens of a text, at most")
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="a parquet file with the column text")
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(options.model).eval()
    torch.manual_seed(options.seed)
    texts: list[str] = []
    with tqdm(total=options.n, unit="text") as bar:
        while len(texts) < options.n:
            start = torch.full((options.batch, 1), tokenizer.bos_token_id)
            with torch.no_grad():
                ids = model.generate(
                    start, do_sample=True, temperature=1.0, top_k=0, max_new_tokens=options.tokens,
                    pad_token_id=tokenizer.eos_token_id,
                )  # fmt: skip
            new = [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
            texts += [text for text in new if text]
            bar.update(len(new))
    with file_aside(options.out) as aside:
        pd.DataFrame({"text": texts[: options.n]}).to_parquet(aside)
    print(f"{options.n} texts in {options.out}")


if __name__ == "__main__":
    main()
