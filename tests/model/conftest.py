import pytest


@pytest.fixture(autouse=True)
def weights_are_read_once():
    """Here loading is tested: each encoder loads its own weights, as it does for a user."""
