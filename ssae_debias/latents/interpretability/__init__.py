"""Automated interpretability: whether what a latent does can be said, so that another can tell where it fires.

An *explainer* is shown a latent's strongest examples and says what they have in common. A *judge* sees the explanation
and examples of other texts, and says which of them fit. What it gets right is the latent's score: of the latent, the
explainer and the judge together, so compare SAEs under the same two.

`collect_examples` gathers the examples, `interpretability_scores` scores. `LexiconExplainer` and `lexicon_judge` work
without any language model, by rules over tokens and their neighbours; `LanguageModelExplainer` and
`LanguageModelJudge` ask one, on this machine (`local_generator`) or wherever a callable of yours asks it.
"""

from ssae_debias.latents.interpretability.examples import Example, LatentExamples, collect_examples
from ssae_debias.latents.interpretability.judging import Judge, Shown, Task
from ssae_debias.latents.interpretability.language_model import (
    Generate,
    LanguageModelExplainer,
    LanguageModelJudge,
    local_generator,
)
from ssae_debias.latents.interpretability.lexicon import Lexicon, LexiconExplainer, Rule, lexicon_judge
from ssae_debias.latents.interpretability.scoring import Explainer, interpretability_scores

__all__ = [
    "Example",
    "Explainer",
    "Generate",
    "Judge",
    "LanguageModelExplainer",
    "LanguageModelJudge",
    "LatentExamples",
    "Lexicon",
    "LexiconExplainer",
    "Rule",
    "Shown",
    "Task",
    "collect_examples",
    "interpretability_scores",
    "lexicon_judge",
    "local_generator",
]
