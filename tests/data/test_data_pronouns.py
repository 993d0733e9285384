"""her → him or his, his → her or hers: sentences of the kinds that stand in real biographies."""

from __future__ import annotations

import pytest

from ssae_debias.data import WordPairs


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # object
        ("Call her at the office.", "Call him at the office."),
        ("It means a lot to her.", "It means a lot to him."),
        ("You can find her hiking with friends.", "You can find him hiking with friends."),
        ("Their boys keep her busy.", "Their girls keep him busy."),
        ("This led her into research.", "This led him into research."),
        ("Experience gives her unique insight.", "Experience gives him unique insight."),
        ("It helped her regain confidence.", "It helped him regain confidence."),
        ("What sets her apart is calm.", "What sets him apart is calm."),
        ("Named her one of the best.", "Named him one of the best."),
        ("With her being away.", "With him being away."),
        ("Please call her back.", "Please call him back."),
        ("Visit her online for more.", "Visit him online for more."),
        ("To her, and to us.", "To him, and to us."),
        ("Ask him or her.", "Ask her or him."),
        ("Pronouns: she/her/hers", "Pronouns: he/him/his"),
        # possessive
        ("Her patients love her work.", "His patients love his work."),
        ("Praised for her in-depth reports.", "Praised for his in-depth reports."),
        ("During her 20-year career.", "During his 20-year career."),
        ("During her over twenty years here.", "During his over twenty years here."),
        ("She and her husband moved.", "He and his wife moved."),
        ("Visit her website.", "Visit his website."),
        ("Growing her online practice.", "Growing his online practice."),
        ("She gives her patients time.", "He gives his patients time."),
        ("She found her calling.", "He found his calling."),
        ("Excellence in her every endeavor.", "Excellence in his every endeavor."),
        ("It was her “dream job”.", "It was his “dream job”."),
        ("Each takes his or her own.", "Each takes her or his own."),
        ("She hurt her back.", "He hurt his back."),
        # his
        ("His own.", "Her own."),
        ("An old friend of his, now retired.", "An old friend of hers, now retired."),
        ("The choice is his and hers.", "The choice is hers and his."),
        ("His 35-year career.", "Her 35-year career."),
        ("a place like his.", "a place like hers."),
        ("his/her record", "her/his record"),
    ],
)
def test_swap_in_context(given, expected):
    assert WordPairs.gender().swap(given) == expected
