"""Methods on lines and volumes, sequences and images: right, or refused by name."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cimlib import Hardware, fabricate, fit, fresh, program
from cimlib.arrays import DoubleArray
from cimlib.chip import DoRA, attach, crossbars
from cimlib.devices import PCM, Device, Gaussian, StuckAt
from cimlib.methods import (
    IRS,
    OVF,
    AdapterTraining,
    CorrectNet,
    Retraining,
    Temperature,
    adjusted,
    compensate,
    distil,
    frozen,
    mapped,
    mapped_jointly,
    on_device,
    recalibrate_batchnorm,
    sensitivity,
)
from cimlib.training import CrossEntropy, Pulses

BROKEN = Hardware(StuckAt(0.1, 0.1), DoubleArray(w_max=1.0))


def chip(model, hardware=BROKEN, number=0):
    return fabricate(program(model, hardware), number)


def seeded(make):
    torch.manual_seed(0)
    return make()


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


# --- drift compensation and statistics ----------------------------------------------------------------

LAYERS = {
    "Linear": (lambda: nn.Linear(6, 4), (5, 6)),
    "Conv1d": (lambda: nn.Conv1d(6, 4, 3, stride=2, padding=1), (5, 6, 9)),
    "Conv2d": (lambda: nn.Conv2d(6, 4, (3, 2), groups=2), (5, 6, 5, 4)),
    "Conv3d": (lambda: nn.Conv3d(6, 4, (3, 2, 1), dilation=2, groups=2), (5, 6, 6, 5, 3)),
}


@pytest.mark.parametrize("per", ["layer", "column"])
@pytest.mark.parametrize("kind", LAYERS)
def test_row_by_row_a_compensation_compares_the_means_of_the_magnitudes_of_weights(kind, per):
    model = nn.Sequential(seeded(LAYERS[kind][0]))
    cells = Hardware(PCM(), DoubleArray(0.0, 25.0))
    then, now = chip(model, cells, 3), chip(model, cells.at("1 year"), 3)
    weights = [layer.read()[0].detach().abs().flatten(1) for layer in (then[0], now[0])]
    means = [weight.mean(1) if per == "column" else weight.mean().reshape(1) for weight in weights]
    compensate(now, then, per=per)
    torch.testing.assert_close(now[0].digital.factor, means[0] / means[1])
    assert bool((now[0].digital.factor > 1.1).all())


@pytest.mark.parametrize("kind", LAYERS)
def test_what_has_faded_alike_is_undone_on_lines_and_volumes_too(kind):
    model, x = nn.Sequential(seeded(LAYERS[kind][0])), normal(*LAYERS[kind][1])
    then, now = chip(model, Hardware()), chip(model, Hardware())
    with torch.no_grad():
        now[0].weight.mul_(0.5)
    for given in (None, x):
        torch.testing.assert_close(compensate(chip_of(now), then, given)(x), model(x))


def chip_of(model):
    """The same network on its chip, without stages."""
    plain = nn.Sequential(model[0].plain)
    return chip(plain, Hardware())


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_statistics_of_lines_and_volumes_are_those_of_their_channels(dims):
    kinds = {1: (nn.Conv1d, nn.BatchNorm1d), 2: (nn.Conv2d, nn.BatchNorm2d), 3: (nn.Conv3d, nn.BatchNorm3d)}
    conv, norm = kinds[dims]
    model = chip(nn.Sequential(seeded(lambda: conv(2, 3, 2)), norm(3)).eval())
    x = normal(20, 2, *[4] * dims)
    assert recalibrate_batchnorm(model, x) == 6
    channels = model[0](x).detach().transpose(0, 1).flatten(1)
    torch.testing.assert_close(model[1].running_mean, channels.mean(1))
    torch.testing.assert_close(model[1].running_var, channels.var(1))


def test_statistics_of_which_a_pass_sees_nothing_stay_and_are_named():
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.unused = nn.BatchNorm1d(4), nn.BatchNorm1d(4)

        def forward(self, x):
            return self.norm(x)

    model = Head()
    model.norm(normal(20, 4)), model.unused(normal(20, 4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"BatchNorm that a pass does not call: \['unused'\]"):
        recalibrate_batchnorm(model, normal(20, 4))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.norm.momentum == 0.1


# --- joint orders -------------------------------------------------------------------------------------

CHAINS = {
    "lines": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 6, 3), nn.BatchNorm1d(6), nn.Dropout1d(), nn.AvgPool1d(2), nn.Conv1d(6, 5, 2),
            nn.ReLU(), nn.AdaptiveMaxPool1d(2), nn.Flatten(), nn.Linear(10, 3),
        ),
        (4, 2, 10),
    ),
    "volumes": (
        lambda: nn.Sequential(
            nn.Conv3d(1, 6, 2), nn.BatchNorm3d(6), nn.Dropout3d(), nn.MaxPool3d(2), nn.Conv3d(6, 5, 1),
            nn.ReLU(), nn.AdaptiveAvgPool3d((2, 1, 1)), nn.Flatten(), nn.Linear(10, 3),
        ),
        (4, 1, 5, 5, 5),
    ),
    "transposed": (
        lambda: nn.Sequential(
            nn.ConvTranspose1d(2, 6, 3), nn.ReLU(), nn.ConvTranspose1d(6, 5, 2), nn.ReLU(), nn.Conv1d(5, 3, 1)
        ),
        (4, 2, 5),
    ),
    "transposed behind groups": (
        lambda: nn.Sequential(
            nn.ConvTranspose2d(2, 6, 2, groups=2), nn.ReLU(), nn.ConvTranspose2d(6, 3, 2), nn.ReLU(),
            nn.Conv2d(3, 3, 1),
        ),
        (4, 2, 3, 3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_channels_of_lines_volumes_and_transposed_convolutions_move_with_the_rows_they_feed(name):
    make, shape = CHAINS[name]
    model, x = seeded(make).eval(), normal(*shape)
    made = mapped_jointly(chip(model, Hardware(StuckAt(0.2, 0.2))))
    layers = crossbars(made)
    moved = [layer.placement.columns != tuple(range(layer.weight_shape[0])) for layer in layers]
    assert any(moved[:-1]) and not moved[-1]
    for one, other in itertools.pairwise(layers):
        columns, rows = one.placement.columns, other.placement.rows[0]
        block = len(rows) // len(columns)
        assert rows == tuple(line * block + i for line in columns for i in range(block))
    for layer in layers:
        layer.hardware = Hardware()
    assert torch.equal(fabricate(made, 0)(x), chip(model, Hardware())(x))


@pytest.mark.parametrize("name", CHAINS)
def test_a_joint_order_moves_hidden_channels_as_permuting_the_digital_network_does(name):
    """Oracle: the network whose channels are permuted computes the same, and its weights lie straight."""
    make, shape = CHAINS[name]
    model, x = seeded(make).eval(), normal(*shape)
    made = mapped_jointly(chip(model, Hardware(StuckAt(0.2, 0.2))))
    permuted = seeded(make).eval()
    order = None
    for layer in crossbars(made):
        plain = permuted[int(layer.name)]
        turned = isinstance(plain, (nn.ConvTranspose1d, nn.ConvTranspose2d))
        with torch.no_grad():
            weight = layer.asked.detach()
            if order is not None:
                cells = weight.reshape(len(weight), len(order), -1)
                weight = cells[:, order].reshape(weight.shape)
            order = torch.tensor(layer.placement.columns).argsort()
            weight = weight[order]
            if turned:
                weight = turned_back(weight, plain.groups, plain.weight.shape)
            plain.weight.copy_(weight)
            plain.bias.copy_(layer.bias[order])
    torch.testing.assert_close(permuted(x), model(x))
    torch.testing.assert_close(chip(permuted, Hardware(StuckAt(0.2, 0.2)))(x), made(x))


def turned_back(weight, groups, shape):
    """(out, in / groups, ...) as a transposed convolution stores it."""
    parts = weight.reshape(groups, -1, *weight.shape[1:])
    return parts.transpose(1, 2).reshape(shape)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Sequential(nn.Linear(4, 3)), r"chains = \[\['0'\]\].*no units are hidden"),
        (nn.Linear(4, 3), "no units are hidden"),
        (
            nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Flatten(), nn.Linear(40, 3)),
            "inputs of '3' = 40.*each one row",
        ),
        (nn.Sequential(nn.Linear(8, 8), nn.Conv1d(8, 4, 3)), "outputs of '0' may be no inputs of '1'"),
        (
            nn.Sequential(nn.Conv1d(2, 8, 3), nn.ReLU(), nn.Linear(8, 4)),
            "outputs of '0' may be no inputs of '2'",
        ),
        (
            nn.Sequential(nn.Linear(8, 8), nn.AvgPool1d(3, 1, 1), nn.Linear(8, 4)),
            "outputs of '0' may be no inputs",
        ),
        (
            nn.Sequential(nn.Conv1d(2, 8, 3), nn.Flatten(2), nn.Linear(8, 4)),
            "outputs of '0' may be no inputs",
        ),
    ],
)
def test_networks_in_which_lines_do_not_run_straight_have_no_joint_order(model, words):
    with pytest.raises(ValueError, match=words):
        mapped_jointly(chip(model, Hardware(StuckAt(0.1))))


def test_chains_of_one_layer_and_no_chains_are_refused():
    model = chip(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
    for chains in ([("0",)], [], [("0", "2"), ("0",)]):
        with pytest.raises(ValueError, match="chains = .*two or more layers"):
            mapped_jointly(model, chains=chains)


def test_one_hidden_unit_behind_a_bias_row_has_nowhere_to_move():
    from cimlib.networks import mlp

    model = mlp(4, 1, 3, bias="row", seed=0)
    made = mapped_jointly(chip(model, Hardware(StuckAt(0.1))))
    assert all(layer.placement.columns == tuple(range(layer.weight_shape[0])) for layer in crossbars(made))


# --- what is classified -------------------------------------------------------------------------------

TASKS = {
    "sequences": (lambda: nn.Linear(3, 4), (6, 5, 3), (6, 5), -1),
    "as many positions as classes": (lambda: nn.Linear(3, 4), (6, 4, 3), (6, 4), -1),
    "images": (lambda: nn.Conv2d(3, 4, 1), (6, 3, 5, 2), (6, 5, 2), 1),
    "volumes": (lambda: nn.ConvTranspose3d(3, 4, 1), (6, 3, 2, 3, 2), (6, 2, 3, 2), 1),
}


def task(name, hardware=BROKEN):
    make, inputs, positions, dim = TASKS[name]
    x = normal(*inputs)
    y = torch.randint(4, positions, generator=torch.Generator().manual_seed(2))
    return chip(nn.Sequential(seeded(make)), hardware), (x, y), dim


@pytest.mark.parametrize("name", TASKS)
def test_sensitivities_of_sequences_and_images_are_the_derivatives_of_the_loss(name):
    model, (x, y), dim = task(name)
    weight, g, z = model[0].read()

    def gradient(x, y):
        held = weight.detach().requires_grad_()
        model[0].reading = held, g, z
        loss = F.cross_entropy(model(x).movedim(dim, 1), y, reduction="sum")
        model[0].reading = None
        return torch.autograd.grad(loss, held)[0]

    one, fisher = (
        sensitivity(model, (x, y), kind, batch_size=4)[model[0].name] for kind in ("gradient", "fisher")
    )
    torch.testing.assert_close(one, gradient(x, y).abs() / 6)
    each = torch.stack([gradient(x[k : k + 1], y[k : k + 1]) for k in range(6)])
    torch.testing.assert_close(fisher, each.square().mean(0))


@pytest.mark.parametrize("name", TASKS)
def test_updates_on_the_device_follow_the_loss_of_all_positions(name):
    model, (x, y), dim = task(name)
    done = on_device(model, (x, y), Pulses(1000), iterations=40, lr=0.5, seed=0, batch_size=6)
    expected = F.cross_entropy(model(x).movedim(dim, 1), y)
    assert done.losses[0] == pytest.approx(expected.item(), rel=1e-4) and done.images == 240
    assert done.losses[-1] < 0.97 * done.losses[0]


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize(
    "objective", [CrossEntropy(), Temperature(1.0), OVF(beta=0.0, feedbacks=0), Retraining()]
)
def test_objectives_of_sequences_and_images_are_those_of_torch(name, objective):
    model, (x, y), dim = task(name, Hardware(Gaussian(0.1)))
    objective.setup(model)
    expected = F.cross_entropy(model(x).movedim(dim, 1), y, reduction="sum") / len(y)
    torch.testing.assert_close(objective(model, (x, y)), expected)
    objective.teardown(model)


@pytest.mark.parametrize("name", [name for name in TASKS if name != "volumes"])
def test_a_teacher_is_matched_in_the_classes_of_every_position(name):
    model, (x, y), dim = task(name)
    teacher = nn.Sequential(TASKS[name][0]())
    attach(model, lambda layer: DoRA(layer, 1))
    objective = AdapterTraining(teacher)
    ours, theirs = (F.log_softmax(network(x), dim) for network in (model, teacher))
    expected = (theirs.exp() * (theirs - ours)).sum() / len(x)
    torch.testing.assert_close(objective(model, (x, y)), expected)


def test_a_teacher_of_one_logit_or_of_another_shape_is_refused():
    x, y = normal(6, 3), torch.zeros(6, dtype=torch.long)
    for made, taught, words in ((1, 1, "classes = 1"), (4, 3, "shapes of outputs.*equal")):
        model = attach(chip(nn.Linear(3, made)), lambda layer: DoRA(layer, 1))
        with pytest.raises(ValueError, match=words):
            fit(model, AdapterTraining(nn.Linear(3, taught)), (x, y), epochs=1, lr=0.1, seed=0)


# --- normalisations, heads, regulariser ---------------------------------------------------------------


def test_feedbacks_leave_the_statistics_of_volumes_to_the_first_pass():
    def statistics(objective):
        model = nn.Sequential(
            seeded(lambda: nn.Conv3d(1, 3, 2)), nn.BatchNorm3d(3), nn.Flatten(), nn.Linear(24, 2)
        )
        model = fresh(program(model, Hardware(Gaussian(0.1))), 0).train()
        objective.setup(model)
        objective(model, (normal(5, 1, 3, 3, 3), torch.tensor([0, 1, 0, 1, 0])))
        return model[1].running_mean, int(model[1].num_batches_tracked)

    mean, tracked = statistics(CrossEntropy())
    first, every = statistics(OVF(beta=0.1, bn="first")), statistics(OVF(beta=0.1))
    assert torch.equal(first[0], mean) and first[1] == tracked == 1 and every[1] == 4


def test_what_normalises_with_statistics_and_is_no_batchnorm_counts_every_pass():
    model = nn.Sequential(nn.Conv1d(1, 3, 2), nn.InstanceNorm1d(3, track_running_stats=True))
    model = fresh(program(model, Hardware(Gaussian(0.1))), 0)
    with pytest.raises(ValueError, match="bn = .*InstanceNorm1d.*'every'"):
        OVF(beta=0.1, bn="first").setup(model)


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv3d, nn.ConvTranspose1d])
@pytest.mark.parametrize("on_hardware", [True, False])
def test_correctnet_knows_no_kernels_of_lines_and_volumes(kind, on_hardware):
    model = nn.Sequential(kind(2, 3, 2))
    with pytest.raises(ValueError, match=rf"model = \['0 \({kind.__name__}\)'\].*two dimensions"):
        CorrectNet().setup(program(model, Hardware()) if on_hardware else model)


def test_snapshots_whose_outputs_are_not_those_of_the_network_are_refused():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    objective = IRS({"1": nn.Linear(6, 1)}, beta=0.1, hardware=None)
    data = normal(8, 4), torch.zeros(8, dtype=torch.long)
    with pytest.raises(ValueError, match=r"shapes of the feedbacks = \[\(8, 1\)\].*\(8, 3\)"):
        fit(model, objective, data, epochs=1, lr=0.1, seed=0)


def test_a_penalty_is_refused_where_conductances_are_trained():
    model = fabricate(program(nn.Linear(4, 3), BROKEN, train="conductance"), 0)
    data = normal(8, 4), torch.zeros(8, dtype=torch.long)
    with pytest.raises(ValueError, match=r"penalty = 0.1.*weights"):
        fit(model, Retraining(0.1), data, epochs=1, lr=0.1, seed=0)


# --- samples that are not finite ----------------------------------------------------------------------


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "method",
    [
        lambda model, data: sensitivity(model, data),
        lambda model, data: adjusted(model, data, epochs=1, lr=0.1, seed=0),
        lambda model, data: frozen(model, data, per_step=9, batches=1, lr=0.1, seed=0),
        lambda model, data: on_device(model, data, Pulses(), iterations=1, lr=0.1, seed=0),
        lambda model, data: distil(
            attach(model, lambda one: DoRA(one, 1)), model, data[0], epochs=1, lr=1, seed=0
        ),
        lambda model, data: compensate(model, model, data[0]),
        lambda model, data: recalibrate_batchnorm(model, data[0]),
    ],
    ids=["sensitivity", "adjusted", "frozen", "on_device", "distil", "compensate", "recalibrate_batchnorm"],
)
def test_samples_that_are_not_finite_are_refused_before_anything_is_done(method, bad):
    model = chip(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)))
    x, before = normal(8, 4), {name: value.clone() for name, value in model.state_dict().items()}
    x[2, 1] = bad
    with pytest.raises(ValueError, match="x = 'not finite in 1 of 8 samples'"):
        method(model, (x, torch.zeros(8, dtype=torch.long)))
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_loss_that_is_not_finite_writes_nothing():
    model = chip(nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3)), Hardware(Device(), DoubleArray(w_max=1.0)))
    data = torch.full((8, 4), 3e38), torch.zeros(8, dtype=torch.long)
    with pytest.raises(FloatingPointError, match="at iteration 0"):
        on_device(model, data, Pulses(), iterations=1, lr=0.1, seed=0)


@pytest.mark.parametrize("kind", [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d])
def test_transposed_convolutions_lose_less_when_they_are_mapped(kind):
    dims = len(kind(1, 1, 1).kernel_size)
    model, x = nn.Sequential(seeded(lambda: kind(6, 5, 2, bias=False))), normal(4, 6, *[3] * dims)
    broken = chip(model, Hardware(StuckAt(0.1, 0.1)))
    before, after = ((network(x) - model(x)).square().mean() for network in (broken, mapped(broken)))
    assert after < 0.9 * before
