"""A gain and an offset for each column: the least-squares solution, found once, and nothing else touched."""

import copy

import numpy as np
import pytest
import torch
from scipy import stats
from seam import convolutional, images
from torch import nn

from cimlib import Hardware, fabricate, fresh, program
from cimlib.chip import Affine, DoRA, Scale, adapters, attach, crossbars
from cimlib.devices import Device, Gaussian
from cimlib.methods import distil, mix_batchnorm, recalibrate_batchnorm, regress_columns
from cimlib.networks import mlp

LAYERS = {"0": 0, "3": 3, "7": 7}  # by name: how many modules come before


@pytest.fixture
def x():
    return images()


def chip(model, sigma=0.2, number=0):
    return fabricate(program(model, Hardware(Gaussian(sigma))), number)


def columns(y):
    """(samples and positions, columns), in double precision."""
    return y.detach().movedim(1, -1).flatten(0, -2).double().numpy()


def numbers(model):
    return {name: (stage.gain.detach(), stage.offset.detach()) for name, stage in adapters(model).items()}


@pytest.mark.parametrize("inputs", ["student", "teacher"])
def test_column_by_column_it_is_the_solution_of_numpy_and_the_line_of_scipy(x, inputs):
    teacher = convolutional()
    model = regress_columns(attach(chip(teacher), Affine), teacher, x, inputs=inputs)
    for name, before in LAYERS.items():
        layer = model[before]
        given = (model if inputs == "student" else teacher)[:before](x)
        bias = 0 if layer.bias is None else layer.bias.detach().double().numpy()
        stage, layer.digital = layer.digital, None
        y, wanted = columns(layer(given)), columns(teacher[: before + 1](x))
        layer.digital = stage
        gain, offset = (value.numpy() for value in numbers(model)[name])
        for column in range(y.shape[1]):
            own = bias if layer.bias is None else bias[column]
            design = np.stack([y[:, column] - own, np.ones(len(y))], 1)
            (a, c), *_ = np.linalg.lstsq(design, wanted[:, column] - own, rcond=None)
            assert (gain[column], offset[column]) == (pytest.approx(a, rel=1e-4), pytest.approx(c, abs=1e-5))
            line = stats.linregress(y[:, column], wanted[:, column])
            assert line.slope == pytest.approx(a, rel=1e-6)


def test_it_is_where_training_the_same_stage_ends(x):
    teacher = convolutional()
    closed, trained = (attach(chip(teacher), Affine) for _ in range(2))
    regress_columns(closed, teacher, x)
    histories = distil(trained, teacher, x, epochs=600, lr=0.03, seed=0, cosine=True)
    for name, (gain, offset) in numbers(trained).items():
        torch.testing.assert_close(gain, numbers(closed)[name][0], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(offset, numbers(closed)[name][1], rtol=1e-3, atol=1e-3)
    last = {name: history.loss[-1] for name, history in histories.items()}
    error = (closed(x) - teacher(x)).square().mean().item()
    assert error == pytest.approx(last["7"], rel=1e-3) and error <= last["7"] * (1 + 1e-5)


@pytest.mark.parametrize("inputs", ["student", "teacher"])
def test_on_perfect_cells_gains_are_1_offsets_0_and_the_output_that_of_the_network(x, inputs):
    teacher = convolutional()
    model = regress_columns(attach(chip(teacher, 0.0), Affine), teacher, x, inputs=inputs)
    for gain, offset in numbers(model).values():
        torch.testing.assert_close(gain, torch.ones_like(gain), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(offset, torch.zeros_like(offset), rtol=0, atol=1e-6)
    torch.testing.assert_close(model(x), teacher(x), rtol=1e-5, atol=1e-5)


def test_a_factor_before_a_column_changes_nothing_so_that_no_compensation_is_needed(x):
    teacher = convolutional()
    plain, scaled = chip(teacher), chip(teacher)
    generator = torch.Generator().manual_seed(2)
    factors = {}

    def factor(layer):
        factors[layer.name] = 0.1 + 5 * torch.rand(layer.weight_shape[0], generator=generator)
        return Scale(layer, factors[layer.name])

    attach(scaled, factor)
    for model in (plain, scaled):
        regress_columns(attach(model, Affine), teacher, x)
    torch.testing.assert_close(scaled(x), plain(x), rtol=1e-4, atol=1e-5)
    for layer in crossbars(scaled):
        _, stage = layer.digital.parts()
        gain, offset = numbers(plain)[layer.name]
        torch.testing.assert_close(stage.gain * factors[layer.name], gain, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(stage.offset, offset, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_a_constant_column_keeps_its_gain_and_is_given_the_mean(x, bias):
    """Of a column without current, or one whose inputs never change, nothing tells gain from offset."""
    teacher = nn.Sequential(nn.Conv2d(2, 4, 3, bias=bias)).eval()
    model = chip(teacher)
    with torch.no_grad():
        model[0].weight[1] = 0.0
    held = fabricate(
        program(nn.Sequential(model[0].plain), Hardware()), 0
    )  # perfect cells: exactly no current
    regress_columns(attach(held, Affine), teacher, x)
    ((gain, offset),) = numbers(held).values()
    assert gain[1] == 1 and gain.isfinite().all() and offset.isfinite().all()
    mean = teacher(x).mean((0, 2, 3))
    torch.testing.assert_close(held(x).mean((0, 2, 3)), mean, rtol=1e-5, atol=1e-6)
    still = torch.ones(5, 2, 6, 6)
    regress_columns(held, teacher, still)
    ((gain, offset),) = numbers(held).values()
    assert torch.equal(gain, torch.ones(4))
    torch.testing.assert_close(held(still), teacher(still), rtol=1e-5, atol=1e-6)


def test_one_image_is_enough_for_a_convolution_and_gives_a_linear_layer_its_offset(x):
    teacher = convolutional()
    model = regress_columns(attach(chip(teacher), Affine), teacher, x[:1])
    assert not torch.equal(numbers(model)["3"][0], torch.ones(6))
    assert torch.equal(numbers(model)["7"][0], torch.ones(3))
    torch.testing.assert_close(model(x[:1]), teacher(x[:1]), rtol=1e-5, atol=1e-5)


def test_it_is_found_anew_whatever_was_there_and_nothing_else_changes(x):
    teacher = convolutional()
    model = attach(chip(teacher), Affine)
    before = {name: value.clone() for name, value in model.state_dict().items() if "digital." not in name}
    first = regress_columns(model, teacher, x).state_dict()
    first = {name: value.clone() for name, value in first.items() if "digital." in name}
    again = regress_columns(model, teacher, x).state_dict()
    assert all(torch.equal(again[name], value) for name, value in {**first, **before}.items())
    assert len(first) == 6 and all(p.grad is None for p in model.parameters()) and not model.training


@pytest.mark.parametrize("inputs", ["student", "teacher"])
def test_each_array_is_given_each_image_once(x, inputs):
    teacher = convolutional()
    model, seen = attach(chip(teacher), Affine), []
    for layer in crossbars(model):
        layer.register_forward_hook(lambda layer, given, y: seen.append(len(y)))
    regress_columns(model, teacher, x, inputs=inputs)
    assert seen == [30] * 3


def test_a_layer_without_such_a_stage_stays_as_it_is_and_the_last_one_of_a_chain_is_set(x):
    teacher = convolutional()
    model = attach(chip(teacher), lambda layer: Affine(layer) if layer.name == "3" else None)
    attach(model, lambda layer: DoRA(layer, 1) if layer.name != "7" else None)
    before = copy.deepcopy(model.state_dict())
    after = regress_columns(model, teacher, x).state_dict()
    changed = {
        name
        for name, value in after.items()
        if torch.is_tensor(value) and not torch.equal(value, before[name])
    }
    assert changed == {"3.digital.stages.0.gain", "3.digital.stages.0.offset"}


def test_what_cannot_be_fitted_is_refused_by_name(x):
    teacher = convolutional()
    for make, words in (
        (
            lambda: regress_columns(chip(teacher), teacher, x),
            r"model = 'Sequential'.*attach\(model, Affine\)",
        ),
        (
            lambda: regress_columns(fresh(attach(chip(teacher), Affine)), teacher, x),
            "model = 'a fresh network'",
        ),
        (
            lambda: regress_columns(attach(chip(teacher), Affine), mlp(72, 3), x),
            r"teacher.*\['0', '3', '7'\]",
        ),
        (lambda: regress_columns(attach(chip(teacher), Affine), teacher, x[:0]), r"len\(x\) = 0"),
        (
            lambda: regress_columns(attach(chip(teacher), Affine), teacher, x, inputs="both"),
            "inputs = 'both'.*'student', 'teacher'",
        ),
        (lambda: attach(chip(nn.ConvTranspose2d(2, 3, 3)), Affine), "Affine"),
    ):
        with pytest.raises(ValueError, match=words):
            make()


def test_a_layer_that_runs_twice_is_refused():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 6)

        def forward(self, x):
            return self.layer(self.layer(x))

    model = Twice()
    held = attach(fabricate(program(model, Hardware(Device())), 0), Affine)
    with pytest.raises(ValueError, match=r"'layer'.*run 2 times.*run once"):
        regress_columns(held, model, torch.randn(5, 6))


def test_an_offset_is_no_weight_and_is_not_merged():
    stage = attach(chip(nn.Linear(4, 3)), Affine).digital
    weight = torch.randn(3, 4)
    with torch.no_grad():
        stage.gain.copy_(torch.tensor([2.0, 0.5, 1.0]))
        torch.testing.assert_close(stage.merged(weight), stage.gain[:, None] * weight)
        stage.offset[2] = 0.1
    with pytest.raises(
        ValueError, match=r"largest \|offset\| = 0.1.* is not allowed; allowed: 0: an offset is no weight"
    ):
        stage.merged(weight)


# --- BatchNorm, moved by a share -------------------------------------------------------------------------


def test_mixed_statistics_are_weighted_means_of_the_old_and_the_new_ones(x):
    old, new, mixed = convolutional(), convolutional(), convolutional()
    recalibrate_batchnorm(new, x)
    assert mix_batchnorm(mixed, x, 0.25) == 2 * (8 + 6)
    for n in (1, 4):
        for name in ("running_mean", "running_var"):
            a, b = getattr(old[n], name), getattr(new[n], name)
            assert not torch.allclose(a, b, rtol=1e-2)
            torch.testing.assert_close(getattr(mixed[n], name), 0.75 * a + 0.25 * b)


@pytest.mark.parametrize("batch_size", [None, 10])
def test_all_of_the_new_ones_are_those_found_anew_bit_for_bit(x, batch_size):
    new, mixed = convolutional(), convolutional()
    recalibrate_batchnorm(new, x, batch_size=batch_size)
    mix_batchnorm(mixed, x, 1.0, batch_size=batch_size)
    assert all(torch.equal(value, mixed.state_dict()[name]) for name, value in new.state_dict().items())


@pytest.mark.parametrize("mix", [0.0, -0.5, 1.5, float("nan")])
def test_a_share_is_between_nothing_and_all(mix, x):
    with pytest.raises(ValueError, match=r"mix = .*0 < mix ≤ 1"):
        mix_batchnorm(convolutional(), x, mix)
