"""`stft` fills a convolution so that it is the short-time Fourier transform."""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from .._core import checks, numbers, papers
from .._core.dtypes import canonical_dtype
from .._initializer.base import Initializer
from .._initializer.formula import FormulaInitializer
from .._initializer.frozen import frozen, thawed
from .._initializer.maker import maker
from .._initializer.scheme import scheme

Side = Literal["real", "imag"]
Scaling = Literal["density", "spectrum"]


@dataclasses.dataclass(frozen=True, repr=False)
class Stft(FormulaInitializer):
    """An Stft has for each output the window times the wave of one frequency.

    The wave is a cosine for the real side, and minus a sine for the imaginary side.
    """

    side: Side = "real"
    window: Any = "hann"
    scaling: Scaling | None = "density"
    periodic: bool = False
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "stft"
    _random: ClassVar[bool] = False
    _kind: ClassVar[type[Any]] = np.floating
    _operands: ClassVar[tuple[str, ...]] = ("dtype",)

    def __post_init__(self) -> None:
        self._set(
            side=checks.choice("side", self.side, ("real", "imag")),
            periodic=checks.boolean("periodic", self.periodic),
            dtype=canonical_dtype(self.dtype),
        )
        if self.scaling is not None:
            checks.choice("scaling", self.scaling, ("density", "spectrum"))
        if self.window is not None and not isinstance(self.window, str):
            self._set(window=frozen(self.window, "window"))
            window = thawed(self.window)
            if not numbers.is_traced(window) and not np.isfinite(window).all():
                raise ValueError(
                    "`window` has values that are not finite; all must be finite."
                )
        elif self.window is not None:
            # A wrong name must raise in the maker, not in the first call.
            self._window(8)

    def _check(self, shape: checks.Shape) -> None:
        if len(shape) != 3 or shape[1] != 1:
            raise ValueError(
                f"`shape` is {shape}; a kernel of the short-time Fourier transform is "
                "(frame, 1, frequencies): one signal comes in, and one output for each "
                "of fft_length / 2 + 1 frequencies goes out."
            )
        if shape[2] == 1:
            raise ValueError(
                f"`shape` is {shape}, with one frequency; the transform has "
                "fft_length / 2 + 1 of them, two or more."
            )
        # Two samples of a symmetric Hann window are both 0, which the call finds here.
        if 0 not in shape:
            self._norm(self._window(shape[0]))

    def _window(self, length: int) -> Any:
        if self.window is None:
            return np.ones(length)
        if not isinstance(self.window, str):
            return self._array_window(thawed(self.window), length)
        # scipy.signal takes long to load, and only this scheme needs it.
        from scipy import signal

        try:
            return np.asarray(
                signal.get_window(self.window, length, fftbins=self.periodic)
            )
        except ValueError as error:
            raise ValueError(
                f"`window` is {self.window!r}, which scipy.signal.get_window does not "
                f"make ({error}); pass such a name, 'hann' or 'hamming', or an array."
            ) from None

    def _array_window(self, window: Any, length: int) -> Any:
        if window.shape != (length,):
            raise ValueError(
                f"`window` has shape {window.shape}, and the frames have {length} "
                f"samples; it must have shape ({length},)."
            )
        return window if numbers.is_traced(window) else window.astype(np.float64)

    def _norm(self, window: Any) -> Any:
        if self.window is None or self.scaling is None:
            return 1.0
        squared = self.scaling == "density"
        numpy = numbers.numpy_of(window)
        # "density" keeps the energy of noise, "spectrum" the amplitude of a sine.
        norm = numpy.sqrt(numpy.sum(window**2)) if squared else numpy.sum(abs(window))
        if numbers.is_traced(norm):
            return norm
        if norm == 0:
            raise ValueError(
                f"the window of {len(window)} samples is 0 everywhere, and has no norm "
                "to divide by; take longer frames, periodic=True, or scaling=None."
            )
        return float(norm)

    def _build(self, key: Any, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
        frame, _, frequencies = shape
        window = self._window(frame)
        length = 2 * (frequencies - 1)
        # Whole turns are removed as integers: at 10^6 turns an angle in float32 has no
        # digits left for its fraction.
        turns = np.outer(np.arange(frame), np.arange(frequencies)) % length
        # exp(-i a) = cos a - i sin a: angles below 0 give the imaginary side its sign.
        angles = jnp.asarray(-2 * np.pi * np.arange(length) / length, dtype)
        wave = jnp.cos(angles) if self.side == "real" else jnp.sin(angles)
        # The window and its norm are computed in float64 and rounded once.
        weights = jnp.asarray(window / self._norm(window), dtype)
        return (weights[:, None] * wave[turns])[:, None, :]


@scheme(
    law="constant",
    formula="w = window[t] cos(2 pi t f / n) / norm",
    use="spectra of signals, fixed or to be trained further",
    pitfall="two kernels make a spectrum: the real and the imaginary side",
    paper=papers.ALLEN_1977,
)
@maker
def stft(
    side: Side = "real",
    window: str | ArrayLike | None = "hann",
    scaling: Scaling | None = "density",
    periodic: bool = False,
    *,
    dtype: DTypeLike | None = None,
) -> Initializer:
    """Fill a one-dimensional convolution so that it is a short-time Fourier transform.

    w[t, 0, f] = window[t] cos(2 pi t f / n) / norm, with -sin instead of cos for the
    imaginary side; n = 2 (frequencies - 1) is the length of the transform. Two
    convolutions, one for each side, give the spectrum, and their stride is the hop. The
    arguments and the values are those of Keras' STFTInitializer.

    Args:
      side: "real" or "imag".
      window: a name that `scipy.signal.get_window` knows, an array with one value for
        each sample of a frame, or None for a window of ones.
      scaling: the norm: "density" for sqrt(sum(window^2)), "spectrum" for
        sum(|window|), None for 1.
      periodic: True for a window that is periodic, False for a symmetric one, where
        `window` is a name.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: if a setting is unknown; when called, if the shape is not
        (frame, 1, fft_length / 2 + 1), or the window has another length.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> w = jinit.stft(window=None)(jax.random.key(0), (8, 1, 5))
      >>> x = jax.random.normal(jax.random.key(1), (8,))
      >>> bool(jnp.allclose(x @ w[:, 0], jnp.fft.rfft(x).real, atol=1e-5))
      True

    References:
      Allen and Rabiner, "A unified approach to short-time Fourier analysis and
        synthesis", Proceedings of the IEEE 1977.
    """
    return Stft(side, window, scaling, periodic, canonical_dtype(dtype))
