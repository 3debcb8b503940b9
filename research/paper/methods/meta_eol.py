"""MetaEOL (arXiv 2402.18458): eight prompts about eight tasks, and the mean of their eight last tokens.

The prompts are those of the authors' code (Yibin-Lei/MetaEOL, ``evaluation.py``), and so is the last layer. That code
also adds a full stop to a text and replaces its quotes; here the text stays as it is, as in the library's other presets
of this family. Table 1 of Token Prepending reports 75.96 for LLaMA-2-7B on seven STS sets, beside 70.03 for PromptEOL:
to be above PromptEOL is what can be compared on other models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from echo_embeddings.forward.pooling import last_pooling
from echo_embeddings.text.template import Template
from echo_embeddings.types import Role

from . import plain
from .method import Embedded, Method, Subject

__all__ = ["PROMPTS", "MetaEOL"]

PROMPTS = (
    (
        "In this task, you're presented with a text excerpt. Your task is to categorize the excerpt into a "
        "broad category such as 'Education', 'Technology', 'Health', 'Business', 'Environment', "
        "'Politics', or 'Culture'. These categories help in organizing content for better accessibility "
        'and targeting. For this task, this sentence : "{text}" should be classified under one general '
        'category in one word:"'
    ),
    (
        "In this task, you're given a statement and you need to determine whether it's presenting an "
        "'Opinion' or a 'Fact'. This distinction is vital for information verification, educational "
        'purposes, and content analysis. For this task, this sentence : "{text}" discriminates between '
        'opinion and fact in one word:"'
    ),
    (
        "In this task, you're given a review from an online platform. Your task is to generate a rating "
        "for the product based on the review on a scale of 1-5, where 1 means 'extremely negative' and 5 "
        "means 'extremely positive'. For this task, this sentence : \"{text}\" reflects the sentiment in one "
        'word:"'
    ),
    (
        "In this task, you're reading a personal diary entry. Your task is to identify the predominant "
        "emotion expressed, such as joy, sadness, anger, fear, or love. For this task, this sentence : "
        '"{text}" conveys the emotion in one word:"'
    ),
    (
        "In this task, you're presented with two sentences. Your task is to assess whether the sentences "
        "convey the same meaning. Use 'identical', 'similar', 'different', or 'unrelated' to describe the "
        'relationship. To enhance the performance of this task, this sentence : "{text}" means in one '
        'word:"'
    ),
    (
        "In this task, you're given a sentence and a phrase. Your task is to determine if the phrase can "
        "be a contextual synonym within the given sentence. Options include 'yes', 'no', or 'partially'. "
        'To enhance the performance of this task, this sentence : "{text}" means in one word:"'
    ),
    (
        "In this task, you're examining a news article. Your task is to extract the most critical fact "
        'from the article. For this task, this sentence : "{text}" encapsulates the key fact in one word:"'
    ),
    (
        "In this task, you're reviewing a scientific abstract. Your task is to identify the main entities "
        "(e.g., proteins, diseases) and their relations (e.g., causes, treats). For this task, this "
        'sentence : "{text}" highlights the primary entity or relation in one word:"'
    ),
)


@dataclass(frozen=True)
class MetaEOL(Method):
    """The mean over several prompts of the last token.

    Args:
        prompts: with ``{text}``.
    """

    prompts: tuple[str, ...] = PROMPTS

    def embed(self, subject: Subject, texts: Sequence[str], role: Role) -> Embedded:  # noqa: ARG002 - one prompt for both
        parts = []
        for prompt in self.prompts:
            template = Template(prompt, pool_tail=True)
            before = len(subject.echo_tokenizer.layout(template).literals[0])
            rows = plain.around(subject, texts, template)
            parts.append(plain.embed(subject, rows, last_pooling, prefix=before))
        vectors = np.stack([part.vectors for part in parts]).mean(axis=0)
        return Embedded(vectors, sum(part.layer_tokens for part in parts))
