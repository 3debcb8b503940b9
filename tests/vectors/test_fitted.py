import numpy as np
import pytest

from echo_embeddings import ConfigError
from echo_embeddings.vectors.fitted import Fitted


class Scale(Fitted):
    name = "scale"


class Other(Fitted):
    name = "other"


def test_equal_content_is_equal():
    one, same = (Scale(arrays={"factor": [1, 2]}, options={"kind": "a"}) for _ in range(2))
    assert one == same
    assert hash(one) == hash(same)
    assert len({one.digest(), same.digest()}) == 1


@pytest.mark.parametrize(
    "other",
    [
        Scale(arrays={"factor": [1, 3]}, options={"kind": "a"}),
        Scale(arrays={"factor": [[1, 2]]}, options={"kind": "a"}),
        Scale(arrays={"other": [1, 2]}, options={"kind": "a"}),
        Scale(arrays={"factor": [1, 2]}, options={"kind": "b"}),
        Other(arrays={"factor": [1, 2]}, options={"kind": "a"}),
        "factor",
    ],
)
def test_other_content_is_not(other):
    assert Scale(arrays={"factor": [1, 2]}, options={"kind": "a"}) != other


def test_arrays_are_copies_in_float32_that_cannot_be_changed():
    given = np.arange(6.0).reshape(2, 3).T
    (array,) = Scale(arrays={"factor": given}).arrays.values()
    assert array.dtype == np.float32
    assert array.flags.c_contiguous
    given[0, 0] = 9
    assert array[0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e300])
def test_values_that_float32_cannot_hold_are_refused(value):
    with pytest.raises(ConfigError, match="Scale: factor has NaN or infinity in it"):
        Scale(arrays={"factor": [1.0, value]})


def test_it_shows_shapes_and_options():
    assert repr(Scale(arrays={"factor": np.ones((2, 3))}, options={"kind": "a"})) == "Scale(factor[2x3], kind='a')"
