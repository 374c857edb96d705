"""A chip is a seed, and nothing else: no setting of torch and no wrapper makes another one of it."""

import pytest
import torch
from torch import nn

from cimlib import Hardware, evaluate, fabricate, fit, fresh, program
from cimlib.arrays import SingleArray
from cimlib.chip import DoRA, VeRA, attach, fabricated, projections
from cimlib.circuits import OpAmp
from cimlib.devices import PCM, Device, Gaussian, StuckAt, detected
from cimlib.methods import fault_map
from cimlib.networks import mlp
from cimlib.training import CrossEntropy

HARDWARE = {
    "cells": Hardware(Device(Gaussian(0.1), StuckAt(on=0.1))),
    "drift": Hardware(PCM(t=10.0)),
    "amplifiers": Hardware(Gaussian(0.1), SingleArray(), OpAmp(gain=1e3, offset=0.01)),
}
X = torch.rand(10, 4, generator=torch.Generator().manual_seed(0))
Y = torch.randint(0, 3, (10,), generator=torch.Generator().manual_seed(1))
THREADS = torch.get_num_threads()
MODEL = mlp(4, 8, 3, bias="row", seed=0)


class Setting:
    """A setting of torch, put back afterwards."""

    def __init__(self, set_to, put_back):
        self.set_to, self.put_back = set_to, put_back

    def __enter__(self):
        self.set_to()

    def __exit__(self, *error):
        self.put_back()


SETTINGS = {
    "default dtype": lambda: Setting(
        lambda: torch.set_default_dtype(torch.float64), lambda: torch.set_default_dtype(torch.float32)
    ),
    "default device": lambda: torch.device("meta"),
    "inference": torch.inference_mode,
    "no gradient": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "one thread": lambda: Setting(lambda: torch.set_num_threads(1), lambda: torch.set_num_threads(THREADS)),
    "another global seed": lambda: Setting(lambda: torch.manual_seed(99), lambda: None),
    "deterministic": lambda: Setting(
        lambda: torch.use_deterministic_algorithms(True), lambda: torch.use_deterministic_algorithms(False)
    ),
}


def draws(model):
    return {f"{m.name}: {slot}": z for m in fabricated(model) for slot, z in m.draws().items()}


@pytest.mark.parametrize("hardware", HARDWARE)
@pytest.mark.parametrize("setting", SETTINGS)
def test_no_setting_makes_another_chip(setting, hardware):
    expected = draws(fabricate(program(MODEL, HARDWARE[hardware]), 7))
    noisy = fresh(program(MODEL, HARDWARE[hardware]), 3)
    first, second = draws(noisy), draws(noisy)
    with SETTINGS[setting]():
        found = draws(fabricate(program(MODEL, HARDWARE[hardware]), 7))
        noisy = fresh(program(MODEL, HARDWARE[hardware]), 3)
        again = draws(noisy), draws(noisy)
    for one, other in ((expected, found), (first, again[0]), (second, again[1])):
        assert one.keys() == other.keys() and all(torch.equal(z, other[name]) for name, z in one.items())
        assert all(z.dtype == torch.float32 and not z.is_inference() for z in other.values())


@pytest.mark.parametrize("setting", ["default dtype", "default device"])
def test_stages_and_tests_of_cells_follow_from_their_seeds_alone(setting):
    maps = fault_map(fabricate(program(MODEL, HARDWARE["cells"]), 7))

    def made():
        chip = fabricate(program(MODEL, HARDWARE["cells"]), 7)
        attach(chip, lambda layer: DoRA(layer, 2, seed=4))
        vera = attach(
            fabricate(program(MODEL, HARDWARE["cells"]), 7),
            lambda layer: VeRA(layer, projections(chip, 3, 4)),
        )
        report = detected(maps, missed=0.2, false=0.1, seed=3)
        return [
            *(p for layer in (chip[2], chip[5]) for p in layer.digital.parameters()),
            *(value for layer in (vera[2], vera[5]) for value in (layer.digital.down, layer.digital.up)),
            *(one.cells for one in report.values()),
        ]

    expected = made()
    with SETTINGS[setting]():
        found = made()
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


def test_training_goes_on_after_evaluation_in_inference_mode():
    chip = fabricate(program(MODEL, HARDWARE["drift"]), 0)
    with torch.inference_mode():
        inside = evaluate(chip, X, Y, chips=range(3))
        fabricate(chip, 4)
    fit(chip, CrossEntropy(), (X, Y), epochs=1, lr=0.1, seed=1)
    other = program(MODEL, HARDWARE["drift"])
    assert (inside.accuracy == evaluate(other, X, Y, chips=range(3)).accuracy).all()


@pytest.mark.compiles
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's own
@pytest.mark.parametrize("prepare", [lambda m: fabricate(m, 7), lambda m: fresh(m, 3)], ids=["held", "fresh"])
def test_a_compiled_network_has_the_errors_of_the_network(prepare):
    plain, inside = (prepare(program(MODEL, HARDWARE["cells"])) for _ in range(2))
    compiled = torch.compile(inside, backend="eager")
    for _ in range(3):
        torch.testing.assert_close(compiled(X), plain(X), rtol=0, atol=0)


def test_modules_around_a_programmed_network_do_not_change_its_chip():
    class Around(nn.Module):
        def __init__(self, chip):
            super().__init__()
            self.inner = chip

        def forward(self, x):
            return 2 * self.inner(x)

    expected = fabricate(program(MODEL, HARDWARE["cells"]), 7)(X)
    assert torch.equal(fabricate(Around(program(MODEL, HARDWARE["cells"])), 7)(X), 2 * expected)
    assert torch.equal(fabricate(nn.DataParallel(program(MODEL, HARDWARE["cells"])), 7)(X), expected)


def test_evaluation_puts_back_the_very_errors_that_were_held():
    chip = fabricate(program(MODEL, HARDWARE["cells"]), 7)
    before = draws(chip)
    evaluate(chip, X, Y, chips=range(3))
    assert all(z is before[name] for name, z in draws(chip).items())
    noisy, other = (fresh(program(MODEL, HARDWARE["cells"]), 3) for _ in range(2))
    evaluate(noisy, X, Y, chips=range(3))
    assert torch.equal(noisy(X), other(X))
