"""What digital stages must do: nothing before training, then their published formulas, and leave no trace."""

import copy
import io
import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from torch import nn

from cimlib import Hardware, evaluate, fabricate, fresh, program
from cimlib.arrays import DoubleArray
from cimlib.chip import (
    Adapter,
    Affine,
    Chain,
    DoRA,
    FullRank,
    LoRA,
    Projections,
    Scale,
    VeRA,
    attach,
    crossbars,
    detach,
    plain_state,
    projections,
)
from cimlib.chip import attachment as stages
from cimlib.circuits import Converters
from cimlib.devices import Device, Gaussian, StuckAt
from cimlib.networks import mlp

NOISY = Hardware(Device(Gaussian(0.1), StuckAt(on=0.02, off=0.05)))
LAYERS = {
    "linear": lambda: (nn.Linear(784, 256), (128, 784)),
    "linear without bias": lambda: (nn.Linear(784, 256, bias=False), (128, 784)),
    "linear on a sequence": lambda: (nn.Linear(32, 16), (4, 7, 32)),
    "conv": lambda: (nn.Conv2d(64, 128, 3, padding=1), (4, 64, 10, 10)),
    "conv without bias": lambda: (nn.Conv2d(64, 128, 3, bias=False), (4, 64, 10, 10)),
    "conv with groups": lambda: (nn.Conv2d(64, 128, 3, padding=2, groups=4), (4, 64, 10, 10)),
    "depthwise": lambda: (nn.Conv2d(8, 8, 3, padding=1, groups=8), (2, 8, 9, 9)),
    "conv with stride and dilation": lambda: (nn.Conv2d(8, 16, 3, stride=2, dilation=2), (4, 8, 17, 14)),
    "conv 1 × 1, stride": lambda: (nn.Conv2d(8, 16, 1, stride=2), (4, 8, 9, 8)),
    "conv, oblong": lambda: (nn.Conv2d(4, 6, (3, 5), (2, 1), (0, 2), (1, 2)), (2, 4, 11, 13)),
    "conv, even kernel": lambda: (nn.Conv2d(4, 6, 4, stride=3, padding=2), (2, 4, 11, 13)),
    "conv, same": lambda: (nn.Conv2d(4, 6, (4, 3), padding="same", dilation=2), (2, 4, 9, 11)),
    "conv with reflected padding": lambda: (
        nn.Conv2d(8, 16, 3, padding=1, padding_mode="reflect", groups=2),
        (4, 8, 9, 9),
    ),
}
MAKERS = {
    "LoRA": lambda layer: LoRA(layer, 3, alpha=6.0),
    "DoRA": lambda layer: DoRA(layer, 3),
    "VeRA": lambda layer: VeRA(layer, Projections(layer.weight_shape[1] + 5, layer.weight_shape[0] + 3, 4)),
    "full rank": FullRank,
    "Affine": Affine,
    "Scale": lambda layer: Scale(layer, torch.ones(layer.weight_shape[0])),
    "two": lambda layer: Chain(layer, Scale(layer, torch.ones(1)), DoRA(layer, 2)),
}
TRAINED = {**MAKERS, "two": lambda layer: Chain(layer, Scale(layer, torch.tensor([0.7])), DoRA(layer, 2))}


def made(name, hardware=NOISY):
    torch.manual_seed(0)
    layer, shape = LAYERS[name]()
    return fabricate(program(layer, hardware), 0), torch.randn(shape)


def shaken(model, seed=1):
    """As if its stages had been trained: every number is moved, and none is small."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for stage in stages.adapters(model).values():
            for value in plain_state(stage).values():
                value.add_(0.3 * torch.randn_like(value))
    return model


def network():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False),
        nn.Flatten(),
        nn.Linear(24, 3),
    ).eval()


# --- before training --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("kind", MAKERS)
def test_a_stage_changes_nothing_before_it_is_trained_bit_for_bit(name, kind):
    chip, x = made(name)
    before = chip(x)
    attach(chip, MAKERS[kind])
    assert torch.equal(chip(x), before)
    shaken(chip)
    assert not torch.allclose(chip(x), before, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", MAKERS)
def test_nor_does_it_behind_converters_or_for_a_column_of_zeros(kind):
    layer = nn.Linear(20, 6)
    with torch.no_grad():
        layer.weight[2] = 0
    chip = fabricate(program(layer, Hardware(Gaussian(0.1), circuit=Converters(6, 6, rows=8))), 0)
    x = torch.rand(5, 20)
    before = chip(x)
    attach(chip, MAKERS[kind])
    assert torch.equal(chip(x), before)
    for parameter in chip.digital.parameters():
        (gradient,) = torch.autograd.grad(chip(x).square().sum(), parameter)
        assert gradient.isfinite().all()


# --- the formulas, written out in numpy ------------------------------------------------------------------


def convolved(x, weight, layer):
    """The cross-correlation of x (batch, in, height, width), tap by tap; zero padding, no groups."""
    (sh, sw), (ph, pw), (dh, dw) = layer.stride, layer.padding, layer.dilation
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    kh, kw = weight.shape[2:]
    height = (x.shape[2] - dh * (kh - 1) - 1) // sh + 1
    width = (x.shape[3] - dw * (kw - 1) - 1) // sw + 1
    y = np.zeros((len(x), len(weight), height, width))
    for i in range(height):
        for j in range(width):
            patch = x[:, :, i * sh : i * sh + dh * kh : dh, j * sw : j * sw + dw * kw : dw]
            y[:, :, i, j] = np.einsum("bchw,ochw->bo", patch[:, :, :kh, :kw], weight)
    return y


def applied(x, weight, layer):
    return x @ weight.T if isinstance(layer, nn.Linear) else convolved(x, weight, layer)


def as_numpy(module):
    return {name: value.detach().double().numpy() for name, value in plain_state(module).items()}


FORMULAS = ["linear on a sequence", "linear without bias", "conv, oblong", "conv 1 × 1, stride"]


def drifted(name):
    """A chip in double precision, what its array amounts to, an input, and the bias as it is added."""
    chip, x = made(name)
    chip, x = chip.double(), x.double()[:3]
    with torch.no_grad():
        now = chip.read()[0].numpy()
    bias = 0.0 if chip.bias is None else chip.bias.detach().numpy()
    return chip, now, x, bias if x.dim() < 4 or chip.bias is None else bias[:, None, None]


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("alpha", [None, 5.0])
def test_lora_adds_a_product_of_low_rank(name, alpha):
    chip, now, x, bias = drifted(name)
    shaken(attach(chip, lambda layer: LoRA(layer, 2, alpha=alpha)))
    own, rows = as_numpy(chip.digital), now.shape[1:]
    change = (1.0 if alpha is None else alpha / 2) * own["up"] @ own["down"].reshape(2, -1)
    expected = applied(x.numpy(), now + change.reshape(-1, *rows), chip.plain) + bias
    np.testing.assert_allclose(chip(x).detach().numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", FORMULAS)
def test_dora_turns_and_rescales_each_column_and_not_the_bias(name):
    """The increment of the public code, (m/n − 1) W x + (m/n) B A x, with n of the weights asked for."""
    chip, now, x, bias = drifted(name)
    shaken(attach(chip, lambda layer: DoRA(layer, 2)))
    own, asked = as_numpy(chip.digital), chip.weight.detach().numpy()
    change = (own["up"] @ own["down"].reshape(2, -1)).reshape(asked.shape)
    norm = np.sqrt(((asked + change) ** 2).reshape(len(asked), -1).sum(1))
    ratio = (own["magnitude"] / norm).reshape(-1, *[1] * (asked.ndim - 1))
    y, image = applied(x.numpy(), now, chip.plain), [1] * (asked.ndim - 2)
    factor = ratio.reshape(-1, *image)
    expected = y + (factor - 1) * y + factor * applied(x.numpy(), change, chip.plain) + bias
    np.testing.assert_allclose(chip(x).detach().numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["linear", "conv"])
def test_without_errors_dora_is_a_magnitude_times_a_direction(name):
    chip, x = made(name, Hardware())
    shaken(attach(chip, lambda layer: DoRA(layer, 2)))
    direction = (chip.weight + chip.digital.update()).flatten(1)
    unit = direction / direction.norm(dim=1, keepdim=True)
    norms = chip.digital.merged(chip.weight).flatten(1)
    torch.testing.assert_close(norms.norm(dim=1), chip.digital.magnitude.abs())
    torch.testing.assert_close(norms, chip.digital.magnitude[:, None] * unit)
    expected = chip.plain
    expected._parameters["weight"] = nn.Parameter(norms.reshape(chip.weight_shape))
    torch.testing.assert_close(chip(x), expected(x), rtol=1e-4, atol=1e-4)


def test_no_gradient_passes_through_the_norm():
    """Then the gradient of B is m/n times that of LoRA, and that of m the plain output over n."""
    chip, x = made("linear on a sequence")
    shaken(attach(chip, lambda layer: DoRA(layer, 2)))
    dora = chip.digital
    seen = torch.randn(*x.shape[:-1], 16)
    up, magnitude = torch.autograd.grad((seen * chip(x)).sum(), (dora.up, dora.magnitude))
    with torch.no_grad():
        ratio = dora.magnitude / dora.norm()
        y = nn.functional.linear(x, chip.read()[0] + dora.update())
        torch.testing.assert_close(magnitude, (seen * y).flatten(0, 1).sum(0) / dora.norm())
        hidden = x @ dora.down.T
        torch.testing.assert_close(up, torch.einsum("...o,...r->or", seen * ratio, hidden))


def test_vera_scales_two_shared_random_projections():
    chip, now, x, bias = drifted("linear on a sequence")
    shared = Projections(50, 40, 5, seed=3)
    shaken(attach(chip, lambda layer: VeRA(layer, shared)))
    a, b = (projection.double().numpy() for projection in shared.down_and_up)
    own = as_numpy(chip.digital)
    change = np.diag(own["b"]) @ b[:16] @ np.diag(own["d"]) @ a[:, :32]
    expected = x.numpy() @ (now + change).T + bias
    np.testing.assert_allclose(chip(x).detach().numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_in_a_convolution_vera_is_1_by_1_at_every_position_that_is_kept(size, stride):
    layer = nn.Conv2d(4, 6, size, stride=stride, padding=size // 2, dilation=1)
    chip, x = fabricate(program(layer, NOISY), 0).double(), torch.randn(2, 4, 9, 8).double()
    with torch.no_grad():
        plain = chip(x).numpy()
    shared = Projections(4, 6, 3)
    shaken(attach(chip, lambda layer: VeRA(layer, shared)))
    a, b = (projection.double().numpy() for projection in shared.down_and_up)
    own, kept = as_numpy(chip.digital), x.numpy()[:, :, ::stride, ::stride]
    change = np.einsum("o,or,r,rc,bchw->bohw", own["b"], b, own["d"], a, kept)
    np.testing.assert_allclose(chip(x).detach().numpy(), plain + change, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("size", "middle"), [((1, 1), (0, 0)), ((3, 5), (1, 2)), ((4, 2), (1, 0))])
def test_it_changes_the_middle_of_the_kernel_or_the_first_of_two(size, middle):
    chip = program(nn.Conv2d(4, 6, size, groups=2), Hardware())
    shaken(attach(chip, lambda layer: VeRA(layer, Projections(2, 6, 3))))
    changed = chip.digital.update() != 0
    assert changed[:, :, *middle].all() and changed.sum() == 6 * 2


@pytest.mark.parametrize("name", ["linear on a sequence", "conv, oblong"])
def test_full_rank_makes_of_any_chip_the_digital_layer(name):
    torch.manual_seed(0)
    layer, shape = LAYERS[name]()
    chip, x = fabricate(program(layer, NOISY), 0), torch.randn(shape)
    stage = attach(chip, FullRank).digital
    with torch.no_grad():
        stage.change.copy_(layer.weight - chip.read()[0])
        torch.testing.assert_close(chip(x), layer(x))
    assert stage.stored == stage.multiplications == layer.weight.numel()


def test_a_factor_scales_the_output_and_not_the_bias():
    for factor in (torch.tensor([2.0]), torch.linspace(0.5, 2, 128)):
        chip, x = made("conv", Hardware())
        expected = chip.plain._conv_forward(x, factor.reshape(-1, 1, 1, 1) * chip.weight, chip.bias)
        attach(chip, lambda layer, factor=factor: Scale(layer, factor))
        factor.zero_()  # of the caller
        torch.testing.assert_close(chip(x), expected)


# --- starting points -------------------------------------------------------------------------------------


def test_lora_starts_like_the_public_code_and_differently_in_every_layer():
    def first(seed, name):
        layer = nn.Sequential(nn.Linear(400, 300), nn.Linear(300, 400), nn.Linear(400, 300))
        model = attach(program(layer, Hardware()), lambda layer: LoRA(layer, 50, seed=seed))
        return model.get_submodule(name).digital.down.detach()

    down = first(0, "0")
    assert down.shape == (50, 400) and down.abs().max() <= 400**-0.5  # Kaiming uniform, a = √5
    assert float(down.std()) == pytest.approx((3 * 400) ** -0.5, rel=0.02)
    assert torch.equal(down, first(0, "0"))
    assert not torch.equal(down, first(1, "0")) and not torch.equal(down, first(0, "2"))


def test_projections_are_those_of_their_seed_and_of_the_largest_layers():
    model = program(network(), Hardware())
    assert projections(model, 7, 2) == Projections(24, 6, 7, 2)
    a, b = Projections(300, 200, 100).down_and_up
    assert a.shape == (100, 300) and b.shape == (200, 100)
    for projection, inputs in ((a, 300), (b, 100)):
        assert float(projection.abs().max()) == pytest.approx((6 / inputs) ** 0.5, rel=0.001)
        assert abs(float(projection.mean())) < 0.005
    assert torch.equal(a, Projections(300, 200, 100).down_and_up[0])
    assert not torch.equal(a, Projections(300, 200, 100, 1).down_and_up[0])


def test_nothing_draws_from_the_global_generator():
    model = program(network(), Hardware())
    before = torch.get_rng_state()
    for make in MAKERS.values():
        attach(detach(model), make)
    assert torch.equal(torch.get_rng_state(), before)


# --- merging ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("kind", [kind for kind in TRAINED if kind != "Affine"])  # an offset is no weight
def test_merged_into_digital_weights_a_stage_gives_the_same(name, kind):
    chip, x = made(name)
    shaken(attach(chip.double(), TRAINED[kind]))
    with torch.no_grad():
        plain = chip.plain
        plain._parameters["weight"] = nn.Parameter(chip.digital.merged(chip.read()[0]))
        torch.testing.assert_close(chip(x.double()), plain(x.double()), rtol=1e-11, atol=1e-11)


# --- attaching and removing ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MAKERS)
def test_a_stage_adds_its_keys_alone_and_removed_leaves_none(kind):
    digital = network()
    model = fabricate(program(digital, NOISY), 0)
    before, x = model(torch.ones(2, 2, 6, 6)), torch.ones(2, 2, 6, 6)
    assert attach(model, MAKERS[kind]) is model
    assert not any(module.training for module in model.modules())
    added = set(plain_state(model)) - set(digital.state_dict())
    assert added and {name.split(".digital.")[0] for name in added} == {"0", "3", "5"}
    shaken(model)
    assert detach(model) is model
    assert list(plain_state(model)) == list(digital.state_dict()) and torch.equal(model(x), before)
    assert stages.adapters(model) == {}
    model[0].digital = lambda x, y: 2 * y  # no place of a module is left


def test_projections_are_neither_saved_nor_counted():
    model = program(network(), Hardware())
    attach(model, lambda layer: VeRA(layer, projections(model, 5)))
    names = {name for name in plain_state(model) if ".digital." in name}
    assert names == {f"{layer}.digital.{vector}" for layer in "035" for vector in "db"}
    assert [stage.stored for stage in stages.adapters(model).values()] == [5 + 4, 5 + 6, 5 + 3]


def test_a_second_stage_goes_behind_the_first():
    chip, x = made("linear")
    y = chip(x)
    attach(chip, lambda layer: Scale(layer, torch.tensor([2.0])))
    attach(chip, lambda layer: LoRA(layer, 2))
    attach(chip, lambda layer: Scale(layer, torch.tensor([3.0])))
    torch.testing.assert_close(chip(x), 6 * (y - chip.bias) + chip.bias)
    assert [type(stage) for stage in chip.digital.parts()] == [Scale, LoRA, Scale]


def test_layers_may_go_without():
    model = fabricate(program(network(), NOISY), 0)
    attach(model, lambda layer: DoRA(layer, 1) if layer.name == "3" else None)
    assert list(stages.adapters(model)) == ["3"] and model.get_submodule("5").digital is None
    own = stages.parameters(model)
    assert len(own) == 3 and all(p is q for p, q in zip(own, model[3].digital.parameters(), strict=True))


def test_of_networks_side_by_side_every_stage_is_trained_and_a_shared_one_once():
    one, other = (fabricate(program(network(), NOISY), number) for number in (0, 1))
    attach(one, MAKERS["DoRA"]), attach(other, MAKERS["DoRA"])
    both = [*stages.parameters(one), *stages.parameters(other)]
    found = stages.parameters(nn.ModuleList([one, other]))
    assert len(found) == 18 and all(p is q for p, q in zip(found, both, strict=True))
    attach(detach(other), lambda layer: stages.adapters(one)[layer.name])
    found = stages.parameters(nn.ModuleList([one, other]))
    assert len(found) == 9 and all(p is q for p, q in zip(found, both[:9], strict=True))


@pytest.mark.parametrize("single", [False, True])
def test_what_is_stored_of_one_chip_can_be_loaded_into_another(single):
    digital = nn.Conv2d(2, 3, 3) if single else network()
    x = torch.rand(3, 2, 6, 6)

    def chip():
        return attach(fabricate(program(digital, NOISY), 0), TRAINED["two"])

    model = shaken(chip())
    stored = stages.state(model)
    bare = fabricate(program(digital, NOISY), 0)
    assert set(stored) == set(model.state_dict()) - set(bare.state_dict())
    assert torch.equal(stages.load(chip(), stored)(x), model(x))
    expected = {name: value.clone() for name, value in stored.items()}
    shaken(model)
    assert all(torch.equal(stored[name], expected[name]) for name in stored)  # a copy
    with pytest.raises(ValueError, match="stored"):
        stages.load(chip(), dict(list(stored.items())[1:]))


@pytest.mark.parametrize("kind", TRAINED)
def test_a_network_with_stages_is_copied_pickled_and_converted(kind):
    model = shaken(attach(fabricate(program(network(), NOISY), 0), TRAINED[kind]))
    x = torch.rand(3, 2, 6, 6)
    y = model(x)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(x), y)
    assert [stage.layer for stage in stages.adapters(twin).values()] == crossbars(twin)
    shaken(twin)
    assert torch.equal(model(x), y) and not torch.equal(twin(x), y)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for read in (pickle.loads(pickle.dumps(model)), torch.load(file, weights_only=False)):
        assert torch.equal(read(x), y)
    torch.testing.assert_close(model.double()(x.double()).float(), y, rtol=1e-4, atol=1e-5)


def test_a_stage_is_the_same_on_every_chip():
    torch.manual_seed(0)
    x, y = torch.rand(40, 2, 6, 6), torch.arange(40) % 3
    model = attach(fabricate(program(network(), NOISY), 0), MAKERS["DoRA"])
    before = stages.state(shaken(model))
    result = evaluate(model, x, y, chips=range(5))
    assert len(set(result.accuracy)) > 1
    assert all(torch.equal(value, before[name]) for name, value in stages.state(model).items())


# --- costs -----------------------------------------------------------------------------------------------


def test_costs_of_a_small_network_are_those_counted_by_hand():
    """Images 6 × 6: 36 positions of the first convolution, 4 of the second, 1 of the linear layer."""
    model = program(network(), NOISY)
    x = torch.rand(5, 2, 6, 6)
    weights = (4 * 2 * 9 + 4) + 2 * 4 + 6 * 2 * 9 + (24 * 3 + 3)
    multiplied = 36 * 4 * 2 * 9 + 4 * 6 * 2 * 9 + 24 * 3
    lora = [2 * 2 * 9 + 4 * 2, 2 * 4 * 9 + 6 * 2, 2 * 24 + 3 * 2]
    vera = [5 * 2 + 5 + 4 * 5 + 4, 5 * 4 + 2 * 5 + 6 * 5 + 6, 5 * 24 + 5 + 3 * 5 + 3]
    columns, positions = [4, 6, 3], [36, 4, 1]
    scaled = [n + column for n, column in zip(lora, columns, strict=True)]
    cases = {
        "none": (lambda layer: None, 0, 0, [0, 0, 0]),
        "Scale": (lambda layer: Scale(layer, torch.ones(1)), 3, 0, columns),
        "LoRA": (lambda layer: LoRA(layer, 2), 0, sum(lora), lora),
        "DoRA": (lambda layer: DoRA(layer, 2), 0, sum(lora) + 13, scaled),
        "VeRA": (lambda layer: VeRA(layer, projections(model, 5)), 0, 13 + 3 * 5, vera),
        "Affine": (Affine, 0, 2 * 13, columns),
        "two": (
            lambda layer: Chain(layer, Scale(layer, torch.ones(layer.weight_shape[0])), LoRA(layer, 2)),
            13,
            sum(lora),
            scaled,
        ),
    }
    for make, measured, trained, multiplications in cases.values():
        attach(detach(model), make)
        cost = stages.cost(model, x)
        operations = sum(n * p for n, p in zip(multiplications, positions, strict=True))
        stored = measured + trained
        assert (cost.stored, cost.network) == (stored, weights)
        assert (cost.operations, cost.network_operations) == (operations, multiplied)
        assert cost.fraction == stored / weights and cost.overhead == operations / multiplied
        assert cost.size(8) == stored and cost.size() == 4 * stored
        for sets in (0, 7):  # what is measured belongs to the chip, not to a set
            assert stages.cost(model, x, sets=sets).stored == measured + sets * trained
    with pytest.raises(FrozenInstanceError):
        cost.stored = 1


def test_counting_leaves_the_network_as_it_is():
    x = torch.rand(4, 2, 6, 6)
    model = attach(fresh(program(network(), NOISY), 3).train(), MAKERS["DoRA"])
    twin = copy.deepcopy(model.state_dict())
    expected = attach(fresh(program(network(), NOISY), 3).train(), MAKERS["DoRA"])
    expected.load_state_dict(twin)
    stages.cost(model, x)
    assert all(torch.equal(value, twin[name]) for name, value in model.state_dict().items())
    assert model.training and not model[0]._forward_hooks
    assert torch.equal(model(x), expected(x))  # no draw was used up


def test_cells_do_not_get_a_gradient_that_they_had_not_before():
    """The stage reads the weights for its norm, without a gradient."""
    chip, x = made("linear")
    expected = torch.autograd.grad(chip(x).sum(), chip.weight)[0]
    attach(chip, MAKERS["DoRA"])
    torch.testing.assert_close(torch.autograd.grad(chip(x).sum(), chip.weight)[0], expected)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda layer: LoRA(layer, 0), ["rank = 0", "≥ 1"]),
        (lambda layer: DoRA(layer, 2.0), ["rank = 2.0", "integer"]),
        (lambda layer: LoRA(layer, 2, alpha=0.0), ["alpha = 0.0", "0 < alpha"]),
        (lambda layer: LoRA(layer, 2, seed=-1), ["seed = -1"]),
        (lambda layer: VeRA(layer, Projections(3, 9, 2)), ["shared", "inputs ≥ 4 and outputs ≥ 3"]),
        (lambda layer: VeRA(layer, Projections(9, 2, 2)), ["shared", "outputs ≥ 3"]),
        (lambda layer: VeRA(layer, Projections(9, 9, 2), d_init=0.0), ["d_init = 0.0"]),
        (lambda layer: Scale(layer, torch.ones(2)), ["factor.shape = (2,)", "(1,) or (3,)"]),
        (lambda layer: Projections(0, 1, 1), ["inputs = 0"]),
        (lambda layer: Projections(1, True, 1), ["outputs = True"]),
        (lambda layer: Projections(1, 1, 0), ["rank = 0"]),
        (lambda layer: Projections(1, 1, 1, -1), ["seed = -1"]),
        (lambda layer: stages.cost(layer, torch.ones(1, 4), sets=-1), ["sets = -1", "≥ 0"]),
        (lambda layer: stages.cost(layer, torch.ones(1, 4), sets=1.0), ["sets = 1.0", "integer"]),
        (lambda layer: stages.cost(layer, torch.ones(0, 4)), ["len(x) = 0"]),
        (lambda layer: stages.cost(layer, torch.ones(1, 4)).size(0), ["bits = 0"]),
        (lambda layer: stages.parameters(layer), ["model = 'Crossbar'", "attach(model, make)"]),
        (lambda layer: attach(mlp(4, 3), lambda layer: None), ["model = 'Sequential'", "program"]),
        (lambda layer: detach(mlp(4, 3)), ["model = 'Sequential'", "program"]),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(make, words):
    with pytest.raises(ValueError, match=".*") as error:
        make(program(nn.Linear(4, 3), Hardware()))
    assert all(word in str(error.value) for word in words)


def test_weights_that_live_in_the_array_have_no_norm_to_start_from():
    chip = program(nn.Linear(4, 3), Hardware(array=DoubleArray(w_max=1.0)), train="conductance")
    with pytest.raises(ValueError, match=r"layer.*train='weight'"):
        attach(chip, lambda layer: DoRA(layer, 1))
    x = torch.rand(2, 4)
    before = chip(x)
    assert torch.equal(attach(chip, lambda layer: LoRA(layer, 1))(x), before)


def test_a_stage_of_another_kind_is_not_overwritten():
    chip = program(nn.Linear(4, 3), Hardware())
    chip.digital = lambda x, y: 2 * y
    with pytest.raises(ValueError, match="digital"):
        attach(chip, lambda layer: LoRA(layer, 1))
    assert not isinstance(detach(chip).digital, Adapter)
