"""What a cell must do to a conductance."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cimlib.devices import Device, Effect, Gaussian, Lognormal, StuckAt

LOW, HIGH = 10.0, 100.0


def drawn(device, shape, seed=0):
    """Standard draws of ``device`` for cells of ``shape``."""
    generator = torch.Generator().manual_seed(seed)
    sampler = {"normal": torch.randn, "uniform": torch.rand}
    return {
        slot: sampler[kind](size, generator=generator, dtype=torch.float64)
        for slot, (kind, size) in device.draws(shape).items()
    }


@pytest.mark.parametrize("device", [Effect(), Gaussian(), Lognormal(), StuckAt(), Device()])
def test_every_device_is_ideal_by_default(device):
    g = torch.linspace(LOW, HIGH, 50, dtype=torch.float64)
    assert torch.equal(device(g, drawn(device, g.shape), LOW, HIGH), g)


def test_gaussian_has_the_published_spread_per_cell():
    device, n = Gaussian(0.1, clip=False), 400_000
    g = torch.full((n,), 55.0, dtype=torch.float64)
    error = device(g, drawn(device, g.shape), LOW, HIGH) - g
    expected = 0.1 * (HIGH - LOW)
    assert abs(error.mean()) < 4 * expected / n**0.5
    assert abs(error.std() - expected) < 4 * expected / (2 * n) ** 0.5


def test_lognormal_has_the_published_spread_and_keeps_the_median():
    device, n = Lognormal(0.5, clip=False), 400_000
    g = torch.full((n,), 55.0, dtype=torch.float64)
    log = (device(g, drawn(device, g.shape), LOW, HIGH) / g).log()
    assert abs(log.mean()) < 4 * 0.5 / n**0.5
    assert abs(log.std() - 0.5) < 4 * 0.5 / (2 * n) ** 0.5


def test_twice_the_sigma_is_twice_the_displacement():
    g = torch.full((1000,), 55.0, dtype=torch.float64)
    z = drawn(Gaussian(), g.shape)
    once = Gaussian(0.1, clip=False)(g, z, LOW, HIGH) - g
    twice = Gaussian(0.2, clip=False)(g, z, LOW, HIGH) - g
    torch.testing.assert_close(twice, 2 * once)


def test_stuck_fractions_and_polarities_are_those_asked_for():
    device, n = StuckAt(on=0.09, off=0.0175), 400_000
    g = torch.full((n,), 55.0, dtype=torch.float64)
    held = device(g, drawn(device, g.shape), LOW, HIGH)
    for value, fraction in ((HIGH, 0.09), (LOW, 0.0175)):
        measured = (held == value).double().mean()
        assert abs(measured - fraction) < 4 * (fraction * (1 - fraction) / n) ** 0.5
    assert (held == 55.0).double().mean() > 0.88


def test_more_faults_include_the_fewer():
    g = torch.full((10_000,), 55.0, dtype=torch.float64)
    z = drawn(StuckAt(), g.shape)
    few, many = (StuckAt(on=p, off=p)(g, z, LOW, HIGH) != g for p in (0.05, 0.1))
    assert (many | ~few).all() and many.sum() > few.sum()


def test_a_stuck_cell_passes_no_gradient_and_a_free_cell_passes_all_of_it():
    g = torch.full((1000,), 55.0, dtype=torch.float64, requires_grad=True)
    device = StuckAt(on=0.3, off=0.3)
    held = device(g, drawn(device, g.shape), LOW, HIGH)
    held.sum().backward()
    assert torch.equal(g.grad, (held == 55.0).double())


def test_a_saturated_cell_still_passes_the_gradient_of_its_target():
    g = torch.tensor([LOW, HIGH], dtype=torch.float64, requires_grad=True)
    z = {"programming": torch.tensor([-3.0, 3.0], dtype=torch.float64)}
    held = Gaussian(0.1)(g, z, LOW, HIGH)
    held.sum().backward()
    assert torch.equal(held, torch.tensor([LOW, HIGH], dtype=torch.float64))
    assert torch.equal(g.grad, torch.ones(2, dtype=torch.float64))


@given(sigma=st.floats(0, 5), kind=st.sampled_from([Gaussian, Lognormal]), seed=st.integers(0, 99))
def test_conductances_stay_in_range_unless_the_model_says_so(sigma, kind, seed):
    device = Device(kind(sigma), StuckAt(on=0.1, off=0.1))
    g = LOW + (HIGH - LOW) * torch.rand(64, generator=torch.Generator().manual_seed(seed))
    z = {name: draw.float() for name, draw in drawn(device, g.shape, seed).items()}
    held = device(g, z, LOW, HIGH)
    assert held.min() >= LOW and held.max() <= HIGH


def test_without_clipping_a_cell_may_leave_the_range():
    g, z = torch.tensor([HIGH]), {"programming": torch.tensor([3.0])}
    assert Gaussian(0.1, clip=False)(g, z, LOW, HIGH) > HIGH
    assert Lognormal(0.1, clip=False)(g, z, LOW, HIGH) > HIGH


def test_effects_compose_in_the_declared_order():
    g = torch.full((1000,), 55.0)
    device = Device(Gaussian(0.1), StuckAt(on=1.0))
    z = {name: draw.float() for name, draw in drawn(device, g.shape).items()}
    assert (device(g, z, LOW, HIGH) == HIGH).all()
    reverse = Device(StuckAt(on=1.0), Gaussian(0.1))
    assert (reverse(g, z, LOW, HIGH) < HIGH).any()


def test_with_sigma_changes_the_spread_and_nothing_else():
    device = Device(Lognormal(0.1, clip=False), StuckAt(on=0.1))
    assert device.with_sigma(0.4) == Device(Lognormal(0.4, clip=False), StuckAt(on=0.1))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Gaussian(-0.1), ["sigma", "-0.1", "0 ≤ sigma"]),
        (lambda: Gaussian(float("nan")), ["sigma", "nan"]),
        (lambda: Lognormal(float("inf")), ["sigma", "inf"]),
        (lambda: StuckAt(on=1.5), ["on", "1.5", "on ≤ 1"]),
        (lambda: StuckAt(off=-0.1), ["off", "-0.1"]),
        (lambda: StuckAt(on=0.6, off=0.6), ["on + off", "1.2"]),
        (lambda: Device(Gaussian(0.1), Lognormal(0.1)), ["effects", "at most once"]),
        (lambda: Device(StuckAt(on=0.1)).with_sigma(0.1), ["device", "Gaussian or Lognormal"]),
    ],
)
def test_bad_arguments_are_refused_with_name_value_and_range(make, words):
    with pytest.raises(ValueError, match=".*") as error:
        make()
    assert all(word in str(error.value) for word in words)


def test_something_that_is_not_an_effect_is_refused():
    with pytest.raises(TypeError, match="0.1"):
        Device(0.1)
