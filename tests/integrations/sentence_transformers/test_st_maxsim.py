"""Token vectors in the multi-vector search of sentence-transformers."""

import numpy as np
from sentence_transformers.util import maxsim

from echo_embeddings import EchoConfig, EchoEncoder
from tests.architectures import small_tokenizer, tiny

DOCUMENTS = ["The ferry leaves the island at dawn.", "Bread", "A longer text about bread and ferries. " * 3]
QUERIES = ["the ferry", "bread rises"]


def test_maxsim_takes_token_vectors_of_any_length():
    tokenizer = small_tokenizer([*DOCUMENTS, *QUERIES])
    config = EchoConfig("{text}\n{text}", "Find: {text}\nFind: {text}", start_layer=2)
    encoder = EchoEncoder(tiny("llama"), config, tokenizer=tokenizer, dtype="float32", dimensions=16)
    documents = [one.vectors for one in encoder.encode_tokens(DOCUMENTS)]
    queries = [one.vectors for one in encoder.encode_tokens(QUERIES, role="query")]
    scores = maxsim(queries, documents).numpy()
    by_hand = [[(query @ document.T).max(axis=1).sum() for document in documents] for query in queries]
    np.testing.assert_allclose(scores, by_hand, rtol=1e-5)
    assert documents[0].shape[1] == 16
