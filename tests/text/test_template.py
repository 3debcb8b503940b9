import re

import pytest

from echo_embeddings import ConfigError, Template


def test_a_space_before_the_text_belongs_to_the_text():
    template = Template("Rewrite: {text}\nRewritten: {text} end")
    assert template.spaced
    assert template.copies == 2
    assert template.literals() == [["Rewrite:"], ["\nRewritten:"], [" end"]]


def test_only_one_space_is_taken():
    assert Template("a  {text}").literals() == [["a "], []]


def test_without_space_nothing_is_taken():
    template = Template("{text}\n{text}")
    assert not template.spaced
    assert template.literals() == [[], ["\n"], []]


def test_doubled_braces_are_braces():
    assert Template("{{a}} {text}").literals() == [["{a}"], []]


def test_an_instruction_is_joined_to_its_surroundings():
    template = Template("Instruct:{instruction},\nQuery:{text}")
    assert template.literals("Find it") == [["Instruct:Find it,\nQuery:"], []]


def test_isolated_pieces_are_cut_as_the_authors_cut_them():
    template = Template("Instruct:{instruction},\nQuery:{text}\nQuery again:{text}", isolated=True)
    assert template.literals("Find it") == [["Instruct:", "Find it,", "\nQuery:"], ["\nQuery again:"], []]


def test_braces_in_an_instruction_are_text():
    assert Template("{instruction}: {text}").literals("{text} {x}") == [["{text} {x}:"], []]


def test_a_default_instruction_is_used_and_can_be_replaced():
    template = Template("{instruction}\n{text}", instruction="Search")
    assert template.literals() == [["Search\n"], []]
    assert template.literals("Sort") == [["Sort\n"], []]


@pytest.mark.parametrize("copies", [1, 2, 3, 5])
def test_repeat_gives_that_many_copies(copies):
    assert Template.repeat(copies).copies == copies


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no field", "has no {text}; write {text} where each copy shall stand"),
        ("{text} {title}", "unknown field {title}; only {text} and {instruction} are fields"),
        ("{text} {0}", "unknown field {0}"),
        ("{text", "write {{ and }} for plain braces"),
        ("{instruction}{instruction}{text}", "has {instruction} more than once"),
        ("{text} {text}", "a space before some {text} but not before others"),
        ("{text!r}", "takes no format or conversion"),
    ],
)
def test_what_cannot_work_is_refused_at_construction(text, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        Template(text)


def test_a_template_must_be_a_string():
    with pytest.raises(TypeError, match="a template is a string"):
        Template(7)


def test_instructions_and_templates_must_fit():
    with pytest.raises(ConfigError, match="needs an instruction; pass instruction="):
        Template("{instruction} {text}").literals()
    with pytest.raises(ConfigError, match="'Find' was given, but template '{text}' has no {instruction}"):
        Template("{text}").literals("Find")
    with pytest.raises(ConfigError, match="has no {instruction} for 'Find' to go to"):
        Template("{text}", instruction="Find")
    with pytest.raises(ConfigError, match="copies=0"):
        Template.repeat(0)


@pytest.mark.parametrize("field", ["bos", "eos", "pool_tail", "isolated"])
@pytest.mark.parametrize("wrong", ["yes", 1, 0.0, []])
def test_a_flag_is_true_or_false(field, wrong):
    with pytest.raises(ConfigError, match=re.escape(f"{field}={wrong!r}: give True or False")):
        Template("{text}", **{field: wrong})


def test_only_bos_may_be_left_to_the_tokenizer():
    assert Template("{text}", bos=None).bos is None
    with pytest.raises(ConfigError, match="eos=None: give True or False"):
        Template("{text}", eos=None)


def test_an_instruction_is_a_string():
    with pytest.raises(TypeError, match="instruction must be a string, not int"):
        Template("{instruction} {text}", instruction=3)


@pytest.mark.parametrize("prompt", ["query: ", "Q:\n", "{text} {x}", "<|im_start|>", " "])
def test_a_prompt_stands_once_before_the_template_as_it_is(prompt):
    assert Template("{text}\n{text}", prompt=prompt).literals() == [[prompt], ["\n"], []]
    assert Template("Rewrite: {text} again: {text}").prompted(prompt).literals() == [
        [f"{prompt}Rewrite:"],
        [" again:"],
        [],
    ]
    assert Template("{instruction}\n{text}").prompted(prompt).literals() == [[f"{prompt}\n"], []]
    assert Template("{text}").prompted("").literals() == Template("{text}").literals()


def test_a_prompt_is_a_string():
    with pytest.raises(TypeError, match="prompt must be a string, not int"):
        Template("{text}", prompt=3)
