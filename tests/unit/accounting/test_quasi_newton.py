import numpy as np

from modelwright.accounting.quasi_newton import Floats, Indices, minimise


def test_each_of_many_problems_has_its_own_minimum():
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(50, 3))
    scales = np.exp(rng.normal(scale=2, size=(50, 3)))

    def bowls(x: Floats, problems: Indices) -> tuple[Floats, Floats]:
        off = x - centres[problems]
        return (scales[problems] * off**2).sum(1), 2 * scales[problems] * off

    found, values = minimise(bowls, np.zeros((50, 3)))
    assert np.abs(found - centres).max() < 1e-5
    assert values.max() < 1e-8


def test_a_bent_valley_is_followed_to_its_end():
    def rosenbrock(x: Floats, _: Indices) -> tuple[Floats, Floats]:
        a, b = x[:, 0], x[:, 1]
        value = (1 - a) ** 2 + 100 * (b - a**2) ** 2
        slope = np.stack([2 * (a - 1) - 400 * a * (b - a**2), 200 * (b - a**2)], axis=1)
        return value, slope

    found, _ = minimise(rosenbrock, np.array([[-1.2, 1.0], [3.0, -2.0], [0.0, 0.0]]))
    assert np.abs(found - 1).max() < 1e-5


def test_a_kink_is_found_though_the_slope_never_vanishes():
    def kinked(x: Floats, _: Indices) -> tuple[Floats, Floats]:
        weights = np.array([1.0, 30.0])
        return (weights * np.abs(x - 2)).sum(1), weights * np.sign(x - 2)

    found, _ = minimise(kinked, np.array([[-3.0, 7.5], [0.3, 0.1]]))
    assert np.abs(found - 2).max() < 1e-4


def test_a_start_without_a_value_stays_where_it_is():
    def rooted(x: Floats, _: Indices) -> tuple[Floats, Floats]:
        with np.errstate(invalid="ignore"):
            return (np.sqrt(x) - 1)[:, 0] ** 2, (1 - 1 / np.sqrt(x))

    found, values = minimise(rooted, np.array([[4.0], [-1.0]]))
    assert abs(found[0, 0] - 1) < 1e-5
    assert found[1, 0] == -1 and np.isnan(values[1])
