"""What the model reads: a template with one ``{text}`` or several, and the published ones by name.

A template knows no tokens and no tensors. ``tokenization.py`` compiles it for a tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from types import MappingProxyType

from echo_embeddings.errors import ConfigError

__all__ = ["TEMPLATES", "Template"]


@dataclass(frozen=True)
class Template:
    """The words around a text: one ``{text}`` is a classical embedding, two an echo, n a repetition study.

    A single space before ``{text}`` belongs to the text, so that ``"Rewrite: {text}"`` gives the ids that
    tokenising the whole string would give. Either every ``{text}`` has that space or none has, because all
    copies must have the same ids. ``{instruction}`` may stand once. Write ``{{`` and ``}}`` for braces.

    Args:
        text: the template.
        bos: begin with the tokenizer's BOS token. ``None`` does what the tokenizer itself does by default.
        eos: end with the tokenizer's EOS token.
        pool_tail: pool what stands behind the last copy too (the rest of the prompt, EOS). PromptEOL reads its last
            token there, and the reference fine-tuned templates their EOS. The default is the last copy alone
            (paper, section 3).
        isolated: tokenise each piece on its own, as the authors' code does: a SentencePiece tokenizer then puts its
            dummy space before every piece. Only the released fine-tuned checkpoints want this.
        instruction: what ``{instruction}`` means when a call gives none.

    Raises:
        ConfigError: the template has no ``{text}``, an unknown field, or copies that would tokenise differently.
    """

    text: str
    bos: bool | None = None
    eos: bool = False
    pool_tail: bool = False
    isolated: bool = False
    instruction: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise TypeError(f"a template is a string such as 'Rewrite: {{text}}', not {type(self.text).__name__}")
        fields = [field for _, field in _parse(self.text) if field is not None]
        if unknown := sorted({field for field in fields if field not in ("text", "instruction")}):
            raise ConfigError(
                f"template {self.text!r} has the unknown field {{{unknown[0]}}}; only {{text}} and {{instruction}} "
                "are fields. Write {{ and }} for braces that the model shall read"
            )
        if "text" not in fields:
            raise ConfigError(f"template {self.text!r} has no {{text}}; write {{text}} where each copy shall stand")
        if fields.count("instruction") > 1:
            raise ConfigError(f"template {self.text!r} has {{instruction}} more than once; it may stand once")
        if len(spaces := {literal.endswith(" ") for literal, field in _parse(self.text) if field == "text"}) > 1:
            raise ConfigError(
                f"template {self.text!r} has a space before some {{text}} but not before others: the copies would get "
                "different tokens. Write the space before all of them or before none"
            )
        object.__setattr__(self, "_spaced", spaces == {True})
        if self.instruction is not None and not self.takes_instruction:
            raise ConfigError(f"template {self.text!r} has no {{instruction}} for {self.instruction!r} to go to")

    @classmethod
    def repeat(cls, copies: int) -> Template:
        """The paper's zero-shot prompt with ``copies`` copies of the text (the paper has no study of more than two)."""
        if copies < 1:
            raise ConfigError(f"copies={copies}: a template has at least one copy of the text")
        if copies == 1:
            return TEMPLATES["classical"]
        return cls("Rewrite the following paragraph: {text}" + "\nThe rewritten paragraph: {text}" * (copies - 1))

    @property
    def copies(self) -> int:
        """How often the text stands in the template."""
        return sum(field == "text" for _, field in _parse(self.text))

    @property
    def spaced(self) -> bool:
        """Whether one space before each ``{text}`` is tokenised with the text."""
        return bool(self._spaced)  # type: ignore[attr-defined]  # set in __post_init__ of a frozen dataclass

    @property
    def takes_instruction(self) -> bool:
        """Whether ``{instruction}`` stands in the template."""
        return any(field == "instruction" for _, field in _parse(self.text))

    def literals(self, instruction: str | None = None) -> list[list[str]]:
        """What stands before, between and behind the copies, as the pieces that are tokenised separately.

        Args:
            instruction: what to put for ``{instruction}``; ``None`` means the template's own.

        Returns:
            ``copies + 1`` lists of pieces. Without ``isolated`` each list has at most one piece.

        Raises:
            ConfigError: an instruction is given but has no place, or has a place but is not given.
        """
        instruction = self._resolve_instruction(instruction)
        groups: list[list[str]] = [[]]
        after_instruction = False
        for read, field in _parse(self.text):
            literal = read.removesuffix(" ") if field == "text" and self.spaced else read
            # The authors tokenise an instruction together with what ends its line: `{!%%prompt%%,}` (README).
            glued, rest = _split_line(literal) if after_instruction else ("", literal)
            if after_instruction:
                groups[-1][-1] += glued
            groups[-1].append(rest)
            if after_instruction := field == "instruction":
                groups[-1].append(instruction or "")
            if field == "text":
                groups.append([])
        pieces = [[piece for piece in group if piece] for group in groups]
        return pieces if self.isolated else [["".join(group)] if group else [] for group in pieces]

    def _resolve_instruction(self, instruction: str | None) -> str | None:
        if instruction is not None and not isinstance(instruction, str):
            raise TypeError(f"instruction must be a string, not {type(instruction).__name__}")
        if instruction is not None and not self.takes_instruction:
            raise ConfigError(
                f"instruction {instruction!r} was given, but template {self.text!r} has no {{instruction}}; "
                "use a template that has one, or leave the instruction out"
            )
        if instruction is None:
            instruction = self.instruction
        if instruction is None and self.takes_instruction:
            raise ConfigError(
                f"template {self.text!r} needs an instruction; pass instruction='...' or give the template a default"
            )
        return instruction


def _parse(text: str) -> list[tuple[str, str | None]]:
    """``[(literal, field that follows it or None), ...]`` with doubled braces undone."""
    try:
        parsed = [(literal, field, spec, conversion) for literal, field, spec, conversion in Formatter().parse(text)]
    except ValueError as error:
        raise ConfigError(f"template {text!r}: {error}; write {{{{ and }}}} for plain braces") from error
    merged: list[tuple[str, str | None]] = []
    pending = ""
    for literal, field, spec, conversion in parsed:
        pending += literal
        if field is None:
            continue
        if spec or conversion:
            raise ConfigError(f"template {text!r}: {{{field}}} takes no format or conversion; write {{{field}}} alone")
        merged.append((pending, field))
        pending = ""
    return [*merged, (pending, None)]


def _split_line(literal: str) -> tuple[str, str]:
    """``literal`` cut before its first newline."""
    line, newline, rest = literal.partition("\n")
    return line, newline + rest


#: Every published template that a preset uses, with its source.
#:
#: - ``echo``, ``classical``: the zero-shot prompts of the paper's main tables (section 4.2). The paper prints ``. ``
#:   between the copies and does not state the whitespace; a newline reads the same and cannot merge with the text.
#: - ``echo-query``, ``echo-document``: the templates of the released fine-tuned checkpoints (README of
#:   jakespringer/echo-embeddings), byte for byte, with BOS, and an EOS that is pooled.
#: - ``prompt-eol``: arXiv 2307.16645. ``pretended-cot`` and ``knowledge-enhancement``: arXiv 2404.03921. Their code
#:   also rewrites the end of the text (adds a full stop, replaces quotes); here the user's text stays as it is.
TEMPLATES: Mapping[str, Template] = MappingProxyType(
    {
        "echo": Template("Rewrite the following paragraph: {text}\nThe rewritten paragraph: {text}"),
        "classical": Template("Write a paragraph: {text}"),
        "echo-query": Template(
            "Instruct:{instruction},\nQuery:{text}\nQuery again:{text}",
            bos=True,
            eos=True,
            pool_tail=True,
            isolated=True,
            instruction="Retrieve passages that answer the question",
        ),
        "echo-document": Template(
            "Document:{text}\nDocument again:{text}", bos=True, eos=True, pool_tail=True, isolated=True
        ),
        "prompt-eol": Template('This sentence : "{text}" means in one word:"', pool_tail=True),
        "pretended-cot": Template(
            'After thinking step by step , this sentence : "{text}" means in one word:"', pool_tail=True
        ),
        "knowledge-enhancement": Template(
            "The essence of a sentence is often captured by its main subjects and actions, while descriptive terms "
            'provide additional but less central details. With this in mind , this sentence : "{text}" means in one '
            'word:"',
            pool_tail=True,
        ),
    }
)
