"""LangChain's own conformance suites, with the real model."""

from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from langchain_echo_embeddings import EchoEmbeddings


class TestEchoEmbeddingsUnit(EmbeddingsUnitTests):
    @property
    def embeddings_class(self):
        return EchoEmbeddings

    @property
    def embedding_model_params(self):
        return {"model": "SmolLM2-135M-Instruct", "dimensions": 64}


class TestEchoEmbeddingsIntegration(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self):
        return EchoEmbeddings
