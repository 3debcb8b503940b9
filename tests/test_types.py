import pytest

from echo_embeddings.errors import ConfigError, InputError
from echo_embeddings.types import require_whole


def test_whole_numbers():
    require_whole("k", 1, InputError)
    require_whole("steps", 0, ConfigError, at_least=0)
    for value in (0, -3, True, 2.0, "5", None):
        with pytest.raises(InputError, match=f"^k={value!r}: give a whole number of at least 1$"):
            require_whole("k", value, InputError)
    with pytest.raises(ConfigError, match="^steps=-1: give a whole number of at least 0$"):
        require_whole("steps", -1, ConfigError, at_least=0)
