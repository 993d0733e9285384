"""The word lists and sentences that come with the package: tab-separated tables with a heading."""

from __future__ import annotations

import csv
from importlib.resources import files


def read_resource(name: str) -> list[dict[str, str]]:
    """Rows of a table in this folder, each a dict by column name.

    Parameters
    ----------
    name : str
        File name, such as ``"gender_pairs.tsv"``. It is read through `importlib.resources`: the package may
        lie in a zip file.

    Returns
    -------
    list of dict
        Every cell is a string; quotes mean nothing.

    Examples
    --------
    >>> read_resource("gender_pairs.tsv")[0]["second"]
    'she'
    """
    text = files("ssae_debias.data").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
