"""The rivals of research/paper: each against a computation by hand, on tiny models of two architectures."""

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf

from echo_embeddings import EchoConfig
from echo_embeddings.evaluation.datasets import Pairs, Retrieval
from echo_embeddings.forward.pooling import mean_pooling
from echo_embeddings.model.architecture import layers_of
from echo_embeddings.text.template import Template
from research.paper.experiments import methods as experiment
from research.paper.methods import catalogue, kv_embedding, plain, samples, variants
from research.paper.methods.configs import Config
from research.paper.methods.kv_embedding import KVEmbedding
from research.paper.methods.masks import Masked, visible_both_ways, visible_without_first
from research.paper.methods.measuring import Bench
from research.paper.methods.meta_eol import PROMPTS, MetaEOL
from research.paper.methods.method import Subject
from research.paper.methods.token_prepending import HierarchicalTokenPrepending, TokenPrepending
from research.paper.study import NotMeasured, Study
from tests.architectures import CONFIGS, small_tokenizer, tiny

TEXTS = [
    "The ferry leaves at dawn. Does it come back?",
    "A short one",
    "The committee met on Tuesday to discuss the budget!",
    "The ferry leaves at dusk. Does it come back?",
]
METHODS = catalogue.methods(max_length=64)
EOL = EchoConfig.preset("prompt-eol")


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def subject(request):
    # Gemma 3's window is wider than the texts, as it is in the real model, but for the tests of masks.
    changes = {"sliding_window": 512} if request.param == "gemma3" else {}
    return Subject(tiny(request.param, **changes), small_tokenizer([*TEXTS, *PROMPTS]))


def vectors(method, subject, texts=TEXTS, role="document"):
    return method.embed(subject, texts, role).vectors


def same(a, b, tolerance=2e-5):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_every_method_of_the_list_is_there():
    names = [method.name for method in METHODS]
    assert len(set(names)) == len(names) == 18
    assert {catalogue.CLASSICAL.name, catalogue.CLASSICAL_LAST.name, catalogue.ECHO.name} < set(names)
    assert all(method.source for method in METHODS)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_vector_does_not_depend_on_the_texts_beside_it(method, subject):
    whole = method.embed(subject, TEXTS, "document")
    same(whole.vectors[::-1], vectors(method, subject, TEXTS[::-1]))
    alone = method.embed(subject, TEXTS[2:3], "document")
    same(whole.vectors[2:3], alone.vectors)
    rest = method.embed(subject, [*TEXTS[:2], *TEXTS[3:]], "document")
    assert whole.layer_tokens == alone.layer_tokens + rest.layer_tokens
    assert whole.vectors.dtype == np.float32


def test_the_causal_mask_is_the_classical_method(subject):
    ours, classical = (one.embed(subject, TEXTS, "document") for one in (catalogue.PLAIN, catalogue.CLASSICAL))
    same(ours.vectors, classical.vectors)
    assert ours.layer_tokens == classical.layer_tokens


@pytest.mark.parametrize("name", ["llama", "gemma3", "mistral-window", "qwen3"])
def test_masks_keep_to_the_windows_of_a_model(name):
    model, ids = tiny(name), torch.arange(3, 23)[None]
    mask = plain.masks(model.config, plain.visible_causal(20))
    with torch.inference_mode():
        ours = model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        same(ours, model(input_ids=ids, use_cache=False).last_hidden_state)


def test_the_bidirectional_mask_is_that_of_transformers():
    # Gemma 3 has a flag for it, so its own masks are the reference. It takes half of a window to each side: 7 // 2 + 1.
    ours, theirs = tiny("gemma3", sliding_window=4), tiny("gemma3", use_bidirectional_attention=True)
    ids = torch.arange(3, 23)[None]
    mask = plain.masks(ours.config, visible_both_ways(20))
    with torch.inference_mode():
        found = ours(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        same(found, theirs(input_ids=ids, use_cache=False).last_hidden_state)
        assert (found - ours(input_ids=ids, use_cache=False).last_hidden_state).abs().max() > 0.1


def test_a_full_mask_is_no_mask_at_all():
    model, ids = tiny("llama"), torch.arange(3, 23)[None]
    with torch.inference_mode():
        ours = model(input_ids=ids, attention_mask=plain.masks(model.config, visible_both_ways(20)))
        nothing = torch.zeros(1, 1, 20, 20)
        same(ours.last_hidden_state, model(input_ids=ids, attention_mask=nothing).last_hidden_state)


def test_who_sees_whom_without_the_first_token():
    assert visible_without_first(3).tolist() == [[True, True, True], [False, True, True], [False, True, True]]


def test_what_stands_first_changes_no_other_token_if_it_is_hidden(subject):
    rows = plain.around(subject, TEXTS, EchoConfig.preset("classical").templates[0])
    others = [plain.Row((11, *row.ids[1:]), row.pooled) for row in rows]
    hidden = [
        plain.embed(subject, these, mean_pooling, visible=visible_without_first).vectors for these in (rows, others)
    ]
    seen = [plain.embed(subject, these, mean_pooling, visible=visible_both_ways).vectors for these in (rows, others)]
    same(*hidden)
    assert np.abs(seen[0] - seen[1]).max() > 1e-2
    same(hidden[0], vectors(Masked("m", "s", "both ways, without the first"), subject))


def test_methods_that_differ_in_pooling_share_a_pass(subject):
    texts = [*TEXTS, "Read by no other test."]
    first, second, other = (one.embed(subject, texts, "document") for one in METHODS[1:4])
    assert first.seconds == second.seconds > 0
    assert other.seconds != first.seconds
    assert np.abs(first.vectors - second.vectors).max() > 1e-2


def test_meta_eol_is_the_mean_of_its_prompts(subject):
    two = ('This sentence : "{text}" means in one word:"', PROMPTS[-2])
    expected = [
        Config("one", "s", EchoConfig(Template(prompt, pool_tail=True), pooling="last")).embed(
            subject, TEXTS, "document"
        )
        for prompt in two
    ]
    found = MetaEOL("two", "s", two).embed(subject, TEXTS, "document")
    same(found.vectors, (expected[0].vectors + expected[1].vectors) / 2)
    assert found.layer_tokens == expected[0].layer_tokens + expected[1].layer_tokens
    same(vectors(MetaEOL("one", "s", two[:1]), subject), vectors(Config("eol", "s", EOL), subject))


def test_token_prepending_without_layers_is_prompt_eol(subject):
    ours = TokenPrepending("none", "s", stop=0, exit=None).embed(subject, TEXTS, "document")
    plain_eol = Config("eol", "s", EOL).embed(subject, TEXTS, "document")
    same(ours.vectors, plain_eol.vectors)
    assert ours.layer_tokens == plain_eol.layer_tokens


def test_token_prepending_layer_by_layer():
    # Copied before the second and the third of six layers, and read after five: a loop over the layers.
    subject = Subject(tiny("llama"), small_tokenizer(TEXTS))
    found = TokenPrepending("tp", "s", stop=0.5, exit=5 / 6).embed(subject, TEXTS[:1], "document")
    template = EOL.templates[0]
    layout = subject.echo_tokenizer.layout(template)
    (content,) = subject.echo_tokenizer.contents(TEXTS[:1], spaced=template.spaced)
    ids = torch.from_numpy(layout.assemble(content.ids))
    place = len(layout.literals[0]) - 1
    table = subject.body.embed_tokens
    with torch.inference_mode():
        new = table.weight.mean(0, keepdim=True)
        states = torch.cat([table(ids[:place]), new, table(ids[place:])])[None]
        angles = subject.body.rotary_emb(states, torch.arange(states.shape[1])[None])
        mask = plain.masks(subject.body.config, plain.visible_causal(states.shape[1]))
        for number, layer in enumerate(layers_of(subject.body)[:5]):
            if number in (1, 2):
                states[:, place] = states[:, -1]
            states = layer(states, attention_mask=mask, position_embeddings=angles)
    same(found.vectors[0], states[0, -1])
    assert found.layer_tokens == 5 * (len(ids) + 1)


def test_where_the_hierarchical_form_copies_from():
    subject = Subject(tiny("llama"), small_tokenizer(TEXTS))
    row = HierarchicalTokenPrepending("htp", "s")._row(subject, "A b. C d!", "document")
    first, second = (len(one.ids) for one in subject.echo_tokenizer.contents(["A b.", "C d!"], spaced=True))
    # <s> <B-PST> <B-PST> <PST> "A b." <PST> "C d!" </s>: a block ends before the next <PST>, the last one at the EOS.
    middle, end = 4 + first, 5 + first + second
    assert len(row.ids) == end + 1
    assert [i for i, one in enumerate(row.ids) if one == plain.NEW] == [1, 2, 3, middle]
    assert sorted(row.copies) == [(1, middle - 1), (2, end), (3, middle - 1), (middle, end)]
    assert row.pooled == (*range(4, middle), *range(middle + 1, end))
    assert row.ids[end] == subject.tokenizer.eos_token_id
    asked = HierarchicalTokenPrepending("htp", "s")._row(subject, "A b. C d!", "query")
    assert row.ids[0] == asked.ids[0] == subject.tokenizer.bos_token_id
    assert asked.ids[1 - len(row.ids) :] == row.ids[1:]
    assert len(asked.ids) > len(row.ids)


def test_the_hierarchical_form_without_layers_is_a_mean_over_the_text(subject):
    row = HierarchicalTokenPrepending("htp", "s", stop=0)._row(subject, TEXTS[0], "document")
    without = plain.embed(subject, [plain.Row(row.ids, row.pooled)], mean_pooling, layers=subject.depth - 1)
    same(vectors(HierarchicalTokenPrepending("htp", "s", stop=0), subject, TEXTS[:1]), without.vectors)
    assert (
        np.abs(vectors(HierarchicalTokenPrepending("htp", "s", stop=0.5), subject, TEXTS[:1]) - without.vectors).max()
        > 1e-2
    )


def test_kv_embedding_without_layers_is_its_prompt_alone(subject):
    template = Template("Context: {text} Compress the Context in one word:", pool_tail=True)
    last, mean = (vectors(Config(pool, "s", EchoConfig(template, pooling=pool)), subject) for pool in ("last", "mean"))
    same(vectors(KVEmbedding("none", "s", first=0.5, stop=0.5), subject), (last + mean) / 2)
    assert np.abs(vectors(KVEmbedding("kv", "s"), subject) - (last + mean) / 2).max() > 1e-2
    assert subject.body.config._attn_implementation == "sdpa"


def test_kv_embedding_shows_the_last_key_and_value_to_all():
    # Queries of zeros give every visible key the same weight, so that an output is the mean of the values it sees.
    module = torch.nn.Module()
    module.layer_idx, module.num_key_value_groups, module.is_causal = 3, 1, True
    query, key = torch.zeros(1, 1, 3, 2), torch.randn(1, 1, 3, 2)
    value = torch.tensor([[[[1.0, 0.0], [2.0, 0.0], [9.0, 6.0]]]])
    mask = plain.masks(CONFIGS["llama"], plain.visible_causal(3))
    shown, _ = kv_embedding._attention(module, query, key, value, mask, kv_layers=frozenset({3}))
    same(shown[0, :, 0], [[(9 + 1) / 2, 3], [(9 + 1 + 2) / 3, 2], [(9 + 1 + 2 + 9) / 4, 3]])
    hidden, _ = kv_embedding._attention(module, query, key, value, mask, kv_layers=frozenset({2}))
    same(hidden[0, :, 0], [[1, 0], [1.5, 0], [4, 2]])


def test_kv_embedding_has_another_prompt_for_queries(subject):
    assert np.abs(vectors(METHODS[13], subject) - vectors(METHODS[13], subject, role="query")).max() > 1e-2


def test_what_methods_cost_in_layer_tokens():
    subject = Subject(tiny("llama"), small_tokenizer(TEXTS))
    texts = subject.echo_tokenizer.contents(TEXTS, spaced=True)
    content = sum(len(one.ids) for one in texts)

    def tokens(preset):
        layout = subject.echo_tokenizer.layout(EchoConfig.preset(preset).templates[0])
        return layout.copies * content + len(TEXTS) * layout.overhead

    cost = {method.name: method.embed(subject, TEXTS, "document").layer_tokens for method in METHODS}
    assert cost["classical, mean"] == cost["bidirectional mask"] == 6 * tokens("classical")
    assert cost["echo, mean"] == cost["echo, last token"] == 6 * tokens("echo")
    # Late echo: four layers run the text once, one runs both copies, and the last is left out.
    assert cost["late echo"] == 4 * (tokens("echo") - content) + tokens("echo")
    assert cost["Pretended CoT"] == 5 * tokens("pretended-cot")
    assert cost["repetition without instruction"] > 6 * 2 * content - 1


def test_compute_matched_echo_reads_half_of_a_long_text():
    subject = Subject(tiny("llama"), small_tokenizer(TEXTS))
    method = next(one for one in catalogue.methods(8) if one.name == catalogue.COMPUTE_MATCHED)
    found = method.embed(subject, TEXTS[2:3], "document")
    overhead = subject.echo_tokenizer.layout(EchoConfig.preset("echo").templates[0]).overhead
    assert found.layer_tokens == 6 * (overhead + 2 * 4)


def test_whitening_makes_all_directions_alike():
    rng = np.random.default_rng(0)
    given = (rng.normal(size=(500, 6)) @ rng.normal(size=(6, 6)) + 3).astype(np.float32)
    white = variants.shrunk_whitening(given, shrinkage=0)(given)
    same(np.cov(white.T, bias=True), np.eye(6), 1e-3)
    # With fewer texts than dimensions no direction is scaled up without bound.
    few = variants.shrunk_whitening(given[:3])(given)
    assert np.abs(few).max() < 100


def test_a_single_token_may_be_normed_after_it_is_pooled(subject):
    without = EOL.replace(final_norm=False)
    same(subject.normed(vectors(Config("w", "s", without), subject)), vectors(Config("n", "s", EOL), subject))
    assert not Config("w", "s", without).ends_with_norm(6)


def test_scores_have_every_variant_and_words_help_where_words_decide():
    pairs = Pairs([3.0, 1.0, 2.0], ["alpha beta", "gamma delta", "one two"], ["alpha beta", "omega psi", "one three"])
    rng = np.random.default_rng(0)
    flat = np.ones((len(pairs.texts[0]), 8), np.float32) + rng.normal(scale=1e-3, size=(len(pairs.texts[0]), 8))
    maps = variants.transforms(rng.normal(size=(20, 8)).astype(np.float32), lambda given: given[:, :4])
    found = variants.scores(pairs, flat.astype(np.float32), None, maps)
    assert set(found) == {name + words for name in variants.NAMES for words in ("", variants.WORDS)}
    assert variants.words_alone(pairs) == pytest.approx(100)
    assert found["raw" + variants.WORDS] == pytest.approx(100)


# The experiment.


def written(folder: Path) -> Path:
    """A folder of data with the sets that the experiment wants: random words."""
    rng = random.Random(0)
    words = ["ferry", "dawn", "budget", "river", "harbour", "minister", "evening", "letter", "garden", "bridge"]

    def sentence():
        return " ".join(rng.choices(words, k=rng.randint(3, 6)))

    (folder / "sts").mkdir(parents=True)
    for name in samples.QUICK.pairs:
        lines = [f"{rng.random():.2f}\t{sentence()}\t{sentence()}" for _ in range(50)]
        (folder / "sts" / f"{name}.tsv").write_text("score\tsentence1\tsentence2\n" + "\n".join(lines) + "\n")
    for name in samples.QUICK.queries:
        inside = folder / "retrieval" / name
        (inside / "qrels").mkdir(parents=True)
        for file, prefix, count in (("corpus.jsonl", "d", 30), ("queries.jsonl", "q", 20)):
            rows = [json.dumps({"_id": f"{prefix}{i}", "text": sentence()}) for i in range(count)]
            (inside / file).write_text("\n".join(rows) + "\n")
        judged = [f"q{i}\td{j}\t1" for i in range(20) for j in (i, i + 1, i + 2)]
        (inside / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(judged) + "\n")
    return folder


@pytest.fixture(scope="module")
def study_of(tmp_path_factory):
    """A function that makes a study of a tiny model."""
    folder = tmp_path_factory.mktemp("study")
    config = CONFIGS["llama"].__class__(**(CONFIGS["llama"].to_dict() | {"max_position_embeddings": 2048}))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tf.AutoModelForCausalLM.from_config(config).save_pretrained(folder / "model")
    small_tokenizer([*TEXTS, *PROMPTS]).save_pretrained(folder / "model")
    data = written(folder / "data")

    def make(output, *, measure=True):
        return Study(folder / output, {"tiny": str(folder / "model")}, data, quick=True, measure=measure)

    return make


def test_a_sample_keeps_its_size_and_the_texts_for_fitting_are_others(study_of):
    study, tokenizer = study_of("none"), Subject(tiny("llama"), small_tokenizer(TEXTS)).echo_tokenizer
    found = [samples.sample_of(study, "med", number, tokenizer) for number in range(2)]
    assert all(isinstance(one, Retrieval) and len(one.documents) == samples.QUICK.documents for one in found)
    assert all(len(relevance) <= 2 for one in found for relevance in one.judgements.values())
    assert not set(found[0].judgements) & set(found[1].judgements)
    fitted = set(samples.fitting_texts(study, tokenizer))
    rows = lambda name, number: set(study.pairs(name, number, samples.QUICK.pairs[name]).texts[0])  # noqa: E731
    scored = set().union(*(rows(name, number) for name in samples.QUICK.pairs for number in range(2)))
    assert len(fitted) > 20
    assert len(fitted & scored) < 5  # random words make a sentence twice now and then


def test_a_killed_run_goes_on_and_gives_the_same_report(study_of, monkeypatch):
    monkeypatch.setattr(samples, "QUICK", replace(samples.QUICK, samples=1))
    monkeypatch.setattr(experiment, "all_methods", lambda _: (catalogue.CLASSICAL, METHODS[11]))
    whole = experiment.run(study_of("whole"))
    study = study_of("killed")
    once, count = study.once, iter(range(1000))

    def killed(*given):
        if study.measure and next(count) == 15:
            raise KeyboardInterrupt
        return once(*given)

    monkeypatch.setattr(study, "once", killed)
    with pytest.raises(KeyboardInterrupt):
        experiment.run(study)
    again = experiment.run(study_of("killed"))
    reported = experiment.run(study_of("killed", measure=False))

    def scores(section):  # times are measured and differ
        return [[cells[:2] + cells[3:] for cells in table.rows] for table in section.tables]

    assert scores(whole) == scores(again) == scores(reported)
    assert reported == again


def test_nothing_measured_is_said(study_of):
    with pytest.raises(NotMeasured):
        experiment.run(study_of("empty", measure=False))


def test_scores_of_other_data_are_measured_again(study_of):
    first = Bench(study := study_of("changed")).words("tiny", "stsb_en", 0)
    assert Bench(study_of("changed", measure=False)).words("tiny", "stsb_en", 0) == first
    path = study.data / "sts" / "stsb_en.tsv"
    content = path.read_text()
    path.write_text(content.replace("ferry", "river").replace("budget", "letter"))
    try:
        with pytest.raises(NotMeasured):
            Bench(study_of("changed", measure=False)).words("tiny", "stsb_en", 0)
        assert Bench(study_of("changed")).words("tiny", "stsb_en", 0) != first
    finally:
        path.write_text(content)
    assert Bench(study_of("changed", measure=False)).words("tiny", "stsb_en", 0) == first


def row(name, similarity, retrieval=(50.0, 52.0), cost=1.0):
    """What was measured of a method, if all sets of a kind have the same scores."""
    kinds = {"similarity": similarity, "retrieval": retrieval}
    names = [f"{one}{words}" for one in variants.NAMES for words in ("", variants.WORDS)]
    sets = {
        one: [dict.fromkeys(names, value) for value in kinds[kind]] for kind in kinds for one in experiment.KINDS[kind]
    }
    return experiment.Row(name, sets, dict.fromkeys(kinds, cost), cost)


def report(*rows):
    return experiment.section({"M": experiment.Rows({one.name: one for one in rows}, 2, ["Absent"])})


def test_what_does_not_hold_comes_first():
    section = report(
        row(catalogue.CLASSICAL.name, (40.0, 44.0)),
        row(catalogue.CLASSICAL_LAST.name, (20.0, 22.0)),
        row(catalogue.ECHO.name, (46.0, 48.0), cost=2.0),
        row(catalogue.ECHO_LAST.name, (21.0, 24.0), cost=2.0),
        row("Rival", (60.0, 66.0), cost=0.5),
    )
    findings = section.findings
    assert findings[0].startswith("**Does not hold on M:** The paper's echo")
    assert "Measured: 5.0 ± 1.4 points" in findings[0]
    assert findings[1].startswith("**Holds on M:** The classical last token")
    best = next(text for text in findings if text.startswith("**Best for similarity on M, raw vectors"))
    assert "Rival with 63.0 at 0.50 passes" in best
    assert "the margin is 16.0 ± 2.8 points" in best
    assert "Over the paper's echo, raw, it gains 16.0 ± 2.8 points" in best
    assert "Not measured on M: Absent." in findings


def test_tables_have_a_line_for_each_method_with_its_cost():
    section = report(row(catalogue.CLASSICAL.name, (40.0, 44.0)), row(catalogue.ECHO.name, (60.0, 66.0), cost=2.0))
    (summary,), table = section.first, section.tables[0]
    assert summary.header == ["method", "M, similarity", "M, retrieval", "passes, similarity", "passes, retrieval"]
    assert summary.rows[1] == [catalogue.ECHO.name, "63.0 ± 4.2", "51.0 ± 1.4", "2.00", "2.00"]
    assert table.header == ["method", "passes", "time", "raw", "standardised", "whitened", "EmbedFilter"]
    assert table.rows[1] == [catalogue.ECHO.name, "2.00", "2.00", *["63.0 ± 4.2"] * 4]
    assert len(section.tables) == 5


def test_methods_with_more_samples_are_compared_again_on_those():
    base = row(catalogue.CLASSICAL.name, (40.0,), (50.0,))
    more = [row(catalogue.CLASSICAL.name, (40.0, 44.0)), row("Rival", (60.0, 66.0))]
    every = {"M": experiment.Rows({base.name: base}, 1, ["Absent"])}
    closer = {"M": experiment.Rows({one.name: one for one in more}, 2, [])}
    section = experiment.section(every, closer)
    said = next(text for text in section.findings if text.startswith("On 2 samples of fewer methods"))
    assert "Rival with 63.0 at 1.00 passes" in said
    assert not any(text.startswith("**Best for") for text in section.findings), "one sample says too little"
    captions = [table.caption.partition(":")[0] for table in (*section.first, section.tables[0])]
    assert captions == ["**In short**, 2 samples", "**In short**, one sample"]
    table = section.tables[1]
    assert table.caption.startswith("On 2 samples of fewer methods. **M, similarity**")
    assert [line[0] for line in table.rows] == [catalogue.CLASSICAL.name, "Rival"]
    assert len(section.tables) == 1 + 4 + 5


def test_a_claim_is_judged_on_more_samples_where_both_methods_have_them():
    few = [
        row(catalogue.CLASSICAL.name, (40.0,)),
        row(catalogue.ECHO.name, (46.0,)),
        row(catalogue.ECHO_LAST.name, (9.0,)),
    ]
    more = [row(catalogue.CLASSICAL.name, (40.0, 44.0)), row(catalogue.ECHO.name, (50.0, 56.0))]
    every, closer = ({"M": experiment.Rows({one.name: one for one in some}, 2, [])} for some in (few, more))
    claims = [
        text for text in experiment.section(every, closer).findings if "the classical mean" in text or "last" in text
    ]
    assert claims[0].startswith("**Holds on M:** The paper's echo")
    assert "Measured: 11.0 ± 1.4 points" in claims[0]
    assert "Measured: 37.0 points" in claims[1]


def test_an_unknown_method_is_named(study_of):
    study = study_of("unknown")
    study.methods = ("Echo",)
    with pytest.raises(ValueError, match="no method 'Echo'; there are classical, mean, "):
        experiment.run(study)


def test_the_spread_is_left_out_where_there_is_one_sample():
    assert experiment.spread([3.0]) == "3.0"
    assert experiment.spread([3.0, 5.0]) == "4.0 ± 1.4"
