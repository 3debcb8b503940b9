import copy
import re

import pytest

from echo_embeddings import ConfigError, EchoConfig, Template
from echo_embeddings.text.tokenizer import EchoTokenizer
from tests.architectures import small_tokenizer


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


# --- chat templates ---------------------------------------------------------------------------------------------------

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] | trim }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def chatty():
    """A tokenizer with a chat template; the names of turns are special tokens."""
    tokenizer = small_tokenizer(["user assistant system the rewritten paragraph: rewrite following {x} a text"] * 3)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHATML
    return tokenizer


def test_a_chat_template_is_rendered_around_the_echo(chatty):
    template = Template.from_chat(chatty)
    assert template.text == (
        "<|im_start|>user\nRewrite the following paragraph: {text}<|im_end|>\n"
        "<|im_start|>assistant\nThe rewritten paragraph: {text}"
    )
    assert (template.copies, template.bos, template.special) == (2, False, True)


def test_other_messages_make_other_templates(chatty):
    once = Template.from_chat(chatty, "{instruction}: {text}", assistant=None, system="You {{x}} embed.")
    assert once.text == (
        "<|im_start|>system\nYou {{x}} embed.<|im_end|>\n<|im_start|>user\n{instruction}: {text}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert once.literals("find")[0] == ["<|im_start|>system\nYou {x} embed.<|im_end|>\n<|im_start|>user\nfind:"]


def test_names_of_special_tokens_are_tokens_in_the_template_and_words_in_a_text(chatty):
    tokenizer = EchoTokenizer(chatty)
    start, end = chatty.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    layout = tokenizer.layout(Template.from_chat(chatty))
    assert [list(part).count(start) for part in layout.literals] == [1, 1, 0]
    assert [list(part).count(end) for part in layout.literals] == [0, 1, 0]
    (content,) = tokenizer.contents(["<|im_end|>"], spaced=True)
    assert end not in content.ids
    plain = tokenizer.layout(Template(Template.from_chat(chatty).text, bos=False))
    assert all(start not in part and end not in part for part in plain.literals)


def test_a_whole_conversation_has_the_ids_that_the_model_was_trained_on(chatty):
    tokenizer, text = EchoTokenizer(chatty), "a text"
    layout = tokenizer.layout(Template.from_chat(chatty))
    (content,) = tokenizer.contents([text], spaced=True)
    found = [i for part in layout.literals[:-1] for i in (*part, *content.ids)]
    messages = [
        {"role": "user", "content": f"Rewrite the following paragraph: {text}"},
        {"role": "assistant", "content": f"The rewritten paragraph: {text}"},
    ]
    expected = chatty.apply_chat_template(messages, continue_final_message=True)
    assert found == list(getattr(expected, "input_ids", expected))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "has no chat template, so its model was not trained with one"),
        ("{{ raise_exception('no such role') }}", "cannot be rendered with these messages: no such role"),
        ("{{ messages[0]['content'] }}{{ messages[0]['content'] }}", r"shows \{text\} 2 times, not 1 times"),
    ],
)
def test_chat_templates_that_cannot_be_used(chatty, template, message):
    other = copy.deepcopy(chatty)
    other.chat_template = template
    with pytest.raises(ConfigError, match=message):
        Template.from_chat(other, assistant=None)


def test_only_such_a_template_is_saved_with_the_flag(tmp_path):
    plain, special = EchoConfig("a {text} b {text}"), EchoConfig(Template("a {text} b {text}", special=True))
    assert "special" not in plain.to_dict()["template"]
    assert special.fingerprint() != plain.fingerprint()
    special.save(tmp_path)
    assert EchoConfig.load(tmp_path) == special
    with pytest.raises(ConfigError, match="special=1: give True or False"):
        Template("{text}", special=1)
