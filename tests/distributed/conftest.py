"""One Ray of two CPUs for a session, and a tiny model in a folder, where the workers find it."""

import os
from pathlib import Path

import pytest

from echo_embeddings import EchoEncoder, EncoderOptions
from tests import architectures
from tests.conftest import TEXTS

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_AUTH_MODE"] = "disabled"  # else it writes a token into the home folder
# Workers are new processes, which find this repository as the tests do.
ROOT = Path(__file__).parents[2]
PATHS = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A model of 32 dimensions that makes vectors in no time."""
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = architectures.small_tokenizer([*texts_of(200), TEXTS[0], "?"])
    tokenizer.save_pretrained(folder)
    # It may have more tokens than the tiny model: every letter is one.
    architectures.tiny("llama", vocab_size=len(tokenizer)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_options(tiny_folder) -> EncoderOptions:
    return EncoderOptions(
        model=str(tiny_folder), config="echo", device="cpu", dtype="float32", max_length=64, on_truncate="ignore"
    )


@pytest.fixture(scope="session")
def tiny_encoder(tiny_options) -> EchoEncoder:
    return EchoEncoder.from_options(tiny_options)


@pytest.fixture(scope="session")
def ray_of_two(tmp_path_factory):
    """Ray with two CPUs, without its dashboard."""
    import ray

    ray.init(
        "local",  # not one that another run of the tests has started
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": PATHS, "HF_HUB_OFFLINE": "1"}},
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield ray
    ray.shutdown()


def texts_of(count: int) -> list[str]:
    """Texts that differ, of 1 to 12 words."""
    words = TEXTS[0].split() + TEXTS[-1].split()[:12]
    return [f"{n} " + " ".join(words[(n * 7 + k) % len(words)] for k in range(n % 12)) for n in range(count)]
