"""Fit the coefficients of ``winit_fast/include/coefficients.h`` and print them: ``python tools/fit_coefficients.py``.

Every transform of STREAM.md evaluates short polynomials. Each is a weighted minimax fit, found by Lawson's iteration
(reweighted least squares in a Chebyshev basis) against mpmath values of the exact function; the weight turns the
error of the polynomial into the error of the finished number, so that the printed error is the one that matters.
Needs NumPy and mpmath; nothing at run time needs this file.
"""

from collections.abc import Callable

import mpmath as mp
import numpy as np
from numpy.polynomial import Chebyshev, Polynomial, chebyshev

mp.mp.dps = 50

Function = Callable[[mp.mpf], mp.mpf]


def _nodes(low: float, high: float, count: int = 500) -> np.ndarray:
    return (low + high) / 2 + (high - low) / 2 * np.cos(np.pi * (np.arange(count) + 0.5) / count)


def fit(
    name: str, function: Function, weight: Function, low: float, high: float, degree: int, below: int = 0
) -> tuple[list[float], list[float]]:
    """Minimax fit of ``function`` on [low, high] by a polynomial, or by a rational where ``below`` is not 0."""
    x = _nodes(low, high)
    exact = [function(mp.mpf(float(point))) for point in x]
    scale = np.array([float(weight(mp.mpf(float(point)))) for point in x])
    numerator, denominator = np.zeros(degree + 1), np.r_[1.0, np.zeros(below)]
    unit = (2 * x - low - high) / (high - low)
    above_basis, below_basis = chebyshev.chebvander(unit, degree), chebyshev.chebvander(unit, below)
    values = np.array([float(value) for value in exact])
    importance, divisor, best = np.full(x.size, 1 / x.size), np.ones(x.size), np.inf
    for _ in range(100):
        root = np.sqrt(importance) * scale / np.abs(divisor)
        system = np.hstack([above_basis, -below_basis[:, 1:] * values[:, None]]) * root[:, None]
        solution, *_ = np.linalg.lstsq(system, values * root, rcond=None)
        trial_above, trial_below = solution[: degree + 1], np.r_[1.0, solution[degree + 1 :]]
        divisor = below_basis @ trial_below
        error = scale * np.abs(above_basis @ trial_above / divisor - values)
        if divisor.min() > 0 and error.max() < best:
            best, numerator, denominator = error.max(), trial_above, trial_below
        importance *= error / error.max() + 1e-3
        importance /= importance.sum()
    print(f"/* {name}: largest weighted error {best:.2g} on [{low:.6g}, {high:.6g}] */")
    top = Chebyshev(numerator, domain=[low, high]).convert(kind=Polynomial).coef
    bottom = Chebyshev(denominator, domain=[low, high]).convert(kind=Polynomial).coef
    return list(top / bottom[0]), list(bottom / bottom[0])


def taylor_minimax(name: str, function: Function, low: float, high: float, degree: int) -> list[float]:
    """Near-minimax polynomial at full double accuracy: interpolation in 50 digits at the Chebyshev nodes."""
    count = degree + 1
    nodes = [
        (mp.mpf(low) + high) / 2 + (mp.mpf(high) - low) / 2 * mp.cos(mp.pi * (2 * k + 1) / (2 * count))
        for k in range(count)
    ]
    matrix = mp.matrix(count, count)
    for row, node in enumerate(nodes):
        for column in range(count):
            matrix[row, column] = node**column
    solution = mp.lu_solve(matrix, mp.matrix([function(node) for node in nodes]))
    points = [mp.mpf(float(point)) for point in _nodes(low, high, 97)]
    error = max(abs(mp.polyval(list(reversed(list(solution))), point) / function(point) - 1) for point in points)
    print(f"/* {name}: largest relative error {float(error):.2g} on [{low:.6g}, {high:.6g}] */")
    return [float(value) for value in solution]


def show(name: str, coefficients: list[float], single: bool = True) -> None:
    """Print one C array, lowest power first, rounded to the type the kernel uses."""
    numbers = ", ".join(f"{np.float32(c)!s}f" if single else repr(float(c)) for c in coefficients)
    kind = "float" if single else "double"
    print(f"static const {kind} {name}[{len(coefficients)}] = {{{numbers}}};")


def quantile_of_radius(t: mp.mpf) -> mp.mpf:
    """The z with P(Z > z) = exp(-t * t / 2)."""
    goal = -t * t / 2
    start = t - mp.log(2 * mp.pi * t * t) / (2 * t) if t > 3 else (t - mp.sqrt(2 * mp.log(2))) * 1.4
    return mp.findroot(lambda z: mp.log(mp.erfc(z / mp.sqrt(2)) / 2) - goal, start)


def main() -> None:
    """Print every array of ``coefficients.h``."""
    ln2, half_pi = mp.log(2), mp.pi / 2

    def log_part(g: mp.mpf) -> mp.mpf:
        return 2 * ln2 * (-1 - mp.log1p(-g / 2) / (g * ln2)) if g > 1e-15 else 1 - 2 * ln2

    def log_weight(g: mp.mpf) -> mp.mpf:
        square = -2 * mp.log1p(-g / 2)
        return g / max(mp.sqrt(square), square) if g > 1e-15 else mp.mpf(0)

    show("LOG32", fit("error of -2 ln u over max(r, r^2), twice the error of r", log_part, log_weight, 0, 1, 6)[0])

    def sine(y: mp.mpf) -> mp.mpf:
        return mp.sin(half_pi * mp.sqrt(y)) / mp.sqrt(y) if y > 1e-30 else half_pi

    def cosine(y: mp.mpf) -> mp.mpf:
        return mp.cos(half_pi * mp.sqrt(y)) / (1 - y) if abs(1 - y) > 1e-30 else half_pi / 2

    show("SIN32", fit("sin(pi/2 x), absolute", sine, mp.sqrt, 0, 1, 4)[0])
    show("COS32", fit("cos(pi/2 x), absolute", cosine, lambda y: 1 - y, 0, 1, 3)[0])

    edge = mp.erf(mp.sqrt(2)) ** 2

    def central(t: mp.mpf) -> mp.mpf:
        x = mp.sqrt(max(edge - t, mp.mpf(0)))
        return mp.sqrt(2) * mp.erfinv(x) / x if x > 1e-12 else mp.sqrt(half_pi)

    print(f"static const float CENTRE32_EDGE = {np.float32(edge)!s}f; /* erf(sqrt(2))^2 */")
    above, below = fit("quantile / x, relative", central, lambda t: 1 / central(t), 0, float(edge), 4, 3)
    show("CENTRE32_ABOVE", above), show("CENTRE32_BELOW", below)
    for suffix, low, high in (("NEAR", float(mp.sqrt(2 * ln2)), 11.4), ("FAR", 9.0, 37.9)):
        above, below = fit(
            "z of radius t, over max(1, z)",
            quantile_of_radius,
            lambda t: 1 / max(mp.mpf(1), quantile_of_radius(t)),
            low,
            high,
            4,
            3,
        )
        show(f"TAIL32_{suffix}_ABOVE", above), show(f"TAIL32_{suffix}_BELOW", below)

    def log_series(z: mp.mpf) -> mp.mpf:
        s = mp.sqrt(z)
        return -4 * mp.atanh(s) / s if z > 1e-30 else mp.mpf(-4)

    show("LOG64", taylor_minimax("-2 ln over s", log_series, 0, 0.0295, 7), single=False)
    show("SIN64", taylor_minimax("sin(pi/2 x) / x", sine, 0, 1, 8), single=False)
    show("COS64", taylor_minimax("cos(pi/2 x) / (1 - x^2)", cosine, 0, 1, 8), single=False)


if __name__ == "__main__":
    main()
