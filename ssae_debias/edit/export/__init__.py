"""Export of an edited model: a folder for plain `transformers`, that needs nothing of ours at run time.

`export_model` folds into weights what folds exactly, writes a short module file for the rest, and compares what it
wrote with the live model. `push_export` brings the folder to the Hugging Face hub.
"""

from ssae_debias.edit.export.card import Facts
from ssae_debias.edit.export.exporting import EXAMPLES, Exported, export_model, public_name
from ssae_debias.edit.export.folding import Fold, fold_edits
from ssae_debias.edit.export.pushing import push_export

__all__ = [
    "EXAMPLES",
    "Exported",
    "Facts",
    "Fold",
    "export_model",
    "fold_edits",
    "public_name",
    "push_export",
]
