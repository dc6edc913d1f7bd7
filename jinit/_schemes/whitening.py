"""`whitening_conv` makes a first convolution that whitens the patches of images."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from .._core import checks, papers
from .._initializer.base import Initializer
from .._initializer.maker import maker
from .._initializer.scheme import scheme
from .constant import from_array


@scheme(
    law="computed from a batch of patches",
    formula="[E / sqrt(lambda + eps), -E / sqrt(lambda + eps)]",
    use="a fixed first convolution on small images",
    pitfall="a function of data; not to be trained",
    paper=papers.JORDAN_2024,
)
@maker
def whitening_conv(
    patches: ArrayLike,
    *,
    window: tuple[int, int] | None = None,
    eps: float = 5e-4,
    dtype: DTypeLike | None = None,
) -> Initializer:
    """Make the kernel that whitens patches of images.

    The second moments of the patches about zero have the eigenvectors E with the
    eigenvalues lambda, the largest first. The kernel, (kh, kw, c, 2 kh kw c), is
    [E / sqrt(lambda + eps), -E / sqrt(lambda + eps)]. Its responses are uncorrelated,
    have variance 1, and come with both signs for relu. The kernel is not trained.

    Args:
      patches: an array (number, kh, kw, c); or, with a window, images (number, height,
        width, c), from which all patches are taken.
      window: the size (kh, kw) of the patches of images, or None for patches.
      eps: the number added to the eigenvalues, below which they are noise.
      dtype: the dtype of the array, unless the call gives another.

    Returns:
      An initializer for the shape (kh, kw, c, 2 kh kw c) only.

    Raises:
      TypeError: if `patches` is not an array of real numbers, or is traced.
      ValueError: if `patches` does not have four axes, holds values that are not
        finite, or has fewer patches than a patch has values; if `window` is larger than
        the images, or `eps` is negative.

    Example:
      >>> import jax, numpy as np, jinit
      >>> images = np.random.default_rng(0).normal(size=(64, 8, 8, 3))
      >>> init = jinit.whitening_conv(images, window=(2, 2))
      >>> kernel = init(jax.random.key(0), (2, 2, 3, 24))
      >>> bool((kernel[..., 12:] == -kernel[..., :12]).all())
      True

    References:
      Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv 2024.
      Coates and Ng, "Learning feature representations with K-means", Neural Networks:
        Tricks of the Trade 2012.
    """
    eps = checks.real("eps", eps, minimum=0.0)
    cut = patches_of(images_of(patches), window)
    # The moments are about zero and not about the mean, as in Jordan's code.
    filters = whitening_filters(cut.reshape(len(cut), -1), eps)
    # relu drops one sign of each response, and the mirrored filter keeps it.
    kernel = np.concatenate([filters, -filters], axis=1)
    return from_array(kernel.reshape(*cut.shape[1:], kernel.shape[1]), dtype)


def whitening_filters(rows: np.ndarray, eps: float) -> np.ndarray:
    """Return E / sqrt(lambda + eps) of rows, the columns with large lambda first.

    Raises:
      ValueError: if there are fewer rows than columns, or a lambda and `eps` are 0.
    """
    count, size = rows.shape
    if count < size:
        raise ValueError(
            f"`patches` are {count} patches of {size} values each; their covariance "
            f"takes at least {size} of them, and many more to be near the true one."
        )
    # eigh returns the least eigenvalue first, and rounding can make it negative.
    values, vectors = np.linalg.eigh(rows.T @ rows / count)
    with np.errstate(divide="ignore"):
        filters = vectors[:, ::-1] / np.sqrt(np.maximum(values[::-1], 0) + eps)
    if not np.isfinite(filters).all():
        raise ValueError(
            f"`eps` is {eps}, and the patches lie in fewer than {size} directions: the "
            "others cannot be scaled to 1. Take a positive eps."
        )
    whitening: np.ndarray = filters
    return whitening


def images_of(patches: Any) -> np.ndarray:
    """Return an array of images or patches in float64, with four axes, or raise."""
    if isinstance(patches, jax.core.Tracer):
        raise TypeError(
            "`patches` are being traced; whitening_conv computes an initializer from "
            "the values of data. Call it outside of jit."
        )
    array = np.asarray(patches)
    # NumPy does not count the 16- and 8-bit types of JAX as numbers.
    real = (np.floating, np.integer, np.bool_)
    if not any(jnp.issubdtype(array.dtype, kind) for kind in real):
        raise TypeError(
            f"`patches` has dtype {array.dtype}; it must be an array of real numbers."
        )
    if array.ndim != 4:
        raise ValueError(
            f"`patches` has shape {array.shape}; it must have four axes: (number, "
            "height, width, channels)."
        )
    if 0 in array.shape[1:]:
        raise ValueError(
            f"`patches` has shape {array.shape}; an axis of length 0 leaves nothing to "
            "whiten."
        )
    # Neighbouring pixels are nearly equal, so the least eigenvalues are small
    # differences of large sums, of which float32 would leave few digits.
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(
            "`patches` has values that are not finite; remove these images, or replace "
            "the values."
        )
    return array


def patches_of(images: np.ndarray, window: tuple[int, int] | None) -> np.ndarray:
    """Return all patches with the size of the window, (number, kh, kw, c)."""
    if window is None:
        return images
    height, width = _window(window)
    if height > images.shape[1] or width > images.shape[2]:
        raise ValueError(
            f"`window` is {window}, larger than the images of shape {images.shape}; "
            "take a window that fits into the height and the width."
        )
    view = np.lib.stride_tricks.sliding_window_view(images, (height, width), (1, 2))
    # The axes of the view are (number, y, x, c, kh, kw).
    return view.transpose(0, 1, 2, 4, 5, 3).reshape(-1, height, width, images.shape[3])


def _window(window: Any) -> tuple[int, int]:
    if not isinstance(window, (tuple, list)) or len(window) != 2 or None in window:
        raise TypeError(f"`window` is {window!r}; it must be two integers, (kh, kw).")
    height, width = (checks.count("window", size) or 1 for size in window)
    return height, width
