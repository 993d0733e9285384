"""Averaged pairs: he and she become one word, in the matrix that the model looks its words up in.

A model that reads the same vector for "he" and for "she" cannot tell them apart, whatever comes after. No text
is changed and no label is needed; but only words that are a single token have a vector of their own, and what
the list does not name (a first name, a midwife) says the attribute as before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ssae_debias.data import WordPairs

if TYPE_CHECKING:
    from ssae_debias.activations import TextModel


@dataclass(frozen=True)
class AveragedPairs:
    """Tokens that are to share one embedding.

    Words that have a partner in common (him and her, his and her, his and hers) make one class, for a chain of
    equal vectors is one vector. A class's vector is the middle of its two sides:

        (mean over the tokens of side 0 + mean over the tokens of side 1) / 2

    Parameters
    ----------
    classes : tuple of (tuple of int, tuple of int)
        Token ids of side 0 and of side 1 of each class; no id is in two classes.

    References
    ----------
    T. Bolukbasi et al., "Man is to computer programmer as woman is to homemaker?", NeurIPS 2016, section 6,
    equalises pairs so that they differ in the attribute's direction alone; here that difference goes as well.

    Examples
    --------
    >>> from ssae_debias.activations import load_model, read_pooled
    >>> model = load_model("demo")
    >>> averaged = AveragedPairs.of(WordPairs([("he", "she"), ("Mr", "Mrs")]), model.tokenizer)
    >>> [tuple(model.tokenizer.convert_ids_to_tokens(ids) for ids in both) for both in averaged.classes]
    [(['he'], ['she']), (['mr'], ['mrs'])]
    >>> with averaged.applied(model):
    ...     he, she = read_pooled(model, ["He is a nurse.", "She is a nurse."], "resid.3")["resid.3"]
    >>> bool(abs(he - she).max() < 1e-5)
    True
    """

    classes: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]

    @classmethod
    def of(cls, pairs: WordPairs, tokenizer: Any) -> Self:
        """The classes that a list of pairs makes in a tokenizer.

        Each pair is tried as it stands, capitalised and in capitals (as far as its note lets it count so), with
        and without a space before it. A spelling counts where both words are one token in it; in byte-level
        vocabularies (GPT-2) the token without a space also continues longer words, and is averaged there, too.

        Parameters
        ----------
        pairs : WordPairs
        tokenizer : transformers tokenizer

        Raises
        ------
        ValueError
            No pair has both of its words as single tokens.
        """
        classes: list[tuple[set[int], set[int]]] = []
        for (first, second), note in zip(pairs.pairs, pairs.notes, strict=True):
            for one, other in zip(
                _spellings(first, note.written), _spellings(second, note.written), strict=True
            ):
                left, right = _single_token(tokenizer, one), _single_token(tokenizer, other)
                if left is None or right is None:
                    continue
                joined = ({left}, {right})
                for known in [c for c in classes if {left, right} & (c[0] | c[1])]:
                    classes.remove(known)
                    joined = (joined[0] | known[0], joined[1] | known[1])
                classes.append(joined)
        if not classes:
            raise ValueError(
                f"None of the {len(pairs.pairs)} pairs of {pairs.name!r} has both words as single tokens of "
                f"{type(tokenizer).__name__}: there is no embedding to average. Swap the words in the texts "
                "instead (SwapProjection)."
            )
        return cls(tuple((tuple(sorted(left)), tuple(sorted(right))) for left, right in classes))

    @contextmanager
    def applied(self, model: TextModel | Any) -> Iterator[None]:
        """Average the model's input embeddings while the block runs; afterwards every bit is as it was.

        The weights themselves change meanwhile, so the model's fingerprint does, and nothing that is stored by
        fingerprint is mistaken for the unedited model's. Output embeddings that are tied to them change, too.

        Parameters
        ----------
        model : TextModel or transformers.PreTrainedModel

        Raises
        ------
        ValueError
            A token id is outside the model's embedding matrix: the classes are another tokenizer's.
        """
        import torch

        module: Any = getattr(model, "module", model)
        weight = module.get_input_embeddings().weight
        ids = [token for sides in self.classes for side in sides for token in side]
        if max(ids, default=0) >= len(weight):
            raise ValueError(
                f"Token {max(ids)} is outside the model's {len(weight)} embeddings: make the classes with this "
                "model's own tokenizer."
            )
        before = weight.detach().clone()
        try:
            with torch.no_grad():
                for left, right in self.classes:
                    # in double precision, so that bfloat16 rounds once
                    middle = sum(before[list(side)].double().mean(dim=0) for side in (left, right)) / 2
                    weight[[*left, *right]] = middle.to(weight.dtype)
            yield
        finally:
            with torch.no_grad():
                weight.copy_(before)


def _spellings(word: str, written: str) -> list[str]:
    """How a word of a pair may stand in a text; both words of a pair give lists of one length."""
    capitalised, capitals = word[:1].upper() + word[1:], word.upper()
    forms = {
        "any": (word, capitalised, capitals),
        "lower": (word,),
        "title": (capitalised,),
        # capitalised it counts where a sentence begins, which an embedding does not know
        "sentence": (word, capitals),
    }[written]
    return [space + form for form in forms for space in ("", " ")]


def _single_token(tokenizer: Any, spelling: str) -> int | None:
    ids = tokenizer(spelling, add_special_tokens=False)["input_ids"]
    # what the vocabulary cannot say is one token, too: the unknown one
    return ids[0] if len(ids) == 1 and ids[0] not in tokenizer.all_special_ids else None
