"""Tasks with a label and an attribute, and ways to make a text say less about the attribute.

A `Task` holds texts, the label y, the attribute (`sensitive_features`) and a split, whatever they came
from: the hub (`load_bias_in_bios`), a file (`load_table`), a DataFrame (`task_from_frame`) or nowhere at
all (`synthetic_biographies`). Where no column holds the label or the attribute, `read_patterns` reads it from
the text and `delete_patterns` takes its words out. `ambiguous`, `balanced` and `cells` pick the three sets on which a debiasing
method is trained and judged. `WordPairs` describes the attribute without labels, by words that say it.
"""

from __future__ import annotations

from ssae_debias.data.patterns import (
    ATTRIBUTE,
    LABEL,
    Patterns,
    ReadIn,
    check_groups,
    check_patterns,
    columns_from_patterns,
    delete_patterns,
    read_patterns,
)
from ssae_debias.data.sentences import first_sentence
from ssae_debias.data.sets import ambiguous, at_most, balanced, cells, held_out
from ssae_debias.data.sources import (
    PROFESSIONS,
    load_bias_in_bios,
    load_table,
    read_frame,
    task_from_frame,
)
from ssae_debias.data.synthetic import carriers, synthetic_biographies
from ssae_debias.data.synthetic_corpus import synthetic_corpus
from ssae_debias.data.task import SPLITS, Task
from ssae_debias.data.texts import check_texts
from ssae_debias.data.validation import (
    check_aligned,
    check_labels,
    check_sensitive,
    cramers_v,
    warn_if_determined,
)
from ssae_debias.data.word_pairs import PairNote, WordPairs, as_word_pairs

__all__ = [
    "ATTRIBUTE",
    "LABEL",
    "PROFESSIONS",
    "SPLITS",
    "PairNote",
    "Patterns",
    "ReadIn",
    "Task",
    "WordPairs",
    "ambiguous",
    "as_word_pairs",
    "at_most",
    "balanced",
    "carriers",
    "cells",
    "check_aligned",
    "check_groups",
    "check_labels",
    "check_patterns",
    "check_sensitive",
    "check_texts",
    "columns_from_patterns",
    "cramers_v",
    "delete_patterns",
    "first_sentence",
    "held_out",
    "load_bias_in_bios",
    "load_table",
    "read_frame",
    "read_patterns",
    "synthetic_biographies",
    "synthetic_corpus",
    "task_from_frame",
    "warn_if_determined",
]
