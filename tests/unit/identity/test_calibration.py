"""The calibration: from contrasts to evidence, by the number of samples behind them."""

from __future__ import annotations

import numpy as np
import pytest

from trackd.identity.calibration import Calibration, contrasts, together


def learnt(gap: float, fall: float, seed: int = 0) -> Calibration:
    """Contrasts of own animals at 15 samples of −gap, lower by `fall` for each e-fold of samples; of others 0."""
    random, made = np.random.default_rng(seed), Calibration()
    for count in np.geomspace(5, 100, 40):
        own = -gap - fall * np.log(count / 15) + random.normal(0, 0.2)
        made.add(float(own), random.normal(0, 0.2, 3), float(count), across=True)
    made.update()
    return made


def test_few_samples_that_are_less_near_are_evidence_for_the_own_animal_too():
    made = learnt(gap=2.0, fall=0.7)
    near = np.array([-1.2])  # what five samples of the own animal have
    assert made.evidence(near, 5.0) > 2.0
    assert made.evidence(near, 100.0) < 0.0, "so many samples of the own animal would be nearer"


@pytest.mark.parametrize("count", [1.0, 15.0, 600.0])
def test_animals_that_look_alike_give_no_evidence_with_any_number_of_samples(count):
    made = learnt(gap=0.0, fall=0.0)
    assert np.abs(made.evidence(np.array([-0.5, 0.0, 0.5]), count)).max() < 0.5


def test_what_was_learnt_is_the_same_in_a_later_session():
    made = learnt(gap=2.0, fall=0.7)
    later = Calibration(made.learnt)
    found = np.linspace(-4, 2, 20)
    np.testing.assert_array_equal(later.evidence(found, 9.0), made.evidence(found, 9.0))


def test_a_gallery_without_numbers_of_samples_can_be_used():
    made = learnt(gap=2.0, fall=0.7)
    old = Calibration({kind: values for kind, values in made.learnt.items() if not kind.endswith("_counts")})
    assert old.ready
    assert old.evidence(np.array([-3.0]), 15.0) > 0.0


def test_the_only_distance_of_a_row_has_no_contrast():
    found = contrasts(np.array([[1.0, np.nan], [1.0, 3.0]]))
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1], [-2.0, 2.0])


def test_the_smaller_of_two_means_bounds_what_their_difference_says():
    assert together(10.0, 600.0) == pytest.approx(9.84, abs=0.01)
    assert together(10.0, 10.0) == 5.0
