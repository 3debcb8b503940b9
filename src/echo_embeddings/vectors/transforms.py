"""Maps of a vector after pooling, fitted or trained. Transforms know vectors only: no text, no model.

A transform takes float32 ``[n, dim]`` and returns float32 ``[n, dim']``. The encoder brings vectors to unit length
after the last transform, so a truncated vector has unit length too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echo_embeddings.errors import ConfigError
from echo_embeddings.types import Vectors, require_whole

from .fitted import Fitted

__all__ = ["TRANSFORMS", "EmbedFilter", "Project", "Standardize", "Transform", "Truncate", "fit", "left_out", "parted"]


# The fewest different texts to fit on. A standard deviation is known to 1 part in sqrt(2n) from n samples: to 29 % from
# 6, to 3 % from 500. Whitening needs more texts than dimensions: else there are axes that no text says anything about.
_FEWEST = 6


class Transform(Fitted, ABC):
    """One map after pooling; its ``arrays`` and ``options`` define it and are saved with the model."""

    @property
    @abstractmethod
    def input_dimension(self) -> int | None:
        """The dimension of the vectors that it takes; ``None`` if it takes any."""

    @abstractmethod
    def output_dimension(self, dimension: int) -> int:
        """The dimension of the result for vectors of ``dimension``.

        Raises:
            ConfigError: the transform cannot take such vectors.
        """

    @abstractmethod
    def apply(self, vectors: Vectors) -> Vectors:
        """Map ``[..., dim]`` to ``[..., dim']``, both float32."""

    def __call__(self, vectors: Vectors) -> Vectors:
        self.output_dimension(vectors.shape[1])
        with np.errstate(over="ignore", invalid="ignore"):  # where vectors get unit length, infinity is an error
            return self.apply(vectors)

    def _check(self, dimension: int) -> None:
        if self.input_dimension not in (None, dimension):
            raise ConfigError(
                f"{type(self).__name__} was fitted on {self.input_dimension} dimensions, but these vectors have "
                f"{dimension}; fit it again with EchoEncoder.fit_transforms for this model"
            )


class Standardize(Transform):
    """Subtract the mean of each dimension and divide by its standard deviation.

    A few dimensions of a language model's hidden states are huge for every text and decide the cosine alone. After this
    map all dimensions have the same weight (research/log.md).

    Args:
        mean: float32 ``[dim]``.
        std: float32 ``[dim]``, above 0.

    Raises:
        ConfigError: the shapes differ, or a value is not allowed.
    """

    name = "standardize"
    array_names = ("mean", "std")

    def __init__(self, mean: Any, std: Any) -> None:
        super().__init__(arrays={"mean": mean, "std": std})
        mean, std = self.arrays["mean"], self.arrays["std"]
        if mean.ndim != 1 or mean.shape != std.shape:
            raise ConfigError(f"Standardize needs mean and std of one shape [dim], not {mean.shape} and {std.shape}")
        if (std <= 0).any():
            raise ConfigError(f"Standardize needs std above 0 everywhere; dimension {int(np.argmin(std))} has none")

    @classmethod
    def fit(cls, vectors: Vectors) -> Standardize:
        """Fit on the vectors of unlabelled texts.

        Args:
            vectors: float32 ``[n, dim]``. ``n`` must be at least 2; a few hundred are enough.

        Raises:
            ConfigError: there are fewer than 2.
        """
        if len(vectors) < 2:
            raise ConfigError(f"Standardize cannot be fitted on {len(vectors)} text(s); give at least 2, better 500")
        mean, std = vectors.mean(axis=0, dtype=np.float64), vectors.std(axis=0, dtype=np.float64)
        # A dimension that is the same for all texts is left as it is, instead of dividing it by 0.
        return cls(mean, np.where(std > 1e-6 * np.abs(mean) + 1e-12, std, 1.0))

    @property
    def input_dimension(self) -> int:
        return int(self.arrays["mean"].shape[0])

    def output_dimension(self, dimension: int) -> int:
        self._check(dimension)
        return dimension

    def apply(self, vectors: Vectors) -> Vectors:
        return (vectors - self.arrays["mean"]) / self.arrays["std"]


class EmbedFilter(Transform):
    """Keep the middle right singular vectors of the unembedding matrix (EmbedFilter, arXiv 2606.07502).

    The directions at both ends of the spectrum stand for frequent tokens and say little about a text. No texts are
    needed, and ``dim / tau`` dimensions remain. Distances are those of the projection back to ``dim``.

    Args:
        basis: float32 ``[dim, dim / tau]`` with orthonormal columns.

    Raises:
        ConfigError: ``basis`` has another shape.
    """

    name = "embed-filter"
    array_names = ("basis",)

    def __init__(self, basis: Any) -> None:
        super().__init__(arrays={"basis": basis})
        if self.arrays["basis"].ndim != 2:
            raise ConfigError(f"EmbedFilter needs a basis [dim, kept], not {self.arrays['basis'].shape}")

    @classmethod
    def from_unembedding(cls, weight: NDArray[Any], tau: float = 2.0) -> EmbedFilter:
        """Make it from the unembedding matrix of a model.

        Args:
            weight: ``[vocabulary, dim]``, the weight of ``lm_head``.
            tau: what the dimension is divided by, from 1 to ``dim``.

        Raises:
            ConfigError: ``tau`` is outside its range.
        """
        dim = weight.shape[1]
        kept = int(dim / tau) if tau >= 1 else 0
        if kept < 1:
            raise ConfigError(f"tau={tau} must be from 1 (keep all {dim} dimensions) to {dim} (keep one)")
        # The right singular vectors are the eigenvectors of the Gram matrix [dim, dim]; eigh sorts them upwards.
        _, vectors = np.linalg.eigh(weight.T.astype(np.float64) @ weight.astype(np.float64))
        start = (dim - kept) // 2
        return cls(vectors[:, ::-1][:, start : start + kept])

    @property
    def input_dimension(self) -> int:
        return int(self.arrays["basis"].shape[0])

    def output_dimension(self, dimension: int) -> int:
        self._check(dimension)
        return int(self.arrays["basis"].shape[1])

    def apply(self, vectors: Vectors) -> Vectors:
        return vectors @ self.arrays["basis"]


class Project(Transform):
    """The affine map ``vectors @ weight + bias``: a linear head that was trained, or fitted by :meth:`whiten`.

    Args:
        weight: float32 ``[dim, dim']``. A ``torch.nn.Linear`` has it the other way round: give its transpose.
        bias: float32 ``[dim']``; ``None`` for zeros.

    Raises:
        ConfigError: the shapes do not fit each other, or a value is NaN or infinite.
    """

    name = "project"
    array_names = ("weight", "bias")

    def __init__(self, weight: Any, bias: Any = None) -> None:
        shape = np.shape(weight)
        if len(shape) != 2 or 0 in shape:
            raise ConfigError(f"Project needs a weight [dim, dim'], not {shape}")
        super().__init__(arrays={"weight": weight, "bias": np.zeros(shape[1]) if bias is None else bias})
        if self.arrays["bias"].shape != shape[1:]:
            raise ConfigError(
                f"Project with a weight {shape} needs a bias {shape[1:]}, not {self.arrays['bias'].shape}; the weight "
                "of a torch.nn.Linear must be transposed"
            )

    @classmethod
    def whiten(cls, vectors: Vectors, dimension: int | None = None, power: float = 0.4) -> Project:
        """Standardise, rotate to the principal axes, and divide each axis by its standard deviation to some power.

        The axes are in the order of their variance, so the first dimensions alone are good shorter vectors. With
        ``power`` 0 the map only rotates, with 1 all axes get the same weight. In between, similarity loses nothing and
        retrieval gains (research/log.md, 2026-11-20).

        Args:
            vectors: float32 ``[n, dim]``, of unlabelled texts. ``n`` must be at least 2; some thousands are good.
            dimension: the number of axes that are kept; ``None`` keeps all.
            power: from 0 to 1.

        Raises:
            ConfigError: there are too few vectors, or an argument is outside its range.
        """
        if not 0 <= power <= 1:
            raise ConfigError(f"power={power!r}: give a number from 0 (turn only) to 1 (the same say for all axes)")
        kept = vectors.shape[1] if dimension is None else dimension
        if not 1 <= kept <= vectors.shape[1]:
            raise ConfigError(f"dimension={dimension!r}: choose from 1 to the vectors' {vectors.shape[1]}")
        scales = Standardize.fit(vectors)
        standard = scales(vectors).astype(np.float64)
        variances, axes = np.linalg.eigh(standard.T @ standard / len(standard))
        # An axis on which these vectors hardly differ must not be scaled up without bound.
        shrunk = axes[:, ::-1] * np.maximum(variances[::-1], 1e-3) ** (-power / 2)
        weight = shrunk[:, :kept] / scales.arrays["std"][:, None]
        return cls(weight, -scales.arrays["mean"] @ weight)

    @property
    def input_dimension(self) -> int:
        return int(self.arrays["weight"].shape[0])

    def output_dimension(self, dimension: int) -> int:
        self._check(dimension)
        return int(self.arrays["weight"].shape[1])

    def apply(self, vectors: Vectors) -> Vectors:
        return vectors @ self.arrays["weight"] + self.arrays["bias"]


class Truncate(Transform):
    """Keep the first dimensions, for models trained with a Matryoshka loss (arXiv 2205.13147), as the default was.

    Without such training a shorter vector is worse; ``EmbedFilter`` is then the better way to shorten it.

    Args:
        dimension: the number of dimensions to keep, from 1.

    Raises:
        ConfigError: ``dimension`` is no whole number from 1.
    """

    name = "truncate"
    option_names = ("dimension",)

    def __init__(self, dimension: int) -> None:
        require_whole("dimension", dimension, ConfigError)
        super().__init__(options={"dimension": dimension})

    @property
    def input_dimension(self) -> None:
        return None

    def output_dimension(self, dimension: int) -> int:
        if self.options["dimension"] > dimension:
            raise ConfigError(
                f"Truncate cannot keep {self.options['dimension']} of {dimension} dimensions; choose at most that many"
            )
        return int(self.options["dimension"])

    def apply(self, vectors: Vectors) -> Vectors:
        return vectors[..., : self.options["dimension"]]


#: All transforms, by the name that they are saved under.
TRANSFORMS: Mapping[str, type[Transform]] = MappingProxyType(
    {cls.name: cls for cls in (EmbedFilter, Project, Standardize, Truncate)}
)


def parted(transforms: Sequence[Transform]) -> tuple[tuple[Transform, ...], tuple[Transform, ...]]:
    """Split into the transforms that map the echo, and ``Truncate`` at the end, which shortens the words too."""
    maps = len(transforms)
    while maps and isinstance(transforms[maps - 1], Truncate):
        maps -= 1
    return tuple(transforms[:maps]), tuple(transforms[maps:])


def left_out(before: Sequence[Transform], after: Sequence[Transform]) -> tuple[Project, ...]:
    """The maps of ``before`` that ``after`` lacks. A ``Project`` may be trained; no texts could give it again."""
    return tuple(map_ for map_ in before if isinstance(map_, Project) and map_ not in after)


def fit(
    wanted: Sequence[str | Transform], vectors: Vectors | None, unembedding: Callable[[], NDArray[Any]]
) -> tuple[Transform, ...]:
    """Fit transforms by name, each one on the result of those before it.

    Args:
        wanted: ``"standardize"``, ``"whiten"``, ``"embed-filter"``, or transforms that need no fitting.
        vectors: float32 ``[n, dim]`` to fit on; ``None`` if there are no texts.
        unembedding: a function that returns the matrix ``[vocabulary, dim]``; called only if it is needed.

    Raises:
        ConfigError: a name is unknown, or there are too few vectors.
    """
    fitted: list[Transform] = []
    for i, name in enumerate(wanted):
        transform = name if isinstance(name, Transform) else _fitted(name, vectors, unembedding)
        fitted.append(transform)
        if vectors is not None and any(isinstance(later, str) for later in wanted[i + 1 :]):
            vectors = transform(vectors)
    return tuple(fitted)


def _require_enough(name: str, vectors: Vectors) -> None:
    """Refuse to fit on too few different vectors; texts that occur twice say nothing new."""
    least = _FEWEST if name == "standardize" else max(_FEWEST, vectors.shape[1] + 1)
    different: set[bytes] = set()
    for vector in vectors:
        different.add(vector.tobytes())
        if len(different) >= least:
            return
    better = 500 if name == "standardize" else 5 * least
    raise ConfigError(
        f"{name!r} cannot be fitted on {len(different)} text(s) that differ: it needs at least {least}, better "
        f"{better}; give more texts of the kind that will be embedded (no labels are needed)"
    )


def _fitted(wanted: str, vectors: Vectors | None, unembedding: Callable[[], NDArray[Any]]) -> Transform:
    if wanted == "embed-filter":
        return EmbedFilter.from_unembedding(unembedding())
    if wanted in ("standardize", "whiten"):
        given = np.empty((0, 1), np.float32) if vectors is None else vectors
        _require_enough(wanted, given)
        return Standardize.fit(given) if wanted == "standardize" else Project.whiten(given)
    raise ConfigError(
        f"the transform {wanted!r} is unknown; use 'standardize', 'whiten', 'embed-filter', or a Transform such as "
        "Truncate(256)"
    )
