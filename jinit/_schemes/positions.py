"""Fixed positions: sines and cosines of the place of each row."""

import dataclasses
import math
from typing import Any, ClassVar, Literal

import jax
import numpy as np
from jax.typing import DTypeLike

from .._core import checks, papers
from .._core.dtypes import canonical_dtype
from .._initializer.base import DrawSpec, Initializer
from .._initializer.maker import maker
from .._initializer.scheme import scheme
from .constant import from_array

Method = Literal["transformer", "mae", "moco_v3"]

METHODS = ("transformer", "mae", "moco_v3")


@dataclasses.dataclass(frozen=True, repr=False)
class SinCosPositions(Initializer):
    """SinCosPositions are a table that has sines and cosines of each row's place."""

    method: Method = "transformer"
    grid: tuple[int, ...] | None = None
    extra: int = 0
    base: float = 10_000.0
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "sincos_positions"
    _random: ClassVar[bool] = False
    _kind: ClassVar[type[Any]] = np.floating
    _any_layout: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self._set(
            method=checks.choice("method", self.method, METHODS),
            extra=_extra(self.extra),
            base=checks.number("base", self.base, positive=True),
            dtype=canonical_dtype(self.dtype),
        )
        if self.grid is None:
            return
        if self.method == "transformer":
            raise ValueError(
                f"`grid` is {self.grid!r}; the positions of a transformer have one "
                "axis, whose length is the number of rows. Leave `grid` out, or take "
                "the method 'mae' or 'moco_v3'."
            )
        sizes = self.grid if isinstance(self.grid, list | tuple) else (self.grid,)
        if not sizes:
            raise ValueError(
                "`grid` is (), which has no axis; pass the lengths of the axes, such "
                "as (14, 14), or None for a square."
            )
        self._set(grid=tuple(checks.positive("grid", size) for size in sizes))

    def _std(self, shape: checks.Shape) -> float | None:
        self._check(shape)
        return None

    def _check(self, shape: checks.Shape) -> None:
        if len(shape) < 2:
            raise ValueError(
                f"`shape` is {shape}, which has {len(shape)} axes; a table of "
                "positions has two, (rows, features), and more before them."
            )
        self._check_features(shape, len(self._grid(shape)))

    def _check_features(self, shape: checks.Shape, axes: int) -> None:
        width = shape[-1]
        # MoCo v3 divides by the number of frequencies less one.
        fewest = 2 if self.method == "moco_v3" else 1
        if width % (2 * axes) or 0 < width < 2 * axes * fewest:
            raise ValueError(
                f"`shape` is {shape}, with {width} features; sines and cosines of "
                f"{axes} {'axis' if axes == 1 else 'axes'} need a multiple of "
                f"{2 * axes}, and at least {2 * axes * fewest}."
            )

    def _grid(self, shape: checks.Shape) -> tuple[int, ...]:
        """Return the lengths of the axes that the rows run along, the last fastest."""
        rows = shape[-2] - self.extra
        if self.method == "transformer" and rows >= 0:
            return (rows,)
        side = math.isqrt(max(rows, 0))
        grid = self.grid or (side, side)
        if math.prod(grid) != rows:
            raise ValueError(
                f"`shape` is {shape}, with {shape[-2]} rows, and `grid` is "
                f"{self.grid}, `extra` is {self.extra}; the lengths of the grid must "
                f"have the product {rows}, and without a grid it is a square. Pass "
                "`grid`, and the number of rows before those of the grid as `extra`."
            )
        return grid

    def _sample(self, key: jax.Array, spec: DrawSpec) -> jax.Array:
        shape = spec.shape
        # The table is computed in float64: in float32 the angle of row 1000 is already
        # off by 3e-5. `from_array` rounds it once.
        table = np.zeros(shape)
        if 0 not in shape:
            table[..., self.extra :, :] = self._table(self._grid(shape), shape[-1])
        return from_array(table)._sample(key, spec)

    def _table(self, grid: tuple[int, ...], width: int) -> np.ndarray:
        count = width // (2 * len(grid))
        last = count - 1 if self.method == "moco_v3" else count
        frequencies = self.base ** -(np.arange(count) / last)
        places = np.indices(grid).reshape(len(grid), -1)
        # The last axis comes first: big_vision and MAE write x before y.
        angles = [place[:, None] * frequencies for place in places[::-1]]
        waves = [np.stack((np.sin(x), np.cos(x)), axis=-1) for x in angles]
        # A transformer alternates sines and cosines, the others put them in two blocks.
        if self.method != "transformer":
            waves = [np.swapaxes(wave, -1, -2) for wave in waves]
        return np.concatenate([w.reshape(len(w), -1) for w in waves], axis=-1)


def _extra(extra: Any) -> int:
    number = checks.integer("extra", extra)
    if number < 0:
        raise ValueError(f"`extra` is {number}; it must be 0 or more rows.")
    return number


@scheme(
    law="constant",
    formula="[sin(n w_i), cos(n w_i)], w_i = base^(-i / m)",
    use="tables of positions that are not trained",
    pitfall="the order of the features differs between methods",
    paper=(papers.VASWANI_2017, papers.HE_2022, papers.CHEN_2021),
)
@maker
def sincos_positions(
    method: Method = "transformer",
    *,
    grid: tuple[int, ...] | None = None,
    extra: int = 0,
    base: float = 10_000.0,
    dtype: DTypeLike | None = None,
) -> Initializer:
    """Fill a table (..., rows, features) with sines and cosines of each row's place.

    With d features and m frequencies w_i = base^(-i / m), i = 0, ..., m - 1:

    - "transformer": row n has sin(n w_i) at 2 i and cos(n w_i) at 2 i + 1; m = d / 2.
    - "mae", of MAE and DiT: row (y, x) of a grid has [sin(x w), cos(x w), sin(y w),
      cos(y w)], four blocks with m = d / 4. On a grid of one axis it has two blocks.
    - "moco_v3", of MoCo v3 and big_vision: the same blocks, and the last of the d / 4
      frequencies is 1 / base: w_i = base^(-i / (d / 4 - 1)).

    The key is not used. The table is computed in float64 and rounded once.

    Args:
      method: the formula.
      grid: the lengths of the axes that the rows run along, the last fastest, such as
        (height, width); None stands for a square. "transformer" takes none.
      extra: the number of rows of zeros before the others, such as a class token's.
      base: the ratio between the largest and the smallest frequency.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: if a setting is out of range; when called, if the rows are not those
        of the grid, or the features are not a multiple of twice the number of axes.

    Example:
      >>> import jax, jinit
      >>> table = jinit.sincos_positions()(jax.random.key(0), (6, 4))
      >>> [round(float(x), 4) for x in table[5]]  # 5 and 5 / 100
      [-0.9589, 0.2837, 0.05, 0.9988]
      >>> jinit.sincos_positions("mae")(jax.random.key(0), (1, 196, 768)).shape
      (1, 196, 768)

    References:
      Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser and Polosukhin,
        "Attention is all you need", NeurIPS 2017.
      He, Chen, Xie, Li, Dollár and Girshick, "Masked autoencoders are scalable vision
        learners", CVPR 2022. facebookresearch/DiT, models.py at ed81ce2, has the same
        function.
      Chen, Xie and He, "An empirical study of training self-supervised vision
        transformers", ICCV 2021. google-research/big_vision, models/vit.py at 0127fb6.
    """
    return SinCosPositions(method, grid, extra, base, canonical_dtype(dtype))
