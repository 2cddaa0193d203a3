"""A straight line, or plane, through times of which some are far too long: Huber's M-estimate."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

BEND = 1.345
"""95 % efficient where the noise is normal (Holland & Welsch 1977)."""
TO_SD = 1.4826
ROUNDS = 50


class Fit(NamedTuple):
    coefficients: np.ndarray
    covariance: np.ndarray
    residuals: np.ndarray
    """y less the fit, each made as large as if its own point had not been fitted."""
    freedom: int

    def interval(self, weights, level: float = 0.95) -> tuple[float, float, float]:
        """(estimate, low, high) of a weighted sum of the coefficients, by t."""
        weights = np.asarray(weights, float)
        value = float(weights @ self.coefficients)
        error = float(np.sqrt(max(weights @ self.covariance @ weights, 0.0)))
        reach = error * float(stdtrit(self.freedom, (1 + level) / 2))
        return value, value - reach, value + reach


def fit(x: np.ndarray, y: np.ndarray, scale: np.ndarray | None = None) -> Fit:
    """y = x·coefficients, x of n rows and p columns with n > p and full rank; `scale` is how large
    each point's noise is beside the others'.

    Huber's estimate by reweighting, its scale by the median absolute residual (Huber 1981, §7.8);
    the covariance is the sandwich with leverages, HC3 (MacKinnon & White 1985), so that noise which
    grows with x, however it does, makes no interval too short.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    scale = np.ones(len(y)) if scale is None else np.asarray(scale, float)
    x, y = x / scale[:, None], y / scale
    weights = np.ones(len(y))
    coefficients = np.zeros(x.shape[1])
    for _ in range(ROUNDS):
        before, root = coefficients, np.sqrt(weights)
        coefficients = np.linalg.lstsq(x * root[:, None], y * root, rcond=None)[0]
        rest = y - x @ coefficients
        spread = max(TO_SD * float(np.median(np.abs(rest))), 1e-9 * (1 + float(np.abs(y).max())))
        weights = np.minimum(1, BEND * spread / np.maximum(np.abs(rest), 1e-300))
        if np.allclose(before, coefficients, rtol=1e-9, atol=1e-12):
            break
    plain = np.abs(rest) <= BEND * spread
    bread = np.linalg.pinv(x.T @ (x * plain[:, None]) if plain.sum() > x.shape[1] else x.T @ x)
    leverage = np.einsum("ij,jk,ik->i", x, np.linalg.pinv(x.T @ x), x)
    kept = np.maximum(1 - leverage, 1e-6)
    pulls = x * (weights * rest / kept)[:, None]
    covariance = bread @ (pulls.T @ pulls) @ bread
    return Fit(coefficients, covariance, rest * scale / np.sqrt(kept), len(y) - x.shape[1])
