"""``EncoderOptions``: what is refused before anything is loaded. How they are used is in ``test_encoder.py``."""

import pytest

from echo_embeddings import EncoderOptions
from echo_embeddings.errors import ModelError


@pytest.mark.parametrize(
    ("name", "reason"), [("x" * 5000, "it has 5,000 letters"), ("a\0b", "it has a character that no name has")]
)
@pytest.mark.parametrize("argument", ["model", "adapter"])
def test_a_name_that_nothing_can_have(argument, name, reason):
    with pytest.raises(ModelError, match=f"^{argument}='.{{1,50}}is no path and no hub id .{reason}.*give a hub id"):
        EncoderOptions(**{argument: name})
