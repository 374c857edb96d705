"""What negative feedback training must be: its loss by hand, its limits bit for bit, and no trace of it."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cimlib import Hardware, evaluate, fabricate, fit, fresh, presets, program, using
from cimlib.arrays import DoubleArray
from cimlib.chip import crossbars, plain_state
from cimlib.circuits import OpAmp
from cimlib.devices import Gaussian, StuckAt
from cimlib.methods import (
    IRS,
    OVF,
    CorrectNet,
    NegativeFeedback,
    NoiseAveraging,
    Temperature,
    decay_factors,
    snapshot_heads,
)
from cimlib.networks import mlp
from cimlib.training import CrossEntropy

SIGMA = 0.1
HARDWARE = presets("nft-rram").with_sigma(SIGMA)
PLACES = {"2": (4, 3), "6": (6, 2)}


def cnn():
    """Two convolutions with BatchNorm and a classifier, for inputs (1, 8, 8) and 3 classes."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(96, 3),
        )


def noisy(hardware=HARDWARE, seed=0):
    return fresh(program(cnn(), hardware), seed)


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(48, 1, 8, 8, generator=generator)
    y = torch.randint(3, (48,), generator=generator)
    return x + y.reshape(-1, 1, 1, 1), y


def heads(hidden=5):
    return snapshot_heads(PLACES, classes=3, hidden=hidden)


def trained(objective, data, model=None, epochs=2):
    model = noisy() if model is None else model
    history = fit(model, objective, data, epochs=epochs, lr=0.01, seed=0, batch_size=16)
    return model, history


def parameters(model):
    return {name: p.detach() for name, p in model.named_parameters()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def loss_of(objective, model, batch):
    objective.setup(model)
    try:
        return objective(model, batch)
    finally:
        objective.teardown(model)


# --- the loss ---------------------------------------------------------------------------------------


class Given(NegativeFeedback):
    """Feedbacks that do not come from a network."""

    def outputs(self, model, x):
        return list(x)


def test_decay_factors_fall_from_the_first_or_rise_to_the_last_by_tens():
    assert decay_factors(4, "falling") == (1.0, 0.1, 0.01, 0.001)
    assert decay_factors(4, "rising") == (0.001, 0.01, 0.1, 1.0)
    assert decay_factors(0, "rising") == ()


@pytest.mark.parametrize(
    ("decay", "sign", "z"),
    [
        ("falling", -1, [(3 - 0.5 * (1 * 2 + 0.1 * 4)) / 3, (1 - 0.5 * (1 * 6 + 0.1 * 8)) / 3]),
        ("rising", -1, [(3 - 0.5 * (0.1 * 2 + 1 * 4)) / 3, (1 - 0.5 * (0.1 * 6 + 1 * 8)) / 3]),
        ("falling", 1, [(3 + 0.5 * (1 * 2 + 0.1 * 4)) / 3, (1 + 0.5 * (1 * 6 + 0.1 * 8)) / 3]),
    ],
)
def test_the_loss_is_the_cross_entropy_of_the_output_less_its_feedback_over_n_plus_one(decay, sign, z):
    base, *feedbacks = torch.tensor([[[3.0, 1.0]], [[2.0, 6.0]], [[4.0, 8.0]]], dtype=torch.float64)
    objective = Given(2, 0.5, decay, sign)
    z = torch.tensor(z, dtype=torch.float64)
    expected = z.exp().sum().log() - z[1]
    loss = objective(nn.Identity(), ((base, *feedbacks), torch.tensor([1])))
    torch.testing.assert_close(loss, expected)


def test_a_small_feedback_survives_half_precision():
    base = torch.tensor([[3.0, 1.0]], dtype=torch.bfloat16)
    total = Given(1, 1e-3, "rising", -1).total([base, torch.ones_like(base)])
    torch.testing.assert_close(total, torch.tensor([[2.999, 0.999]]))


def test_without_feedbacks_it_is_noise_injection(data):
    plain, _ = trained(CrossEntropy(), data)
    assert same(plain.state_dict(), trained(OVF(beta=0.1, feedbacks=0), data)[0].state_dict())
    assert same(plain.state_dict(), trained(IRS({}, beta=0.1, hardware=None), data)[0].state_dict())
    assert same(plain.state_dict(), trained(NoiseAveraging(1), data)[0].state_dict())
    assert same(plain.state_dict(), trained(Temperature(1.0), data)[0].state_dict())


def test_without_strength_only_the_temperature_n_plus_one_is_left(data):
    """N + 1 = 3 and 5 besides 4: where dividing and multiplying by the inverse round differently."""
    for n in (2, 3, 4):
        temperature, _ = trained(Temperature(n + 1), data)
        noise_injection, _ = trained(CrossEntropy(scale=1 / (n + 1)), data)
        first, _ = trained(OVF(beta=0.0, feedbacks=n, bn="first"), data)
        every, _ = trained(OVF(beta=0.0, feedbacks=n), data)
        assert same(temperature.state_dict(), noise_injection.state_dict())
        assert same(temperature.state_dict(), first.state_dict())
        assert same(parameters(temperature), parameters(every))
        assert not same(temperature.state_dict(), every.state_dict())  # BatchNorm has seen the feedbacks
    snapshots, _ = trained(IRS(heads(), beta=0.0, hardware=HARDWARE), data)
    assert same(trained(Temperature(3), data)[0].state_dict(), snapshots.state_dict())
    assert not same(parameters(snapshots), parameters(trained(CrossEntropy(), data)[0]))


@pytest.mark.parametrize("temperature", [2.0, 4.0])
def test_to_adam_a_temperature_is_a_last_layer_that_starts_smaller_and_learns_slower(data, temperature):
    """Derived: errors are relative to the largest weight; Adam does not see the size of a gradient."""

    def training(objective, divisor):
        model = noisy().to(torch.float64)
        last = [model[-1].weight, model[-1].bias]
        with torch.no_grad():
            for parameter in last:
                parameter.div_(divisor)
        others = [p for p in model.parameters() if all(p is not own for own in last)]
        groups = [{"params": others}, {"params": last, "lr": 0.01 / divisor}]
        fit(
            model,
            objective,
            (data[0].double(), data[1]),
            epochs=5,
            lr=0.01,
            seed=0,
            batch_size=16,
            optimizer=lambda _: torch.optim.Adam(groups, 0.01, eps=1e-14),
        )
        return parameters(model)

    hot, small = training(Temperature(temperature), 1.0), training(CrossEntropy(), temperature)
    start = parameters(noisy().to(torch.float64))
    for name in hot:
        shown = hot[name] / temperature if name.startswith("8.") else hot[name]
        assert torch.allclose(shown, small[name], rtol=1e-6, atol=1e-9)
        assert not torch.allclose(hot[name], start[name], rtol=1e-3)


# --- OVF --------------------------------------------------------------------------------------------


def test_one_feedback_at_the_same_spread_has_the_loss_computed_by_hand():
    """One weight row, one sample, on a held chip: both passes give the same output."""
    linear = nn.Linear(2, 2, bias=False)
    linear.weight.data = torch.tensor([[1.0, -0.5], [0.25, 0.5]])
    model = fabricate(program(linear, Hardware(Gaussian(0.1, clip=False))), 3)
    out = model(torch.tensor([[1.0, 2.0]]))[0].double()
    z = (out - 0.25 * out) / 2
    by_hand = z.exp().sum().log() - z[0]
    batch = (torch.tensor([[1.0, 2.0]]), torch.tensor([0]))
    loss = loss_of(OVF(beta=0.25, feedbacks=1, step=0.0), model, batch)
    torch.testing.assert_close(loss.double(), by_hand)
    assert (out != linear(torch.tensor([[1.0, 2.0]]))[0]).all()


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("decay", ["rising", "falling"])
def test_feedback_n_is_the_output_at_sigma_plus_n_steps(data, decay, sign):
    x, y = data
    model = fabricate(program(cnn(), HARDWARE), 5)
    outputs = []
    for n in range(4):
        with using(model, HARDWARE.with_sigma(SIGMA + 0.05 * n)):
            outputs.append(model(x))
    base, first, second, third = outputs
    factors = (0.01, 0.1, 1.0) if decay == "rising" else (1.0, 0.1, 0.01)
    feedback = factors[0] * first + factors[1] * second + factors[2] * third
    expected = F.cross_entropy((base + sign * 0.1 * feedback) / 4, y)
    torch.testing.assert_close(loss_of(OVF(beta=0.1, decay=decay, sign=sign), model, data), expected)
    assert not torch.equal(first, third)


def test_the_largest_spread_counts_most_by_default_and_reversed_steps_lower_it(data):
    x, _ = data
    model = fabricate(program(cnn(), HARDWARE), 5)
    for step in (0.05, -0.05):
        objective = OVF(beta=0.1, feedbacks=2, step=step)
        objective.setup(model)
        _, first, second = objective.outputs(model, x)
        assert objective.factors == (0.1, 1.0)
        for n, output in ((1, first), (2, second)):
            with using(model, HARDWARE.with_sigma(SIGMA + n * step)):
                assert torch.equal(output, model(x))


def test_steps_down_may_end_at_zero_exactly(data):
    hardware = HARDWARE.with_sigma(0.15)
    model = noisy(hardware)
    assert torch.isfinite(loss_of(OVF(beta=0.1, step=-0.05), model, data))


def test_every_layer_is_raised_from_its_own_spread_unless_layers_are_named(data):
    x, _ = data
    designs = {"0": HARDWARE, "4": HARDWARE.with_sigma(0.3), "8": HARDWARE.with_sigma(0.2)}
    model = fabricate(program(cnn(), designs), 1)
    for named, raised in ((None, "048"), (("0", "8"), "08")):
        objective = OVF(beta=0.1, feedbacks=1, layers=named)
        objective.setup(model)
        output = objective.outputs(model, x)[1]
        there = {n: h.with_sigma(h.cell.effects[0].sigma + 0.05 * (n in raised)) for n, h in designs.items()}
        assert torch.equal(output, fabricate(program(cnn(), there), 1).train()(x))
        objective.teardown(model)
        assert {layer.name: layer.hardware for layer in crossbars(model)} == designs


def test_feedbacks_draw_errors_of_their_own_and_leave_those_of_the_output_alone(data):
    x, _ = data
    model, twin = noisy(), noisy()
    objective = OVF(beta=0.1, feedbacks=2, step=0.0)
    objective.setup(model)
    seen = []
    for _ in range(3):
        base, *feedbacks = objective.outputs(model, x)
        assert torch.equal(base, twin(x))
        seen += [base, *feedbacks]
    assert len({tuple(output.flatten().tolist()) for output in seen}) == 9


def test_a_second_training_draws_other_feedbacks(data):
    x, _ = data
    model = noisy()
    objective = OVF(beta=0.1, feedbacks=1)
    seen = []
    for _ in range(2):
        objective.setup(model)
        seen.append(objective.outputs(model, x)[1])
        objective.teardown(model)
    assert not torch.equal(*seen)
    with pytest.raises(RuntimeError, match="setup"):
        objective.outputs(model, x)


@pytest.mark.parametrize(("bn", "updates"), [("every", 4), ("first", 1)])
def test_every_pass_or_only_the_first_updates_batchnorm(data, bn, updates):
    x, _ = data
    model, twin = noisy(), noisy()
    loss_of(OVF(beta=0.1, bn=bn), model, data)
    assert model[1].num_batches_tracked == updates
    twin(x)
    assert torch.equal(model[5].running_mean, twin[5].running_mean) == (bn == "first")
    assert model[1].track_running_stats


def test_passes_are_normalised_alike_whichever_update_batchnorm(data):
    every, first = (loss_of(OVF(beta=0.1, bn=bn), noisy(), data) for bn in ("every", "first"))
    assert torch.equal(every, first)


def test_a_training_ends_with_the_same_weights_whichever_update_batchnorm(data):
    every, first = (trained(OVF(beta=0.1, bn=bn), data)[0] for bn in ("every", "first"))
    assert same(parameters(every), parameters(first))
    assert not same(every.state_dict(), first.state_dict())


def test_feedbacks_leave_hardware_and_generators_as_they_were_even_if_a_pass_fails(data):
    model = noisy()
    before = [(layer.hardware, layer.generator) for layer in crossbars(model)]
    objective = OVF(beta=0.1, bn="first")
    objective.setup(model)
    calls = []

    def fail(module, inputs):
        calls.append(module)
        if len(calls) == 3:
            raise RuntimeError("pass 3")

    with model.register_forward_pre_hook(fail), pytest.raises(RuntimeError, match="pass 3"):
        objective(model, data)
    after = [(layer.hardware, layer.generator) for layer in crossbars(model)]
    assert all(a is c and b is d for (a, b), (c, d) in zip(before, after, strict=True))
    assert model[1].track_running_stats


def test_analogue_activations_draw_for_feedbacks_apart_as_well():
    """If they drew from the output's generator, the second output would not be noise injection's."""
    array = DoubleArray(w_max=1.0, zero_state=True)
    hardware = Hardware(Gaussian(0.1), array, OpAmp(offset=0.01))
    model, twin = (fresh(program(mlp(4, 5, 3, bias="row", seed=0), hardware), 0) for _ in range(2))
    x = torch.rand(6, 4, generator=torch.Generator().manual_seed(0))
    objective = OVF(beta=0.1, feedbacks=1)
    objective.setup(model)
    for _ in range(2):
        base, feedback = objective.outputs(model, x)
        assert torch.equal(base, twin(x)) and not torch.equal(base, feedback)


# --- IRS --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("decay", ["rising", "falling"])
def test_feedback_n_is_what_head_n_makes_of_the_nth_module(data, decay, sign):
    x, y = data
    model = fabricate(program(cnn(), HARDWARE), 5)
    first, second = (head(features) for head, features in zip(heads().values(), inner(model, x), strict=True))
    factors = (0.1, 1.0) if decay == "rising" else (1.0, 0.1)
    feedback = factors[0] * first + factors[1] * second
    expected = F.cross_entropy((model(x) + sign * 0.1 * feedback) / 3, y)
    objective = IRS(heads(), beta=0.1, hardware=None, decay=decay, sign=sign)
    torch.testing.assert_close(loss_of(objective, model, data), expected)


def inner(model, x):
    return [model[: int(name) + 1](x) for name in PLACES]


def test_the_shallowest_snapshot_counts_most_by_default():
    assert IRS(heads(), beta=0.1, hardware=None).factors == (1.0, 0.1)


def test_heads_have_errors_on_hardware_and_none_if_clean(data):
    x, _ = data
    model = fabricate(program(cnn(), HARDWARE), 5)
    for hardware, clean in ((HARDWARE, False), (None, True)):
        objective = IRS(heads(), beta=0.1, hardware=hardware)
        objective.setup(model)
        first, second = objective.outputs(model, x)[1], objective.outputs(model, x)[1]
        assert torch.equal(first, second) == clean


def test_heads_share_no_errors_with_each_other_or_with_the_network(data):
    twins = {name: copy.deepcopy(heads()["2"]) for name in "01"}
    model = fresh(program(nn.Sequential(nn.Identity(), nn.Identity(), twins["0"]), HARDWARE), 0)
    objective = IRS(twins, beta=0.1, hardware=HARDWARE, seed=0)
    objective.setup(model)
    drawn = [
        layer.draws()["cells/programming"] for net in (model, *objective.trained) for layer in crossbars(net)
    ]
    values = torch.cat([z.flatten() for z in drawn])
    assert len(values.unique()) == len(values)


def test_gradients_reach_heads_and_heads_are_trained(data):
    model = noisy()
    objective = IRS(heads(), beta=0.1, hardware=HARDWARE)
    objective.setup(model)
    extra = list(objective.trained.parameters())
    listed = list(objective.parameters(model))
    assert {id(p) for p in listed} == {id(p) for p in (*model.parameters(), *extra)} and len(extra) == 8
    objective(model, data).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in listed)


@pytest.mark.parametrize("hardware", [HARDWARE, None], ids=["noisy", "clean"])
def test_heads_leave_no_trace(data, hardware):
    model = noisy()
    keys, names = list(model.state_dict()), [name for name, _ in model.named_modules()]
    own, passes = heads(), hooks(model)
    before = {name: copy.deepcopy(head.state_dict()) for name, head in own.items()}
    seen = []

    class Watched(IRS):
        def __call__(self, model, batch):
            loss = super().__call__(model, batch)
            seen.append((list(model.state_dict()), len(hooks(model))))
            return loss

    objective = Watched(own, beta=0.1, hardware=hardware)
    trained(objective, data, model)
    assert list(model.state_dict()) == keys and [name for name, _ in model.named_modules()] == names
    assert seen[1:] == [(keys, len(passes))] * 5 and seen[0][0] == keys  # in the first batch fit looks on
    assert hooks(model) == passes
    assert all(same(before[name], head.state_dict()) for name, head in own.items())
    with pytest.raises(RuntimeError, match="setup"):
        _ = objective.trained
    cnn().load_state_dict(plain_state(model))


def hooks(model):
    return [hook for module in model.modules() for hook in module._forward_hooks.values()]


def test_heads_leave_no_trace_if_training_fails(data):
    x, y = data
    model = noisy()
    keys, passes = list(model.state_dict()), hooks(model)
    objective = IRS(heads(), beta=0.1, hardware=HARDWARE)
    with pytest.raises(FloatingPointError):
        trained(objective, (x * float("nan"), y), model)
    narrow = IRS(snapshot_heads({"2": (5, 3)}, 3, hidden=4), beta=0.1, hardware=HARDWARE)
    with pytest.raises(RuntimeError, match="shapes"):
        trained(narrow, data, model)
    assert list(model.state_dict()) == keys and hooks(model) == passes
    for spent in (objective, narrow):
        with pytest.raises(RuntimeError, match="setup"):
            _ = spent.trained


def test_the_sign_of_a_clean_head_is_absorbed_by_its_last_layer(data):
    mirrored = heads()
    for head in mirrored.values():
        head[-1].weight.data.neg_()
    negative, _ = trained(IRS(heads(), beta=0.5, hardware=None), data)
    positive, _ = trained(IRS(mirrored, beta=0.5, hardware=None, sign=1), data)
    unmirrored, _ = trained(IRS(heads(), beta=0.5, hardware=None, sign=1), data)
    assert same(negative.state_dict(), positive.state_dict())
    assert not same(parameters(negative), parameters(unmirrored))


def test_heads_of_the_released_code_have_its_shape_and_their_own_seed():
    head = snapshot_heads({"a": (256, 3), "b": (256, 3)}, classes=10, seed=4)["a"]
    assert [(p.shape) for p in head.parameters()] == [(512, 2304), (512,), (10, 512), (10,)]
    assert head(torch.zeros(2, 256, 8, 8)).shape == (2, 10)
    std = float(head[2].weight.detach().std())
    assert (
        std == pytest.approx((2 / 512) ** 0.5, rel=0.02) and not head[2].bias.any() and not head[4].bias.any()
    )
    pair = snapshot_heads({"a": (256, 3), "b": (256, 3)}, classes=10, seed=4)
    assert torch.equal(pair["a"][2].weight, head[2].weight)
    assert not torch.equal(pair["b"][2].weight, head[2].weight)


# --- controls and baselines -------------------------------------------------------------------------


def test_noise_averaging_is_the_mean_loss_of_independent_draws(data):
    x, y = data
    model, twin = noisy(), noisy()
    objective = NoiseAveraging(3, temperature=2.0)
    loss = loss_of(objective, model, data)
    objective.setup(twin)
    outputs = objective.outputs(twin, x)
    expected = sum(F.cross_entropy(output / 2, y) for output in outputs) / 3
    torch.testing.assert_close(loss, expected)
    assert model[1].num_batches_tracked == 3


def test_noise_averaging_needs_no_spread_to_raise(data):
    model = noisy(Hardware(StuckAt(on=0.1)))
    assert torch.isfinite(loss_of(NoiseAveraging(2), model, data))


def test_the_regulariser_adds_how_far_every_kernel_is_from_orthogonal(data):
    model = program(cnn(), HARDWARE)
    fabricate(model, 0)
    expected = torch.zeros(())
    for layer in crossbars(model):
        gram = layer.weight.transpose(-1, -2) @ layer.weight
        expected = expected + (gram - torch.eye(gram.shape[-1])).square().sum()
    added = loss_of(CorrectNet(0.01), model, data) - loss_of(CrossEntropy(), model, data)
    torch.testing.assert_close(added, 0.01 * expected, rtol=1e-4, atol=0)
    assert same(trained(CorrectNet(0.0), data)[0].state_dict(), trained(CrossEntropy(), data)[0].state_dict())


# --- through fit ------------------------------------------------------------------------------------

METHODS = {
    "temperature": lambda: Temperature(4),
    "ovf": lambda: OVF(beta=0.1),
    "averaging": lambda: NoiseAveraging(2),
    "irs": lambda: IRS(heads(), beta=0.1, hardware=HARDWARE),
    "correctnet": lambda: CorrectNet(),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_a_network_that_chips_can_run(data, method):
    model, history = trained(METHODS[method](), data, epochs=15)
    assert history.loss[-1] < 0.9 * history.loss[0]
    assert evaluate(model, *data, chips=range(3)).mean > 45


@pytest.mark.parametrize("method", METHODS)
def test_the_global_generator_is_neither_read_nor_changed(data, method):
    ends = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        ends.append(trained(METHODS[method](), data)[0].state_dict())
        assert torch.equal(before, torch.get_rng_state())
    assert same(*ends)


def test_a_multilayer_perceptron_takes_heads_of_its_own():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 4, generator=generator)
    y = (x[:, 0] > 0).long()
    model = fresh(program(mlp(4, 8, 2, seed=0), HARDWARE), 0)
    objective = IRS({"2": mlp(8, 4, 2, seed=1)}, beta=0.1, hardware=HARDWARE)
    history = fit(model, objective, (x, y), epochs=10, lr=0.02, seed=0, batch_size=20)
    assert history.loss[-1] < history.loss[0]


# --- refusals ---------------------------------------------------------------------------------------

REFUSED = {
    "beta": (lambda: OVF(beta=-0.1), "beta", "-0.1"),
    "beta nan": (lambda: IRS(heads(), beta=float("nan"), hardware=None), "beta", "nan"),
    "sign": (lambda: OVF(beta=0.1, sign=0), "sign", "0"),
    "decay": (lambda: OVF(beta=0.1, decay="up"), "decay", "'up'"),
    "feedbacks": (lambda: OVF(beta=0.1, feedbacks=-1), "feedbacks", "-1"),
    "fractional": (lambda: OVF(beta=0.1, feedbacks=1.5), "feedbacks", "1.5"),
    "step": (lambda: OVF(beta=0.1, step=float("inf")), "step", "inf"),
    "one string": (lambda: OVF(beta=0.1, layers="0"), "layers", "'0'"),
    "bn": (lambda: OVF(beta=0.1, bn="last"), "bn", "'last'"),
    "passes": (lambda: NoiseAveraging(0), "passes", "0"),
    "averaging at": (lambda: NoiseAveraging(2, temperature=0.0), "temperature", "0.0"),
    "temperature": (lambda: Temperature(-1.0), "temperature", "-1.0"),
    "strength": (lambda: CorrectNet(-1.0), "strength", "-1.0"),
    "count": (lambda: decay_factors(-1, "rising"), "count", "-1"),
    "place": (lambda: snapshot_heads({"a": (4, 0)}, 3), "places['a']", "0"),
    "classes": (lambda: snapshot_heads({"a": (4, 1)}, 0), "classes", "0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_arguments_out_of_range_are_refused_by_name(case):
    make, name, value = REFUSED[case]
    with pytest.raises(ValueError, match=".*") as error:
        make()
    assert str(error.value).startswith(f"{name} = {value} is not allowed; allowed: ")


UNFIT = {
    "digital network": (lambda: OVF(beta=0.1), cnn, "model = "),
    "unknown layer": (lambda: OVF(beta=0.1, layers=["0", "fc"]), noisy, "layers = ['0', 'fc']"),
    "below zero": (lambda: OVF(beta=0.1, step=-0.05), noisy, "step = -0.05"),
    "no spread": (lambda: OVF(beta=0.1), lambda: noisy(Hardware(StuckAt())), "hardware.device = "),
    "unknown module": (lambda: IRS({"9": mlp(2, 3)}, beta=0.1, hardware=None), noisy, "heads = ['9']"),
    "wrong order": (
        lambda: IRS(dict(reversed(heads().items())), beta=0.1, hardware=None),
        noisy,
        "heads = ['6', '2']",
    ),
    "in the array": (
        CorrectNet,
        lambda: program(cnn(), Hardware(array=DoubleArray(w_max=1.0)), train="conductance"),
        "model = ['0.conductance', '4.conductance', '8.conductance']",
    ),
}


@pytest.mark.parametrize("case", UNFIT)
def test_networks_that_do_not_fit_are_refused_by_name(case, data):
    make, model, words = UNFIT[case]
    with pytest.raises(ValueError, match=".*") as error:
        trained(make(), data, model())
    assert str(error.value).startswith(words)


def test_a_module_that_runs_twice_has_no_snapshot(data):
    relu = nn.ReLU()
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), relu, nn.Linear(8, 3), relu)
    with pytest.raises(ValueError, match=r"ran: \['2', '2'\]"):
        trained(IRS({"2": mlp(8, 3)}, beta=0.1, hardware=None), data, model)


def test_feedback_without_setup_says_so(data):
    with pytest.raises(RuntimeError, match="setup"):
        OVF(beta=0.1)(noisy(), data)
    with pytest.raises(RuntimeError, match="setup"):
        IRS(heads(), beta=0.1, hardware=None)(noisy(), data)
