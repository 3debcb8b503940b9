"""What the model is given: the words around a text, which stands in them once or several times.

A template knows no tokens and no tensors. ``EchoTokenizer.layout`` compiles it for a tokenizer; the published templates
are in the presets (``EchoConfig.preset(name).templates``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from string import Formatter
from typing import Any

from echo_embeddings.errors import ConfigError

__all__ = ["Template"]

# What stands for the fields while a chat template is rendered. No chat template changes such a word.
_MARKS = {"{text}": "EchoTextStandsHere", "{instruction}": "EchoInstructionStandsHere"}


@dataclass(frozen=True)
class Template:
    """The words around a text, such as ``"Rewrite: {text} Rewritten: {text}"``.

    With one ``{text}`` the embedding is a classical one, with two it is an echo, with more a study of repetition.
    ``{instruction}`` may stand once. Write ``{{`` and ``}}`` for braces.

    A single space before ``{text}`` is tokenised with the text: ``"Rewrite: {text}"`` then gives the token ids that the
    whole string has. Write that space before every ``{text}`` or before none, because all copies must have the same
    ids.

    Args:
        text: the template.
        bos: whether to begin with the tokenizer's BOS token. ``None`` does what the tokenizer does by default.
        eos: whether to end with the tokenizer's EOS token.
        pool_tail: whether to pool also what follows the last copy: the rest of the prompt and the EOS. PromptEOL takes
            its vector from there, and so do the authors' fine-tuned checkpoints. The default is the last copy alone
            (paper, section 3).
        isolated: whether to tokenise each piece on its own, as the authors' code does. A SentencePiece tokenizer then
            puts its dummy space before every piece. Only the authors' fine-tuned checkpoints want this.
        instruction: what stands for ``{instruction}`` if a call gives none.
        prompt: what stands once before the template, exactly as it is: braces are no fields, and a space at its end is
            no part of the text. The ``prompts`` of other libraries go here.
        special: whether names of special tokens in these words, such as ``<|im_start|>``, are those tokens. In a text
            they never are. :meth:`from_chat` sets it.

    Raises:
        ConfigError: the template has no ``{text}``, an unknown field, or copies that would tokenise differently; or a
            flag is neither true nor false.
        TypeError: ``text``, ``instruction`` or ``prompt`` is no string.
    """

    text: str
    bos: bool | None = None
    eos: bool = False
    pool_tail: bool = False
    isolated: bool = False
    instruction: str | None = None
    prompt: str = ""
    special: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise TypeError(f"a template is a string such as 'Rewrite: {{text}}', not {type(self.text).__name__}")
        self._check_flags()
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

    def _check_flags(self) -> None:
        for name in ("bos", "eos", "pool_tail", "isolated", "special"):
            value = getattr(self, name)
            if not isinstance(value, bool) and not (name == "bos" and value is None):
                raise ConfigError(f"{name}={value!r}: give True or False{', or None' if name == 'bos' else ''}")
        if not isinstance(self.instruction, str | None):
            raise TypeError(f"instruction must be a string, not {type(self.instruction).__name__}")
        if not isinstance(self.prompt, str):
            raise TypeError(f"prompt must be a string, not {type(self.prompt).__name__}")

    @classmethod
    def repeat(cls, copies: int) -> Template:
        """The paper's zero-shot prompt with so many copies of the text; the paper itself has no more than two.

        Raises:
            ConfigError: ``copies`` is below 1.
        """
        if copies < 1:
            raise ConfigError(f"copies={copies}: a template has at least one copy of the text")
        if copies == 1:
            return cls("Write a paragraph: {text}")
        return cls("Rewrite the following paragraph: {text}" + "\nThe rewritten paragraph: {text}" * (copies - 1))

    @classmethod
    def from_chat(
        cls,
        tokenizer: Any,
        user: str = "Rewrite the following paragraph: {text}",
        assistant: str | None = "The rewritten paragraph: {text}",
        system: str | None = None,
    ) -> Template:
        """Lay a template into the chat template of a tokenizer, for models that want to be spoken to in it.

        Encoders do not apply a chat template by themselves, because plain words serve most models as well.

        Args:
            tokenizer: a tokenizer of transformers that has a chat template.
            user: what the user says; ``{text}`` and ``{instruction}`` are fields, as in a template.
            assistant: what the model says, unfinished: nothing is put behind it. By default the second copy stands
                here. ``None`` for the beginning of its turn alone.
            system: what the system says; ``None`` for what the chat template says by itself.

        Raises:
            ConfigError: the tokenizer has no chat template, it cannot be rendered with these messages, or the result is
                no template.
        """
        said = {"system": system, "user": user, "assistant": assistant}
        messages = [{"role": role, "content": _marked(text)} for role, text in said.items() if text is not None]
        if not getattr(tokenizer, "chat_template", None):
            raise ConfigError(
                f"this {type(tokenizer).__name__} has no chat template, so its model was not trained with one; use a "
                "plain template"
            )
        ends = {"continue_final_message": True} if assistant is not None else {"add_generation_prompt": True}
        try:
            rendered = tokenizer.apply_chat_template(messages, tokenize=False, **ends)
        except Exception as error:  # whatever the chat template raises
            raise ConfigError(
                f"the tokenizer's chat template cannot be rendered with these messages: {error}"
            ) from error
        text = rendered.replace("{", "{{").replace("}", "}}")
        for field, mark in _MARKS.items():
            if (found := rendered.count(mark)) != (wanted := sum((one or "").count(field) for one in said.values())):
                raise ConfigError(f"the tokenizer's chat template shows {field} {found} times, not {wanted} times")
            text = text.replace(mark, field)
        return cls(text, bos=False, special=True)

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
        """The strings before, between and behind the copies, in the pieces that are tokenised separately.

        Args:
            instruction: what stands for ``{instruction}``; ``None`` takes the template's own.

        Returns:
            ``copies + 1`` lists of pieces. Without ``isolated`` each list has at most one piece.

        Raises:
            ConfigError: an instruction is given and the template has no place for it, or the other way round.
            TypeError: the instruction is no string.
        """
        instruction = self._resolve_instruction(instruction)
        groups: list[list[str]] = [[]]
        after_instruction, before = False, self.prompt
        for found, field in _parse(self.text):
            literal = before + (found.removesuffix(" ") if field == "text" and self.spaced else found)
            before = ""
            # The authors tokenise an instruction with the rest of its line: `{!%%prompt%%,}` in their README.
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

    def prompted(self, prompt: str) -> Template:
        """A copy with a prompt: it is the instruction where the template has a place for one, else it stands before it.

        Raises:
            TypeError: the prompt is no string.
        """
        return replace(self, instruction=prompt) if self.takes_instruction else replace(self, prompt=prompt)

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


def _marked(text: str) -> str:
    for field, mark in _MARKS.items():
        text = text.replace(field, mark)
    return text.replace("{{", "{").replace("}}", "}")


def _parse(text: str) -> list[tuple[str, str | None]]:
    """``[(literal, field that follows it or None), ...]``, with single braces for doubled ones."""
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
    """The first line of ``literal``, and the rest from its newline on."""
    line, newline, rest = literal.partition("\n")
    return line, newline + rest
