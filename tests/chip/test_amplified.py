"""What must always hold at the seam behind amplifiers."""

import copy
import pickle
from dataclasses import replace

import pytest
import torch
from seam import ARRAYS, made, perceptron
from torch import nn
from torch.nn import functional as F

from cimlib import Hardware, evaluate, fabricate, fit, fresh, program, using
from cimlib.arrays import DoubleArray, SingleArray
from cimlib.chip import AnalogReLU, fabricated, plain_state
from cimlib.circuits import OpAmp
from cimlib.devices import Gaussian
from cimlib.networks import BiasRow, mlp
from cimlib.training import CrossEntropy, Replicas

STRUCTURES = [DoubleArray(), SingleArray(), SingleArray(reference="constant-term")]


AMPLIFIED = OpAmp(gain=300.0, gain_spread=0.1, offset=5e-3, at_zero=0.48, rails=(0.05, 0.95), g_load=200.0)


def convolutional():
    """As many channels as rows and columns, so that a ReLU along a wrong dimension would still run."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3, bias=False)]
    return nn.Sequential(*layers), torch.rand(4, 1, 6, 6), torch.randint(3, (4,))


# --- amplifiers -----------------------------------------------------------------------------------


def behind(circuit, array=STRUCTURES[0], chip=3):
    """The perceptron behind amplifiers, and its inputs."""
    model, x, _ = perceptron()
    return fabricate(program(model, Hardware(array=array, circuit=circuit)), chip), x


@pytest.mark.parametrize("array", [array for array in ARRAYS if array.slices == 1], ids=repr)
@pytest.mark.parametrize("circuit", [OpAmp(), OpAmp(backward="ideal")], ids=["circuit", "ideal"])
@pytest.mark.parametrize("name", ["linear without bias", "conv without bias"])
def test_perfect_amplifiers_give_the_digital_layer_bit_for_bit(name, circuit, array):
    layer, x = made(name)
    assert torch.equal(fabricate(program(layer, Hardware(array=array, circuit=circuit)), 1)(x), layer(x))


@pytest.mark.parametrize("array", STRUCTURES, ids=repr)
def test_perfect_amplifiers_give_the_digital_network_bit_for_bit(array):
    for widths, n in (((6, 16, 3), 40), ((784, 256, 10), 128)):
        model, x = mlp(*widths, bias="row", seed=0), torch.rand(n, widths[0]) - 0.3
        chip = fabricate(program(model, Hardware(array=array, circuit=OpAmp())), 1)
        assert isinstance(chip[3], AnalogReLU) and isinstance(model[3], nn.ReLU)
        assert torch.equal(chip(x), model(x))


def test_relus_that_are_circuits_add_no_keys():
    model, x, _ = perceptron()
    chip, x = behind(AMPLIFIED)
    chip(x)
    assert list(plain_state(chip)) == list(model.state_dict())
    chip.load_state_dict(model.state_dict())
    model.load_state_dict(plain_state(chip))


@pytest.mark.parametrize("prepare", [lambda m: fabricate(m, 3), lambda m: fresh(m, 3)])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_and_pickles_carry_their_amplifiers(prepare, copied):
    chip, x = behind(AMPLIFIED)
    prepare(chip)
    twin = copied(chip)
    assert torch.equal(twin(x), chip(x))
    assert torch.equal(twin(x), chip(x))


@pytest.mark.parametrize("array", STRUCTURES, ids=repr)
def test_amplifiers_in_double_precision_are_the_same_ones(array):
    chip, x = behind(AMPLIFIED, array)
    wide = copy.deepcopy(chip).to(torch.float64)
    again = fabricate(copy.deepcopy(wide), 3)
    assert wide(x.double()).dtype == torch.float64
    torch.testing.assert_close(wide(x.double()).float(), chip(x), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(again(x.double()), wide(x.double()))


@pytest.mark.parametrize("array", STRUCTURES, ids=repr)
def test_chip_seven_is_chip_seven_in_every_amplifier(array):
    (seven, x), (other, _) = behind(AMPLIFIED, array, 7), behind(AMPLIFIED, array, 7)
    assert torch.equal(seven(x), other(x))
    held = [copy.deepcopy(module.draws()) for module in fabricated(seven)]
    fabricate(seven, 8)
    for module, before in zip(fabricated(seven), held, strict=True):
        assert module.draws().keys() == before.keys() and before
        assert all((z != before[slot]).all() for slot, z in module.draws().items())
    assert not torch.equal(seven(x), other(x))
    assert torch.equal(fabricate(seven, 7)(x), other(x))


def test_amplifiers_do_not_depend_on_which_other_layers_are_on_hardware():
    model = mlp(6, 16, 16, 3, bias="row", seed=0)
    hardware = Hardware(array=DoubleArray(), circuit=AMPLIFIED)
    whole, middle = (fabricate(program(model, hardware, layers=names), 7) for names in (None, ["5"]))
    assert isinstance(middle[2], nn.Linear) and type(middle[3]) is nn.ReLU
    for index in (5, 6):
        ours, theirs = middle[index].draws(), whole[index].draws()
        assert ours.keys() == theirs.keys() and all(torch.equal(z, theirs[slot]) for slot, z in ours.items())


def test_amplifiers_of_layers_stages_and_slots_are_independent():
    model = mlp(500, 500, 500, 3, bias="row", seed=0)
    chip = fabricate(program(model, Hardware(array=DoubleArray(), circuit=AMPLIFIED)), 0)
    draws = [z.reshape(-1, 500) for m in fabricated(chip)[:4] for z in m.draws().values()]
    correlation = torch.corrcoef(torch.cat(draws))
    assert len(correlation) == 2 * (6 + 3)
    assert correlation.fill_diagonal_(0).abs().max() < 0.2


@pytest.mark.parametrize("array", STRUCTURES, ids=repr)
@pytest.mark.parametrize("name", ["linear without bias", "conv without bias"])
def test_twice_the_offset_displaces_the_same_chip_twice_as_far(name, array):
    layer, x = made(name)
    chip = fabricate(program(layer, Hardware(array=array, circuit=OpAmp(offset=5e-3))).double(), 3)
    x, outputs = x.double(), []
    for offset in (0.0, 5e-3, 10e-3):
        with using(chip, replace(chip.hardware, circuit=OpAmp(offset=offset))):
            outputs.append(chip(x))
    assert (outputs[1] != outputs[0]).all()
    torch.testing.assert_close(outputs[2] - outputs[0], 2 * (outputs[1] - outputs[0]))


def test_a_chip_has_the_same_draws_at_every_offset_and_gain():
    circuits = [AMPLIFIED, OpAmp(), replace(AMPLIFIED, offset=0.05, gain=20.0, rails=None)]
    chips = [behind(circuit)[0] for circuit in circuits]
    for modules in zip(*map(fabricated, chips), strict=True):
        first, *others = (module.draws() for module in modules)
        assert first and all(torch.equal(z, other[slot]) for other in others for slot, z in first.items())


def test_amplifiers_read_and_change_no_global_generator():
    model, x, y = perceptron()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    chip = fabricate(program(model, Hardware(array=DoubleArray(), circuit=AMPLIFIED)), 3)
    first = evaluate(chip, x, y, chips=range(3)).accuracy
    fresh(chip, 1)(x)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert (evaluate(chip, x, y, chips=range(3)).accuracy == first).all()


def test_accuracies_do_not_depend_on_batches_and_every_module_keeps_its_chip():
    _, _, y = perceptron()
    chip, x = behind(AMPLIFIED)
    before = chip(x)
    whole, batches = (evaluate(chip, x, y, chips=range(10), batch_size=size) for size in (None, 4))
    assert (whole.accuracy == batches.accuracy).all() and whole.std > 0
    assert [module.chip for module in fabricated(chip)] == [3] * 3
    assert torch.equal(chip(x), before)
    fresh(chip, 1)
    evaluate(chip, x, y, chips=range(2))
    assert all(module.chip is None and module.generator is not None for module in fabricated(chip))
    assert torch.equal(chip(x), fresh(behind(AMPLIFIED)[0], 1)(x))


def test_fresh_draws_new_amplifiers_at_every_forward_pass_also_in_relus():
    chip, x = behind(OpAmp(offset=5e-3))
    fresh(chip, 1)
    first, second = chip[3](x[:, :1].expand(-1, 16)), chip[3](x[:, :1].expand(-1, 16))
    assert not torch.equal(first, second)
    fresh(chip, 1)
    assert torch.equal(chip[3](x[:, :1].expand(-1, 16)), first)
    fresh(chip, 1)
    drawn = [chip[2].draws()["circuit/converter"][0], chip[3].draws()["circuit/comparator"]]
    assert not torch.equal(*drawn)


def test_using_takes_the_same_amplifiers_to_another_offset_and_back():
    chip, x = behind(AMPLIFIED)
    before, other = chip(x), replace(AMPLIFIED, offset=0.02)
    with using(chip, Hardware(array=DoubleArray(), circuit=other)):
        assert torch.equal(chip(x), behind(other)[0](x)) and not torch.equal(chip(x), before)
    assert torch.equal(chip(x), before)


@pytest.mark.parametrize("make", [perceptron, convolutional])
def test_an_ideal_circuit_makes_an_amplified_network_digital_again(make):
    model, x, _ = make()
    chip = fabricate(program(model, Hardware(array=DoubleArray(), circuit=AMPLIFIED)), 3)
    with using(chip, Hardware()):
        assert torch.equal(chip(x), model(x))
    assert not torch.allclose(chip(x), model(x))


def test_a_network_with_digital_relus_gets_no_amplifiers():
    model, _, _ = perceptron()
    with pytest.raises(ValueError, match=r"hardware\.circuit.*ReLUs are digital"):
        using(program(model, Hardware()), Hardware(circuit=OpAmp())).__enter__()


# --- which ReLUs are circuits ---------------------------------------------------------------------


class Functional(nn.Module):
    """A layer, and a function of its output."""

    def __init__(self, function):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4, bias=False), nn.Linear(4, 2, bias=False)
        self.function = function

    def forward(self, x):
        return self.second(self.function(self.first(x)))


@pytest.mark.parametrize(
    ("function", "word"),
    [
        (F.relu, "'relu'"),
        (torch.relu, "'relu'"),
        (lambda x: x.relu(), "'relu'"),
        (lambda x: x.relu_(), "'relu_'"),
        (torch.relu_, "'relu_'"),
    ],
)
def test_a_relu_that_is_a_function_behind_a_layer_is_refused_by_name(function, word):
    model = Functional(function)
    with pytest.raises(ValueError, match="model") as caught:
        program(model, Hardware(circuit=OpAmp()))
    assert word in str(caught.value) and "'first'" in str(caught.value) and "nn.ReLU" in str(caught.value)
    program(model, Hardware())
    program(model, Hardware(circuit=OpAmp()), layers=["second"])


def test_one_relu_behind_two_layers_is_refused():
    relu = nn.ReLU()
    layers = [nn.Linear(4, 4, bias=False), relu, nn.Linear(4, 4, bias=False), relu]
    with pytest.raises(ValueError, match="model.*behind layer.*used more than once"):
        program(nn.Sequential(*layers), Hardware(circuit=OpAmp()))


def test_only_a_relu_directly_behind_a_layer_on_hardware_is_a_circuit():
    layers = {
        "before": nn.ReLU(),
        "first": nn.Conv2d(1, 4, 3, bias=False),
        "norm": nn.BatchNorm2d(4),
        "behind norm": nn.ReLU(),
        "flat": nn.Flatten(),
        "second": nn.Linear(64, 8, bias=False),
        "behind second": nn.ReLU(inplace=True),
        "third": nn.Linear(8, 8, bias=False),
        "behind third": nn.ReLU(),
    }
    model = nn.Sequential()
    for name, module in layers.items():
        model.add_module(name, module)
    chip = program(model, Hardware(array=DoubleArray(), circuit=AMPLIFIED), layers=["first", "second"])
    kinds = {name: type(module) for name, module in chip.named_children()}
    assert [name for name, kind in kinds.items() if kind is AnalogReLU] == ["behind second"]
    assert all(kinds[name] is nn.ReLU for name in ("before", "behind norm", "behind third"))
    assert chip.get_submodule("behind second").outputs == 8
    assert all(type(m) is nn.ReLU for n, m in program(model, Hardware()).named_children() if "behind" in n)


@pytest.mark.parametrize("make", [perceptron, convolutional])
def test_every_column_has_a_comparator_and_a_follower_of_its_own(make):
    model, x, _ = make()
    circuit = replace(AMPLIFIED, offset=0.1)
    chip = fabricate(program(model, Hardware(array=DoubleArray(), circuit=circuit)), 3)
    index = next(i for i, module in enumerate(chip) if isinstance(module, AnalogReLU))
    u, z = chip[:index](x), chip[index].draws()
    y = chip[index](u)
    volt, low, high = circuit.v_0 + circuit.span * u, *circuit.rails
    for j in range(u.shape[1]):
        passed = volt[:, j] > circuit.v_0 - circuit.offset * z["circuit/comparator"][j]
        a = torch.where(passed, volt[:, j], circuit.v_0)
        gain = circuit.gain * torch.exp(circuit.gain_spread * z["circuit/follower_gain"][j])
        o = circuit.offset * z["circuit/follower"][j]
        expected = ((gain * (a + o) + circuit.at_zero) / (gain + 1)).clamp(low, high)
        torch.testing.assert_close(circuit.v_0 + circuit.span * y[:, j], expected)


def test_a_relu_behind_a_layer_on_a_sequence_has_its_columns_last():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4, bias=False), nn.ReLU())
    chip = fabricate(program(model, Hardware(array=DoubleArray(), circuit=AMPLIFIED)), 3)
    x = torch.rand(4, 4, 5)
    torch.testing.assert_close(chip(x), torch.stack([chip(row) for row in x]))


@pytest.mark.parametrize("array", STRUCTURES, ids=repr)
def test_a_convolutional_network_behind_amplifiers_runs_and_learns(array):
    model, x, y = convolutional()
    chip = fabricate(program(model, Hardware(array=array, circuit=AMPLIFIED)), 3)
    F.cross_entropy(chip(x), y).backward()
    assert chip(x).shape == (4, 3)
    assert all(p.grad.abs().sum() > 0 for p in chip.parameters())


@pytest.mark.parametrize("rails", [None, (0.05, 0.95)], ids=["no rails", "rails"])
@pytest.mark.parametrize("array", [*STRUCTURES, DoubleArray(w_max=1.0, zero_state=True)], ids=repr)
def test_gradients_flow_behind_amplifiers_at_weights_that_are_exactly_zero(array, rails):
    layer = nn.Linear(5, 3, bias=False)
    nn.init.zeros_(layer.weight)
    chip = fabricate(program(layer, Hardware(Gaussian(0.1), array, replace(AMPLIFIED, rails=rails))), 0)
    chip(torch.ones(2, 5)).sum().backward()
    assert (chip.weight.grad != 0).all()


@pytest.mark.parametrize("array", STRUCTURES, ids=repr)
def test_replicas_of_amplified_chips_are_those_chips(array):
    hardware = Hardware(array=array, circuit=AMPLIFIED)
    chips = [fabricate(program(mlp(6, 16, 3, bias="row", seed=s), hardware), s) for s in range(4)]
    assert isinstance(chips[0][1], BiasRow)
    x = torch.rand(10, 4, 6)
    together = Replicas(chips)(x)
    for s, chip in enumerate(chips):
        torch.testing.assert_close(together[:, s], chip(x[:, s]))


@pytest.mark.parametrize("array", [replace(a, w_max=2.0) for a in STRUCTURES], ids=repr)
def test_conductances_train_in_the_array_behind_amplifiers(array):
    model, x, _ = perceptron()
    y = (x[:, 0] > x[:, 1]).long()
    hardware = Hardware(array=array, circuit=AMPLIFIED)
    chip = fabricate(program(model, hardware, train="conductance"), 3)
    as_weights = fabricate(program(model, hardware), 3)
    torch.testing.assert_close(chip(x), as_weights(x), rtol=1e-4, atol=1e-4)
    loss = fit(chip, CrossEntropy(3.0), (x, y), epochs=60, lr=3.0, seed=0, batch_size=40).loss
    assert chip[2].conductance.grad.shape == array.cell_shape((16, 7))
    assert loss[-1] < 0.4 * loss[0]
