"""What a cell with a clock must do: the published distribution at every time, on one trajectory."""

import math
import pickle

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from cimlib import Hardware, fabricate, program, using
from cimlib.arrays import DoubleArray
from cimlib.circuits import Converters
from cimlib.devices import PCM, CMOReRAM, Device, Drift, Gaussian, Lognormal, RelativeDrift, WanReRAM, seconds

N = 100_000
HOUR, DAY, WEEK, YEAR = 3600.0, 86400.0, 604800.0, 31557600.0
LONG = 10 * YEAR
NATIVE = {PCM: (0.0, 25.0), CMOReRAM: CMOReRAM.RANGE, WanReRAM: (0.0, 39.26), RelativeDrift: (10.0, 100.0)}
EVERY = [
    PCM(),
    PCM(t=LONG),
    CMOReRAM(),
    CMOReRAM(acceptance="2 %", t=LONG),
    WanReRAM(t=DAY),
    WanReRAM(fit="crosssim"),
    RelativeDrift(0.2, t=LONG),
]


def drawn(effect, n=N, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draws = effect.draws((n,))
    assert {kind for kind, _ in draws.values()} <= {"normal"}
    return {slot: torch.randn(n, generator=generator, dtype=torch.float64) for slot in draws}


def held(effect, g, z=None, native=None, n=N):
    """Conductances of ``n`` cells asked to hold ``g`` µS."""
    low, high = native or NATIVE[type(effect)]
    return effect(torch.full((n,), g, dtype=torch.float64), z or drawn(effect, n), low, high)


def agrees(samples, mean, std):
    """Sample mean and standard deviation within four standard errors of a normal's."""
    n = len(samples)
    return (
        abs(samples.mean() - mean) < 4 * std / n**0.5 and abs(samples.std() - std) < 4 * std / (2 * n) ** 0.5
    )


# --- time -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("30 s", 30), ("1 second", 1), ("5min", 300), ("2 minutes", 120), ("1 h", HOUR), ("1 hour", HOUR),
        ("1.5 hours", 5400), (" 2 days ", 2 * DAY), ("1 d", DAY), ("1 week", WEEK), ("1 month", YEAR / 12),
        ("1 year", YEAR), ("10 years", LONG), ("1e3 s", 1000), (".5 h", 1800), ("0 s", 0),
        (7, 7), (2.5, 2.5), (np.float64(3), 3), (np.int64(3), 3),
    ],
)  # fmt: skip
def test_a_time_is_a_number_of_seconds_or_a_number_with_a_unit(text, value):
    assert seconds(text) == pytest.approx(value, rel=1e-15) and type(seconds(text)) is float


@pytest.mark.parametrize(
    "time",
    ["-1 hour", "1", "hour", "", "1 parsec", "1 M", "ten years", "inf years", "nan s", "1e400 s", "1 h 5 min",
     -1, -1e-9, math.nan, math.inf, None, True, torch.tensor(1.0)],
)  # fmt: skip
@pytest.mark.parametrize(
    "take",
    [
        seconds,
        PCM().at,
        RelativeDrift(0.1).at,
        lambda t: CMOReRAM(t=t),
        Device(PCM()).at,
        Hardware(PCM()).at,
    ],
)
def test_what_is_no_time_is_refused_with_name_value_and_what_is_allowed(take, time):
    with pytest.raises(ValueError, match=r"^t = .* ≥ 0, or text like '10 years'") as error:
        take(time)
    assert repr(time) in str(error.value)


def test_at_changes_the_time_and_nothing_else():
    assert PCM(read=False).at("1 hour") == PCM(read=False, t=3600) == PCM(read=False, t="1 hour")
    assert CMOReRAM(acceptance="2 %").at(LONG).at("1 s") == CMOReRAM(acceptance="2 %", t=1.0)
    assert WanReRAM().at("1 day") == WanReRAM(t=DAY)
    assert Drift().at("1 week").t == WEEK


def test_a_device_and_hardware_at_another_time_are_the_same_but_for_what_drifts():
    device = Device(Gaussian(0.1), PCM(programming=False))
    assert device.at("1 hour") == Device(Gaussian(0.1), PCM(programming=False, t=HOUR))
    assert device.at(LONG).draws((3,)) == device.draws((3,))
    hardware = Hardware(device, DoubleArray(0.0, 25.0), Converters(adc_bits=6))
    assert hardware.at("1 hour") == Hardware(device.at("1 hour"), hardware.array, hardware.circuit)
    assert hardware.at("10 years").at("0 s") == hardware


@pytest.mark.parametrize("effect", EVERY)
def test_drift_pickles_and_leaves_what_it_was_given(effect):
    assert pickle.loads(pickle.dumps(effect)) == effect
    g, (low, high) = torch.linspace(10, 30, 50), NATIVE[type(effect)]
    before, z = g.clone(), {slot: draw.float() for slot, draw in drawn(effect, 50).items()}
    out = effect(g, z, low, high)
    assert torch.equal(g, before) and out.dtype == g.dtype and out.min() >= 0


@pytest.mark.parametrize(
    ("effect", "g"), [(PCM(t=DAY), 0.1), (WanReRAM(t=DAY), 1.0), (RelativeDrift(1.0), 50.0)]
)
def test_no_conductance_is_negative(effect, g):
    g = held(effect, g)
    assert g.min() == 0 and (g == 0).double().mean() > 0.1


def test_without_any_spread_and_time_nothing_changes():
    g = torch.linspace(10, 25, 50)
    for effect in (
        PCM(programming=False, read=False),
        CMOReRAM(programming=False, read=False),
        RelativeDrift(),
    ):
        z = {"drift": drawn(effect, 50)["drift"].float()}
        assert torch.equal(effect(g, z, 9.0, 88.2), g)


# --- PCM --------------------------------------------------------------------------------------------


def pcm_exponent(x):
    mean = min(max(-0.0155 * math.log(x) + 0.0244, 0.049), 0.1)
    return mean, min(max(-0.0125 * math.log(x) - 0.0059, 0.008), 0.045)


@pytest.mark.parametrize(("x", "microsiemens"), [(0.25, 0.68), (0.5, 0.95), (0.75, 1.08), (1.0, 1.06)])
def test_pcm_misses_its_target_by_the_published_spread(x, microsiemens):
    published = 0.26348 + 1.9650 * x - 1.1731 * x * x
    assert published == pytest.approx(microsiemens, abs=0.005)
    assert agrees(held(PCM(read=False), 25 * x), 25 * x, published)


def test_pcm_programmed_to_zero_is_half_a_normal():
    g = held(PCM(read=False), 0.0)
    assert abs((g == 0).double().mean() - 0.5) < 4 * 0.5 / N**0.5
    assert abs(g.mean() - 0.26348 / math.sqrt(2 * math.pi)) < 4 * 0.26348 / N**0.5
    z = drawn(PCM())
    assert (held(PCM(), 0.0, z)[z["programming"] < 0] == 0).all()  # whatever the read noise


@pytest.mark.parametrize("x", [0.3, 1.0])
@pytest.mark.parametrize(
    ("t", "left"), [(HOUR, 0.775), (DAY, 0.664), (WEEK, 0.603), (YEAR, 0.497), (LONG, 0.444)]
)
def test_pcm_keeps_the_published_share_of_a_large_conductance(x, t, left):
    kept = held(PCM(programming=False, read=False, t=t), 25 * x) / (25 * x)
    log = math.log((t + 20) / 20)
    assert math.exp(-0.049 * log) == pytest.approx(left, abs=5e-4)
    assert agrees(kept.log(), -0.049 * log, pcm_exponent(x)[1] * log)
    median_error = math.sqrt(math.pi / 2) * kept.std() / N**0.5
    assert abs(kept.median() - left) < 4 * median_error + 5e-4


@pytest.mark.parametrize("t", [HOUR, LONG])
@pytest.mark.parametrize("x", [0.002, 0.02, 0.1, 0.25, 1.0])
def test_pcm_exponents_have_the_published_distribution_at_every_state_and_time(x, t):
    kept = held(PCM(programming=False, read=False, t=t), 25 * x) / (25 * x)
    exponent = (-kept.log() / math.log((t + 20) / 20)).numpy()
    mean, std = pcm_exponent(x)
    folded = stats.foldnorm(mean / std, scale=std)
    assert exponent.min() >= 0
    assert abs(exponent.mean() - folded.mean()) < 4 * folded.std() / N**0.5
    assert stats.kstest(exponent[:20_000], folded.cdf).pvalue > 1e-3
    for found, published in zip(PCM.exponent(torch.tensor(x, dtype=torch.float64)), (mean, std), strict=True):
        assert float(found) == pytest.approx(published, rel=1e-12)


def test_pcm_exponents_are_flat_above_a_fifth_and_below_a_hundredth_of_the_range():
    mean, _ = PCM.exponent(torch.tensor([0.206, 1.0, 0.0075, 0.0], dtype=torch.float64))
    torch.testing.assert_close(mean, torch.tensor([0.049, 0.049, 0.1, 0.1], dtype=torch.float64))


@pytest.mark.parametrize("t", [0.0, HOUR, LONG])
@pytest.mark.parametrize("x", [0.005, 0.1, 0.5, 1.0])
def test_pcm_read_noise_grows_as_published(x, t):
    noisy, quiet = PCM(programming=False, t=t), PCM(programming=False, read=False, t=t)
    z = drawn(noisy)
    relative = held(noisy, 25 * x, z) / held(quiet, 25 * x, z) - 1
    published = min(0.0088 / max(x**0.65, 1e-3), 0.2) * math.sqrt(math.log((t + 20 + 250e-9) / 500e-9))
    reached = relative[relative > -1]  # the others are clipped at 0
    assert abs(len(reached) / N - stats.norm.cdf(1 / published)) < 1e-12 + 4 * 0.5 / N**0.5
    cut = stats.truncnorm(-1 / published, math.inf, scale=published)
    assert abs(reached.mean() - cut.mean()) < 4 * cut.std() / N**0.5
    assert abs(reached.std() - cut.std()) < 4 * published / (2 * N) ** 0.5


def test_pcm_read_noise_is_that_of_the_programmed_state_on_the_drifted_conductance():
    z = {
        slot: torch.tensor([v], dtype=torch.float64)
        for slot, v in (("programming", 2.0), ("drift", -1.0), ("read", 1.5))
    }
    found = PCM(t=DAY)(torch.tensor([5.0], dtype=torch.float64), z, 0.0, 25.0)
    programmed = 5 + 2 * (0.26348 + 1.9650 * 0.2 - 1.1731 * 0.04)
    mean, std = pcm_exponent(0.2)
    drifted = programmed * ((DAY + 20) / 20) ** -(mean - std)
    quality = 0.0088 / (programmed / 25) ** 0.65
    assert float(found) == pytest.approx(
        drifted * (1 + 1.5 * quality * math.sqrt(math.log((DAY + 20 + 250e-9) / 500e-9))), rel=1e-12
    )


def test_pcm_counts_in_fractions_of_g_max_whatever_g_min_is():
    z = drawn(PCM(t=YEAR))
    small = held(PCM(t=YEAR), 10.0, z)
    torch.testing.assert_close(held(PCM(t=YEAR), 40.0, z, native=(0.0, 100.0)), 4 * small)
    assert torch.equal(held(PCM(t=YEAR), 10.0, z, native=(5.0, 25.0)), small)
    assert held(PCM(t=YEAR), 5.0, z, native=(5.0, 25.0)).median() < 5


# --- one trajectory ---------------------------------------------------------------------------------


def test_every_pcm_cell_only_loses_conductance():
    effect = PCM(read=False)
    g = torch.linspace(0, 25, N, dtype=torch.float64)
    z = drawn(effect)
    life = torch.stack([effect.at(t)(g, z, 0.0, 25.0) for t in (0, 1, 20, HOUR, DAY, WEEK, YEAR, LONG)])
    assert (life.diff(dim=0) <= 0).all() and (life[-1] < life[0]).double().mean() > 0.9


@pytest.mark.parametrize(
    ("effect", "first", "then"),
    [
        (PCM(programming=False, read=False), "1 hour", "10 years"),
        (CMOReRAM(programming=False, read=False), "1 s", "10 years"),
        (WanReRAM(), "1 s", "2 days"),
    ],
)
def test_a_cell_is_as_far_from_the_mean_at_every_time_and_another_chip_is_not(effect, first, then):
    def deviation(t, seed):
        g = held(effect.at(t), 20.0, drawn(effect, seed=seed))
        g = g.log() if isinstance(effect, PCM) else g
        return (g - g.mean()) / g.std()

    torch.testing.assert_close(deviation(first, 0), deviation(then, 0))
    assert abs((deviation(first, 0) * deviation(then, 1)).mean()) < 4 / N**0.5


def test_a_fabricated_chip_ages_and_stays_the_same_chip():
    torch.manual_seed(0)
    layer, hardware = nn.Linear(40, 50), Hardware(PCM(read=False), DoubleArray(g_min=0.0, g_max=25.0))
    model = fabricate(program(layer, hardware), chip=3)
    fresh, cells = model.read()[0].detach(), model.read()[1].cells.detach()
    draws = {slot: z.clone() for slot, z in model.draws().items()}
    with using(model, hardware.at("10 years")):
        assert all(torch.equal(z, draws[slot]) for slot, z in model.draws().items())
        aged = model.read()[1].cells.detach()
        error = model.read()[0].detach() - layer.weight.detach()
    assert (aged <= cells).all()
    assert torch.equal(model.read()[0].detach(), fresh)
    assert aged.sum() / cells.sum() == pytest.approx(0.444, abs=0.03)
    assert error.abs().mean() > 3 * (fresh - layer.weight.detach()).abs().mean()


# --- CMO/HfOx ReRAM ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("t", "shift", "std"),
    [(0, 0, 0), (1, 0, 0.412), (HOUR, -0.729, 0.756), (DAY, -1.012, 0.889), (WEEK, -1.185, 0.971),
     (YEAR, -1.537, 1.137), (LONG, -1.742, 1.234)],
)  # fmt: skip
def test_cmo_relaxes_by_the_published_shift_and_spread_whatever_its_state(t, shift, std):
    assert CMOReRAM(t=t).relaxation() == pytest.approx((shift, std), abs=5e-4)
    effect = CMOReRAM(programming=False, read=False, clip=False, t=t)
    z = drawn(effect)
    for g in (20.0, 80.0):
        moved = held(effect, g, z) - g
        assert agrees(moved, *effect.relaxation()) if t else (moved == 0).all()


@pytest.mark.parametrize("t", [0.0, HOUR, LONG])
@pytest.mark.parametrize("g", [15.0, 50.0, 80.0])
@pytest.mark.parametrize(
    ("acceptance", "offset", "slope"),
    [("0.2 %", 0.00081107, 0.00106879), ("2 %", 0.0112185, 0.0112903)],
)
def test_cmo_adds_relaxation_to_the_spread_that_its_acceptance_leaves(acceptance, offset, slope, g, t):
    effect = CMOReRAM(acceptance=acceptance, read=False, clip=False, t=t)
    shift = -0.08900206 * math.log(t) if t else 0.0
    std = 0.04201137 * math.log(t) + 0.41183342 if t else 0.0
    assert agrees(held(effect, g), g + shift, math.hypot(offset + slope * g, std))


@pytest.mark.parametrize("t", [1.0, DAY, LONG])
@pytest.mark.parametrize("g", [12.0, 50.0, 85.0])
def test_cmo_read_noise_grows_as_published(g, t):
    noisy = CMOReRAM(programming=False, clip=False, t=t)
    z = drawn(noisy) | {"drift": torch.zeros(N, dtype=torch.float64)}
    drifted = g + CMOReRAM(t=t).relaxation()[0]
    std = 0.0277316 * math.log10(drifted) * math.sqrt(math.log((t + 1e-6) / 2e-6))
    assert agrees(held(noisy, g, z), drifted, std)
    assert noisy.read_spread(torch.tensor(drifted, dtype=torch.float64)).item() == pytest.approx(std)


def test_cmo_just_programmed_has_no_read_noise():
    z = drawn(CMOReRAM())
    assert torch.equal(held(CMOReRAM(), 50.0, z), held(CMOReRAM(read=False), 50.0, z))


def test_a_clipped_cmo_cell_stays_in_the_range_of_its_array_and_a_free_one_leaves_it():
    for g in CMOReRAM.RANGE:
        clipped = held(CMOReRAM(t=LONG), g)
        assert clipped.min() >= 9 and clipped.max() <= 88.2
    assert held(CMOReRAM(t=LONG), 20.0, native=(20.0, 80.0)).min() == 20
    free = held(CMOReRAM(t=LONG, clip=False, read=False), 9.0)
    assert agrees(free, 9 - 1.7417623, math.hypot(0.00081107 + 0.00106879 * 9, 1.2339922))


# --- ReRAM after Wan et al. -------------------------------------------------------------------------


WAN = {
    1.0: (0.348, 16.030, -43.853, 45.393, -16.815),
    DAY: (0.701, 22.086, -50.773, 47.095, -16.458),
    2 * DAY: (0.782, 20.274, -43.507, 37.062, -11.934),
}


def quartic(t, g):
    return np.polynomial.Polynomial(WAN[t])(np.asarray(g) / 40)


def cubic(g):
    return np.polyval([1.536e-4, -1.167e-2, 2.374e-1, 1.053], g)


@pytest.mark.parametrize("t", WAN)
@pytest.mark.parametrize("g", [8.0, 16.0, 36.0])
def test_wan_broadens_as_the_quartic_says_and_does_not_shift(g, t):
    agreed = held(WanReRAM(t=t), g)
    free = agreed[agreed > 0]
    std = float(quartic(t, g))
    cut = stats.truncnorm(-g / std, math.inf, loc=g, scale=std)
    assert abs(len(free) / N - stats.norm.cdf(g / std)) < 1e-12 + 4 * (stats.norm.sf(g / std) / N) ** 0.5
    assert abs(free.mean() - cut.mean()) < 4 * cut.std() / N**0.5
    assert abs(free.std() - cut.std()) < 4 * cut.std() / (2 * N) ** 0.5


@pytest.mark.parametrize("g", [10.0, 25.0, 39.0])
def test_wan_broadens_as_the_cubic_says(g):
    assert agrees(held(WanReRAM(fit="crosssim"), g), g, cubic(g))


@pytest.mark.parametrize(("t", "peak"), [(1, 2.30), (DAY, 4.00), (2 * DAY, 4.00)])
def test_wan_is_widest_at_a_third_of_its_range(t, peak):
    g = torch.linspace(0, 40, 4001, dtype=torch.float64)
    spread = WanReRAM(t=t).spread(g)
    assert float(spread.max()) == pytest.approx(peak, abs=0.006)
    assert 0.3 <= float(g[spread.argmax()]) / 40 <= 0.42 and spread.min() > 0


def test_the_two_published_fits_of_one_measurement_differ():
    g = torch.linspace(0, 39.26, 3927, dtype=torch.float64)
    ours, theirs = WanReRAM().spread(g), WanReRAM(fit="crosssim").spread(g)
    np.testing.assert_allclose(ours, quartic(1.0, g.numpy()), rtol=1e-12)
    np.testing.assert_allclose(theirs, cubic(g.numpy()), rtol=1e-12)
    more = theirs - ours
    assert float(more[0]) == pytest.approx(1.053 - 0.348) and float(theirs[0] / ours[0]) > 3  # the off state
    assert float(more.max()) == float(more[0]) and float(more.min()) == pytest.approx(0.147, abs=5e-4)
    assert float(theirs.max() / ours.max()) == pytest.approx(2.511 / 2.300, abs=1e-3)  # the peaks


# --- relative drift ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.05, 0.2])
@pytest.mark.parametrize("g", [20.0, 90.0])
def test_relative_drift_is_in_proportion_to_the_target(g, rho):
    assert agrees(held(RelativeDrift(rho), g), g, rho * g)


def test_twice_the_relative_drift_is_twice_the_displacement_at_any_time():
    z = drawn(RelativeDrift())
    once, twice = held(RelativeDrift(0.05), 50.0, z), held(RelativeDrift(0.1), 50.0, z)
    torch.testing.assert_close(twice - 50, 2 * (once - 50))
    assert torch.equal(held(RelativeDrift(0.1).at("10 years"), 50.0, z), twice)


# --- in a device, and in training -------------------------------------------------------------------


@pytest.mark.parametrize(
    "effects",
    [
        (Gaussian(0.1), PCM()),
        (CMOReRAM(), Lognormal(0.1)),
        (Gaussian(0.1), WanReRAM()),
        (PCM(programming=False), RelativeDrift(0.1)),
        (PCM(programming=False, read=False), CMOReRAM()),
    ],
)
def test_one_source_of_spread_is_not_counted_twice(effects):
    with pytest.raises(ValueError, match="at most once"):
        Device(*effects)


def test_drift_composes_with_another_programming_error():
    assert set(Device(Gaussian(0.1), PCM(programming=False)).draws((1,))) == {"programming", "drift", "read"}
    assert set(Device(Lognormal(0.1), RelativeDrift(0.1)).draws((1,))) == {"programming", "drift"}


@pytest.mark.parametrize("effect", EVERY)
def test_gradients_are_those_of_the_formulas(effect):
    g = torch.linspace(15, 24, 20, dtype=torch.float64, requires_grad=True)
    z = {slot: draw.clamp(-2, 2) for slot, draw in drawn(effect, 20).items()}
    assert torch.autograd.gradcheck(lambda g: effect(g, z, *NATIVE[type(effect)]), g)


def test_a_clipped_cell_still_passes_a_gradient():
    low = torch.tensor([9.0], dtype=torch.float64, requires_grad=True)
    z = {slot: -torch.ones(1, dtype=torch.float64) for slot in ("drift", "programming")}
    clipped = CMOReRAM(t=LONG, read=False)(low, z, 9.0, 88.2)
    clipped.sum().backward()
    assert clipped.item() == 9 and low.grad.item() == pytest.approx(1 - 0.00106879)
    small = torch.tensor([0.1], dtype=torch.float64, requires_grad=True)
    clipped = PCM(read=False)(small, z, 0.0, 25.0)
    clipped.sum().backward()
    assert clipped.item() == 0 and small.grad.item() == pytest.approx(1 - (1.9650 - 2 * 1.1731 * 0.004) / 25)


@pytest.mark.parametrize(
    ("effect", "inactive"), [*((effect, "programmed") for effect in EVERY), (PCM(t=DAY), "disconnected")]
)
def test_gradients_are_finite_and_there_also_where_a_weight_is_zero(effect, inactive):
    torch.manual_seed(0)
    low, high = NATIVE[type(effect)]
    array = DoubleArray(g_min=low, g_max=high, inactive=inactive)
    model = fabricate(program(nn.Linear(6, 4), Hardware(effect, array)))
    with torch.no_grad():
        model.weight[0] = 0
    model(torch.ones(3, 6)).sum().backward()
    assert model.weight.grad.isfinite().all() and (model.weight.grad != 0).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CMOReRAM(t=0.5), ["t", "0.5", "0 or t ≥ 1"]),
        (lambda: CMOReRAM(acceptance="1 %"), ["acceptance", "'1 %'", "'0.2 %', '2 %'"]),
        (lambda: CMOReRAM(acceptance=0.02), ["acceptance", "0.02", "'2 %'"]),
        (
            lambda: held(CMOReRAM(), 50.0, native=(10.0, 100.0)),
            ["(g_min, g_max)", "(10.0, 100.0)", "9.0 … 88.2 µS"],
        ),
        (lambda: held(CMOReRAM(), 50.0, native=(0.0, 88.2)), ["(g_min, g_max)", "(0.0, 88.2)"]),
        (lambda: WanReRAM(t=0), ["t", "0", "1, 86400, 172800 (s)", "aihwkit"]),
        (lambda: WanReRAM().at("1 week"), ["t", "604800", "1, 86400, 172800 (s)"]),
        (lambda: WanReRAM(fit="crosssim").at("1 day"), ["t", "86400", "allowed: 1 (s)", "crosssim"]),
        (lambda: WanReRAM(fit="mine"), ["fit", "'mine'", "'aihwkit', 'crosssim'"]),
        (lambda: held(WanReRAM(), 20.0, native=(0.0, 41.0)), ["g_max", "41.0", "≤ 40.0 µS"]),
        (lambda: held(WanReRAM(fit="crosssim"), 20.0, native=(0.0, 40.0)), ["g_max", "40.0", "≤ 39.26 µS"]),
        (lambda: RelativeDrift(-0.1), ["rho", "-0.1", "0 ≤ rho"]),
        (lambda: RelativeDrift(math.nan), ["rho", "nan"]),
        (lambda: Device(Gaussian(0.1)).at("1 hour"), ["device", "Gaussian(sigma=0.1", "such as PCM"]),
        (lambda: Hardware().at("1 hour"), ["device", "Device(effects=())", "such as PCM"]),
    ],
)
def test_bad_arguments_are_refused_with_name_value_and_range(make, words):
    with pytest.raises(ValueError, match="is not allowed; allowed:") as error:
        make()
    assert all(word in str(error.value) for word in words)
