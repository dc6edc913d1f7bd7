"""Measure how far matrices are from orthogonal, and approximate them."""

import numpy as np


def orthogonality_error(q):
    """Return the largest entry of Q'Q - 1, whichever side of Q is longer."""
    q = np.asarray(q, np.float64)
    q = q if q.shape[0] >= q.shape[1] else q.T
    return abs(q.T @ q - np.eye(q.shape[1])).max()


def nearest(target, rank):
    """Return the best approximation that has the rank, in float64."""
    u, s, vt = np.linalg.svd(np.asarray(target, np.float64))
    return (u[:, :rank] * s[:rank]) @ vt[:rank]
