"""Where the first sentence of a text ends.

Encyclopedias and biographies say in their first sentence what they are about.
"""

from __future__ import annotations

import re

_STOP = re.compile(r"[.!?]+[\"'”’)\]]*(?P<gap>\s*)(?P<next>\S?)")
_ABBREVIATED = re.compile(
    r"(?<![^\W_])(?:[^\W\d_]|mrs?|ms|mme|mlle|drs?|ph|st|ste|mt|ft|prof|rev|hon|sr|jr|gen|col|capt|lt|sgt|maj|adm"
    r"|gov|sen|rep|no|nr|vs|ca|cf|fl|est|approx|inc|co|corp|ltd|bros|vol|op|lit|al|jan|feb|aug|sept?|oct|nov|dec)$",
    re.IGNORECASE,
)


def first_sentence(text: str) -> str:
    """The first sentence of an English text.

    A sentence ends at a full stop, question mark or exclamation mark after which a new one can begin: with a
    capital, a digit or a sign, also where the space between them is missing. No sentence ends after an initial
    or an abbreviation, within parentheses, or where small letters follow.

    Examples
    --------
    >>> first_sentence("John Q. Doe Jr. (b. Boston, U.S.) was a poet.He also sang.")
    'John Q. Doe Jr. (b. Boston, U.S.) was a poet.'
    """
    for stop in _STOP.finditer(text):
        gap, following = stop["gap"], stop["next"]
        if not following:
            break
        if following.islower() or following in ",;:(–-/" or not (gap or following.isupper()):
            continue
        sentence, rest = text[: stop.start("gap")], text[stop.start("gap") :]
        if sentence.count("(") > sentence.count(")") and ")" in rest:
            continue
        if text[stop.start()] == "." and _ABBREVIATED.search(text[: stop.start()]):
            continue
        return sentence
    return text
