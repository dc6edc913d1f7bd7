"""The short-time Fourier transform as a kernel: NumPy's transform, to rounding."""

import jax
import numpy as np
import pytest
from scipy import signal

import jinit

KEY = jax.random.key(5)


@pytest.mark.parametrize("scaling", ["density", "spectrum", None])
@pytest.mark.parametrize("window", ["hann", "hamming", None])
def test_stft_is_the_transform(window, scaling):
    x = np.random.default_rng(0).normal(size=64)
    w = signal.get_window(window, 64, False) if window else np.ones(64)
    norm = {"density": np.sqrt(np.sum(w**2)), "spectrum": np.sum(w), None: 1.0}
    wanted = np.fft.rfft(x * w) / (norm[scaling] if window else 1.0)
    for side, part in (("real", wanted.real), ("imag", wanted.imag)):
        kernel = jinit.stft(side, window, scaling)(KEY, (64, 1, 33))
        np.testing.assert_allclose(x @ np.asarray(kernel)[:, 0], part, atol=1e-5)


def test_stft_keeps_its_digits_in_long_frames():
    kernel = np.asarray(jinit.stft(window=None)(KEY, (4096, 1, 2049)))
    t, f = np.ogrid[:4096, :2049]
    np.testing.assert_allclose(
        kernel[:, 0], np.cos(2 * np.pi * t * f / 4096), atol=3e-7
    )


def test_stft_s_errors():
    with pytest.raises(ValueError, match="'hann' or 'hamming'"):
        jinit.stft(window="hand")
    with pytest.raises(ValueError, match="the frames have 8 samples"):
        jinit.stft(window=[1.0, 2.0])(KEY, (8, 1, 5))
    with pytest.raises(ValueError, match=r"\(frame, 1, frequencies\)"):
        jinit.stft()(KEY, (8, 2, 5))
    with pytest.raises(ValueError, match="one frequency"):
        jinit.stft()(KEY, (8, 1, 1))
    with pytest.raises(ValueError, match="not finite"):
        jinit.stft(window=[1.0, np.nan])
    # A symmetric Hann window of two samples is (0, 0).
    with pytest.raises(ValueError, match="no norm"):
        jinit.stft()(KEY, (2, 1, 5))
