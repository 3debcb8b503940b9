import numpy as np
import pytest

from echo_embeddings import ConfigError, EchoConfig, EmbedFilter, Project, Standardize, Truncate
from echo_embeddings.vectors.normalize import unit
from echo_embeddings.vectors.transforms import fit


def vectors(n=50, dim=4):
    return np.random.default_rng(0).normal([1, 2, 3, 400], [1, 2, 3, 40], size=(n, dim)).astype(np.float32)


def test_standardised_vectors_have_mean_0_and_std_1():
    out = Standardize.fit(vectors())(vectors())
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(out.std(0), 1, rtol=1e-5)


def test_a_dimension_that_never_moves_is_left_at_0():
    constant = vectors()
    constant[:, 1] = 7.0
    out = Standardize.fit(constant)(constant)
    np.testing.assert_array_equal(out[:, 1], 0)


def test_embed_filter_keeps_the_middle_of_the_spectrum():
    # A diagonal unembedding: singular values 8, 6, 4, 2 on the axes 2, 0, 3, 1.
    weight = np.diag([6.0, 2.0, 8.0, 4.0])
    kept = EmbedFilter.from_unembedding(weight, tau=2)
    assert kept.output_dimension(4) == 2
    # The middle two are the axes 0 and 3.
    np.testing.assert_allclose(np.abs(kept.arrays["basis"]), [[1, 0], [0, 0], [0, 0], [0, 1]], atol=1e-12)


def test_embed_filter_of_everything_keeps_all_distances():
    weight = np.random.default_rng(1).normal(size=(30, 4))
    out = EmbedFilter.from_unembedding(weight, tau=1)(vectors())
    np.testing.assert_allclose(out @ out.T, vectors() @ vectors().T, rtol=1e-4)


def test_truncate_keeps_the_first_dimensions():
    np.testing.assert_array_equal(Truncate(2)(vectors()), vectors()[:, :2])


def test_a_transposed_array_comes_back_as_it_was(tmp_path):
    weight = np.arange(6, dtype=np.float32).reshape(2, 3).T  # not in C order, which safetensors would scramble
    config = EchoConfig("{text}", transforms=(Project(weight),))
    config.save(tmp_path)
    (loaded,) = EchoConfig.load(tmp_path).transforms
    assert np.array_equal(loaded.arrays["weight"], weight)


def test_project_is_affine():
    weight, bias = np.arange(8).reshape(4, 2), [0.5, -1]
    out = Project(weight, bias)(vectors())
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, vectors() @ weight + bias, rtol=1e-5)
    assert Project(weight, bias).output_dimension(4) == 2
    assert Project(weight) == Project(weight, [0, 0]) != Project(weight, bias)


def test_whitened_vectors_have_the_spectrum_that_was_asked_for():
    rng = np.random.default_rng(1)
    mixed = (rng.normal(size=(5000, 6)) @ rng.normal(size=(6, 6)) + [9, 0, 0, 0, 0, 4]).astype(np.float32)
    turned, half, whole = (Project.whiten(mixed, power=power)(mixed) for power in (0, 0.5, 1))
    spread = turned.std(axis=0)
    assert (np.diff(spread) < 0).all()  # the first axes carry most
    np.testing.assert_allclose(turned.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(half.std(axis=0), spread**0.5, rtol=1e-3)
    np.testing.assert_allclose(whole.std(axis=0), 1, rtol=1e-3)
    standard = Standardize.fit(mixed)(mixed)
    np.testing.assert_allclose(turned @ turned.T, standard @ standard.T, atol=1e-2)  # turning keeps every product
    np.testing.assert_array_equal(Project.whiten(mixed, 2, 0.5)(mixed), half[:, :2])


def test_whitening_on_few_texts_stays_finite_and_bad_arguments_are_said():
    few = vectors(3)
    assert np.abs(Project.whiten(few, power=1)(few)).max() < 100
    with pytest.raises(ConfigError, match=r"power=2: give a number from 0 \(turn only\) to 1"):
        Project.whiten(few, power=2)
    with pytest.raises(ConfigError, match="dimension=5: choose from 1 to the vectors' 4"):
        Project.whiten(few, 5)
    with pytest.raises(ConfigError, match=r"cannot be fitted on 1 text\(s\)"):
        Project.whiten(vectors(1))


def test_unit_rows_and_the_row_without_direction():
    out = unit(np.array([[3, 4], [0, 0], [1e-30, 0]], dtype=np.float32))
    np.testing.assert_allclose(out, [[0.6, 0.8], [1, 0], [1, 0]], atol=1e-7)


def test_equality_is_by_content():
    assert Standardize([0, 1], [1, 1]) == Standardize([0.0, 1.0], [1, 1])
    assert Standardize([0, 1], [1, 1]) != Standardize([0, 1], [1, 2])
    assert Truncate(2) != Truncate(3)
    assert len({Truncate(2), Truncate(2)}) == 1


def test_transforms_cannot_be_changed_afterwards():
    with pytest.raises(ValueError, match="read-only"):
        Standardize([0], [1]).arrays["mean"][0] = 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Standardize([0, 1], [1]), r"one shape \[dim\], not \(2,\) and \(1,\)"),
        (lambda: Standardize([0, 1], [1, 0]), "std above 0 everywhere; dimension 1 has none"),
        (lambda: Standardize([np.nan], [1]), "mean has NaN or infinity"),
        (lambda: Standardize.fit(np.zeros((1, 3), np.float32)), r"cannot be fitted on 1 text\(s\); give at least 2"),
        (lambda: EmbedFilter.from_unembedding(np.eye(4), tau=0.5), r"tau=0.5 must be from 1"),
        (lambda: EmbedFilter.from_unembedding(np.eye(4), tau=9), r"tau=9 must be from 1 .* to 4"),
        (lambda: Project(np.zeros(4)), r"Project needs a weight \[dim, dim'\], not \(4,\)"),
        (lambda: Project(np.zeros((4, 0))), r"Project needs a weight \[dim, dim'\], not \(4, 0\)"),
        (lambda: Project(np.zeros((2, 4)), [1, 2]), r"weight \(2, 4\) needs a bias \(4,\), not \(2,\); .* transposed"),
        (lambda: Project([[np.inf]]), "weight has NaN or infinity"),
        (lambda: Project(np.eye(2))(vectors()), "fitted on 2 dimensions, but these vectors have 4"),
        (lambda: Truncate(0), r"dimension=0: give a whole number of at least 1"),
        (lambda: Truncate(5)(vectors()), "cannot keep 5 of 4 dimensions"),
        (lambda: Standardize([0, 1], [1, 1])(vectors()), "fitted on 2 dimensions, but these vectors have 4"),
    ],
)
def test_what_cannot_work_is_said(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_fit_by_name_on_too_few_texts_says_how_many_it_needs():
    five_of_each = np.repeat(vectors(5), 10, axis=0)
    with pytest.raises(
        ConfigError, match=r"'standardize' cannot be fitted on 5 text\(s\) that differ: it needs at least 6"
    ):
        fit(["standardize"], five_of_each, np.eye)
    wide = np.random.default_rng(0).normal(size=(40, 32)).astype(np.float32)
    with pytest.raises(
        ConfigError, match=r"'whiten' cannot be fitted on 32 text\(s\) that differ: it needs at least 33"
    ):
        fit(["whiten"], wide[:32], np.eye)
    assert len(fit(["standardize", "whiten"], wide, np.eye)) == 2
