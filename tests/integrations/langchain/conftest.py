import pytest

QUESTION = "Rewrite the following question: {text}\nThe rewritten question: {text}"


@pytest.fixture(scope="session")
def asymmetric_encoder(builtin_encoder):
    """Queries go through another template than documents."""
    return builtin_encoder.with_config(builtin_encoder.config.replace(query_template=QUESTION))
