"""The stock export: loaded by plain sentence-transformers, with no flag and with our packages out of reach."""

import json

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import AutoModel, AutoTokenizer

from echo_embeddings import ConfigError, EchoConfig, EchoEncoder, Lexical, ModelError, Template
from sentence_transformers_echo import export_stock, from_encoder
from tests import processes
from tests.conftest import cosines

LAST = EchoConfig.preset("echo").replace(pooling="last", exit_layer=0.5, final_norm=True)
LONG = "Every ferry of the harbour leaves at dawn or not at all, said the harbour master. " * 30
ALONE = """
import json, sys, warnings
warnings.simplefilter("ignore")
class Blocked:
    def find_spec(self, name, *_):
        if name.split(".")[0] in ("echo_embeddings", "sentence_transformers_echo"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
from sentence_transformers import SentenceTransformer
folder, texts = sys.argv[1], json.loads(sys.argv[2])
model = SentenceTransformer(folder)
vectors = [model.encode(texts, batch_size=3).tolist(), [model.encode(text).tolist() for text in texts]]
assert not {"echo_embeddings", "sentence_transformers_echo"} & set(sys.modules)
print(json.dumps(vectors))
"""


def encode_alone(folder, texts):
    """Vectors in batches and one by one, from a process that cannot import us."""
    done = processes.run(ALONE, folder, json.dumps(texts))
    assert done.returncode == 0, done.stderr
    return np.array(json.loads(done.stdout), dtype=np.float32)


def test_the_real_model_without_flag_and_without_us(builtin_folder, tmp_path, texts):
    config = LAST.replace(max_length=20)
    encoder = EchoEncoder(config=config, dtype="float32", on_truncate="ignore")
    export_stock(encoder, tmp_path)
    texts = [*texts, LONG]
    expected = encoder.encode_documents(texts)
    assert encoder.truncated.texts == 3
    for vectors in encode_alone(tmp_path, texts):
        assert cosines(vectors, expected).min() > 0.9999
    # The layers above the exit are gone, and so is the chat template.
    assert json.loads((tmp_path / "config.json").read_text())["num_hidden_layers"] == 15
    assert not (tmp_path / "chat_template.jinja").exists()


CONFIGS = {
    "spaced": LAST,
    "no-space": EchoConfig("«{text}» «{text}", pooling="last"),
    "tail": EchoConfig(Template('"{text}" again "{text}" means:"', pool_tail=True, eos=True), pooling="last"),
    "bos": EchoConfig(Template("Document:{text}\nAgain:{text}", bos=True, eos=True, pool_tail=True), pooling="last"),
    "three": EchoConfig(Template.repeat(3), pooling="last", max_length=9),
    "classical": EchoConfig.preset("classical-last"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_last_token_config(tiny_encoder, tmp_path, texts, name):
    encoder = tiny_encoder(CONFIGS[name])
    encoder._options = encoder.options.replace(on_truncate="ignore")
    export_stock(encoder, tmp_path)
    model = SentenceTransformer(str(tmp_path))
    texts = [*texts, LONG]
    expected = encoder.encode_documents(texts)
    assert cosines(model.encode(texts), expected).min() > 0.9999
    assert cosines(np.stack([model.encode(text) for text in texts]), expected).min() > 0.9999
    assert model.get_embedding_dimension() == 32


def test_transforms_become_one_dense_layer(tiny_encoder, tmp_path, texts):
    encoder = tiny_encoder(LAST, tie_word_embeddings=True).fit_transforms(texts, ["standardize", "embed-filter"])
    export_stock(from_encoder(encoder), tmp_path)
    model = SentenceTransformer(str(tmp_path))
    assert [type(module).__name__ for module in model] == ["Transformer", "Pooling", "Dense", "Normalize"]
    assert cosines(model.encode(texts), encoder.encode_documents(texts)).min() > 0.9999
    encoder.runtime.backbone.model.bfloat16()
    with pytest.raises(ConfigError, match=r"transforms need float32, .*torch\.bfloat16; export from .*dtype='float32'"):
        export_stock(encoder, tmp_path / "low")


def test_each_role_is_exported_on_its_own(tiny_encoder, tmp_path, texts):
    query = Template("Task: {instruction}\n{text}\nAgain:\n{text}", instruction="find it")
    encoder = tiny_encoder(EchoConfig("Passage:{text}\nAgain:{text}", query, pooling="last"))
    export_stock(encoder, tmp_path / "d")
    export_stock(encoder, tmp_path / "q", role="query")
    export_stock(encoder, tmp_path / "i", role="query", instruction="refute it")
    documents, queries, told = (SentenceTransformer(str(tmp_path / name)).encode(texts) for name in "dqi")
    assert cosines(documents, encoder.encode_documents(texts)).min() > 0.9999
    assert cosines(queries, encoder.encode_queries(texts)).min() > 0.9999
    assert cosines(told, encoder.encode_queries(texts, instruction="refute it")).min() > 0.9999
    with pytest.raises(ConfigError, match="role='both' is unknown; choose 'document' or 'query'"):
        export_stock(encoder, tmp_path, role="both")


def test_anything_that_reads_tokenizer_json_echoes(tiny_encoder, tmp_path, texts):
    encoder = tiny_encoder(LAST)
    export_stock(encoder, tmp_path)
    tokenizer, model = AutoTokenizer.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path).eval()
    ids = tokenizer(texts[0], return_tensors="pt")
    with torch.inference_mode():
        vector = model(**ids).last_hidden_state[0, -1]
    vector = (vector / vector.norm()).numpy()
    assert float(vector @ encoder.encode_documents(texts[0])) > 0.9999


def test_a_book_does_not_fill_the_memory(tiny_encoder, tmp_path):
    encoder = tiny_encoder(LAST.replace(max_length=16))
    export_stock(encoder, tmp_path)
    # Without the cut before tokenisation its thousands of chunks would be laid out with one another.
    ids = AutoTokenizer.from_pretrained(tmp_path)(LONG * 200, truncation=True).input_ids
    layout = encoder.runtime.layout(LAST.templates[0], None)
    (content,) = encoder.runtime.contents([LONG], LAST.templates[0], None)
    assert ids == layout.assemble(content.ids).tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"final_norm": None}, "leaves layer 3 without the final norm, .* set final_norm=True"),
        ({"pooling": "mean"}, "pooling='mean' is over the last copy.*pooling='last', or use save"),
        ({"start_layer": 2}, "start_layer=2: a stock model cannot copy hidden states; export with start_layer=0"),
        ({"lexical": Lexical(np.ones(8))}, r"has words beside the echo \(lexical\).*config\.replace\(lexical=None\)"),
        ({"template": '"{text}" "{text}"'}, r"goes on behind the last \{text\}.*set pool_tail=True"),
    ],
)
def test_what_a_stock_model_cannot_do_is_said(tiny_encoder, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        export_stock(tiny_encoder(LAST.replace(**changes)), tmp_path)


def test_only_echo_models_are_exported(tmp_path):
    with pytest.raises(ModelError, match="first module is a Pooling, not an EchoModule; there is no echo in it"):
        export_stock(SentenceTransformer(modules=[Pooling(8)]), tmp_path)
