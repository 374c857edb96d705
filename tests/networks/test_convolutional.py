"""What the networks of negative feedback training must be, as wide as the paper's or narrower."""

import pytest
import torch
from torch import nn

from cimlib import Hardware, fabricate, presets, program
from cimlib.chip import crossbars
from cimlib.methods import snapshot_heads
from cimlib.networks import SNAPSHOTS, linear_by_fan_in, resnet18, scaled, snapshot_places, thin_resnet, vgg8

NETWORKS = {"vgg8": vgg8, "resnet18": resnet18}
NARROW = 1 / 16
OFF = {"ideal": Hardware(), "nft": presets("nft-fefet6").with_sigma(0.0)}


def convolutions(model):
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


def kinds(model, *kind):
    return sum(isinstance(module, kind) for module in model.modules())


def images(n=2, channels=3, side=32):
    return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(0))


# --- the paper's networks ---------------------------------------------------------------------------


def test_vgg8_has_the_layers_of_the_paper():
    model = vgg8()
    assert [(c.in_channels, c.out_channels) for c in convolutions(model)] == [
        (3, 64),
        (64, 128),
        (128, 256),
        (256, 256),
        (256, 512),
        (512, 512),
    ]
    for layer in convolutions(model):
        assert layer.kernel_size == (3, 3) and layer.padding == (1, 1) and layer.stride == (1, 1)
        assert layer.bias is None
    order = "CBR CBRM CBR CBRM CBR CBRM FLRL".replace(" ", "")
    letters = {"Conv2d": "C", "BatchNorm2d": "B", "MaxPool2d": "M"}
    assert "".join(letters.get(type(m).__name__, type(m).__name__[0]) for m in model) == order
    linear = [m for m in model if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(8192, 1024), (1024, 10)]
    convolved = 9 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 256 + 256 * 512 + 512 * 512)
    normalised = 2 * (64 + 128 + 256 + 256 + 512 + 512)
    classified = 8192 * 1024 + 1024 + 1024 * 10 + 10
    assert sum(p.numel() for p in model.parameters()) == convolved + normalised + classified == 12_902_474


@pytest.mark.parametrize("name", NETWORKS)
def test_by_fan_in_linear_layers_have_the_variance_that_keeps_a_signal_and_all_else_is_as_it_was(name):
    model, as_released = NETWORKS[name](seed=3), NETWORKS[name](seed=3).state_dict()
    linear_by_fan_in(model)
    layers = {key: m for key, m in model.named_modules() if isinstance(m, nn.Linear)}
    for key, layer in layers.items():
        by_fan_out = as_released.pop(f"{key}.weight")
        assert layer.weight.std().item() == pytest.approx((2 / layer.in_features) ** 0.5, rel=0.05)
        assert by_fan_out.std().item() == pytest.approx((2 / layer.out_features) ** 0.5, rel=0.05)
        factor = layer.weight / by_fan_out
        torch.testing.assert_close(factor, factor.mean().expand_as(factor))
    found = model.state_dict()
    assert layers and all(torch.equal(found[key], value) for key, value in as_released.items())


def test_resnet18_has_the_layers_of_the_paper():
    model = resnet18()
    three = [c for c in convolutions(model) if c.kernel_size == (3, 3)]
    shortcuts = [c for c in convolutions(model) if c.kernel_size == (1, 1)]
    assert [c.out_channels for c in three] == [64] * 5 + [128] * 4 + [256] * 4 + [512] * 4
    assert [c.stride[0] for c in three] == [1] * 5 + 3 * [2, 1, 1, 1]
    assert [(c.in_channels, c.out_channels, c.stride[0]) for c in shortcuts] == [
        (64, 128, 2),
        (128, 256, 2),
        (256, 512, 2),
    ]
    assert all(c.bias is None for c in convolutions(model))
    assert kinds(model, nn.BatchNorm2d) == 17 + 3 and kinds(model, nn.MaxPool2d) == 0
    assert (model.fc.in_features, model.fc.out_features) == (512, 10)
    stages = 9 * sum(c * (before + 3 * c) for before, c in ((64, 64), (64, 128), (128, 256), (256, 512)))
    across = 64 * 128 + 128 * 256 + 256 * 512
    normalised = 2 * (64 + 4 * 64 + 5 * (128 + 256 + 512))
    total = 9 * 3 * 64 + stages + across + normalised + 512 * 10 + 10
    assert sum(p.numel() for p in model.parameters()) == total == 11_173_962


@pytest.mark.parametrize(("depth", "total"), [(20, 269_722), (32, 464_154)])
def test_a_thin_resnet_has_the_layers_of_he_and_others(depth, total):
    model = thin_resnet(depth)
    blocks = (depth - 2) // 6
    found = convolutions(model)
    assert {c.kernel_size for c in found} == {(3, 3)} and len(found) == depth - 1
    assert [c.out_channels for c in found] == [16] * (1 + 2 * blocks) + [32] * 2 * blocks + [64] * 2 * blocks
    strides = [c.stride[0] for c in found]
    assert strides.count(2) == 2 and strides[1 + 2 * blocks] == strides[1 + 4 * blocks] == 2
    weights = 9 * (3 * 16 + 16 * 16 * 2 * blocks + 16 * 32 + 32 * 64 + (32**2 + 64**2) * (2 * blocks - 1))
    normalised = 2 * (16 + 2 * blocks * (16 + 32 + 64))
    assert sum(p.numel() for p in model.parameters()) == weights + normalised + 64 * 10 + 10 == total


@pytest.mark.parametrize("width", [0.25, 2.0])
def test_the_width_of_a_thin_resnet_multiplies_its_channels(width):
    full, other = thin_resnet(8), thin_resnet(8, width=width)
    assert [c.out_channels for c in convolutions(other)] == [
        width * c.out_channels for c in convolutions(full)
    ]
    assert other.fc.in_features == 64 * width and other(images()).shape == (2, 10)
    with pytest.raises(ValueError, match="width = 0"):
        thin_resnet(8, width=0)


def test_a_shortcut_without_weights_takes_every_second_pixel_and_adds_channels_of_zeros():
    shortcut = thin_resnet(8).layer2[0].downsample
    x = torch.rand(2, 16, 7, 8, generator=torch.Generator().manual_seed(0))
    y = shortcut(x)
    assert y.shape == (2, 32, 4, 4) and torch.equal(y[:, 8:24], x[..., ::2, ::2])
    assert not y[:, :8].any() and not y[:, 24:].any()


def test_a_thin_resnet_is_seeded_and_leaves_the_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, same, other = (thin_resnet(8, seed=seed).conv.weight for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(before, torch.get_rng_state())


def test_a_block_adds_its_input_to_what_its_convolutions_make_of_it():
    model = resnet18(width=NARROW).eval()
    x = torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    plain, strided = model.layer1[1], model.layer2[0]
    with torch.no_grad():
        inner = plain.bn2(plain.conv2(plain.bn1(plain.conv1(x)).relu()))
        torch.testing.assert_close(plain(x), (inner + x).relu())
        inner = strided.bn2(strided.conv2(strided.bn1(strided.conv1(x)).relu()))
        torch.testing.assert_close(strided(x), (inner + strided.downsample(x)).relu())


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_outputs_are_one_number_a_class(make):
    assert make(7, channels=1, width=NARROW)(images(channels=1)).shape == (2, 7)


@pytest.mark.parametrize("side", [8, 32, 64])
def test_sides_that_three_poolings_halve_are_classified(side):
    model = vgg8(5, side=side, width=NARROW)
    assert model(images(side=side)).shape == (2, 5)
    assert model.fc1.in_features == 32 * (side // 8) ** 2


# --- widths -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [0.125, 0.5, 2.0])
def test_the_width_multiplies_channels_and_hidden_units_and_nothing_else(width):
    for make in NETWORKS.values():
        full, other_width = make(width=1.0), make(width=width)
        for one, other in zip(full.modules(), other_width.modules(), strict=True):
            assert type(one) is type(other)
            if isinstance(one, nn.Conv2d):
                assert other.out_channels == width * one.out_channels
                assert (other.kernel_size, other.stride) == (one.kernel_size, one.stride)
            if isinstance(one, nn.Linear):
                assert other.in_features == width * one.in_features
                assert other.out_features == (10 if one.out_features == 10 else width * one.out_features)
    assert convolutions(vgg8(width=width))[0].in_channels == 3


def test_a_size_is_rounded_and_never_vanishes():
    assert [scaled(64, width) for width in (1.0, 0.3, 0.001)] == [64, 19, 1]


# --- snapshots --------------------------------------------------------------------------------------

PLACES = {
    "vgg8": [(64, 6, 32, 2304), (128, 4, 16, 2048), (256, 3, 8, 2304)],
    "resnet18": [(64, 6, 32, 2304), (64, 6, 32, 2304), (128, 4, 16, 2048), (256, 3, 8, 2304)],
}


@pytest.mark.parametrize("network", PLACES)
def test_snapshots_are_taken_where_the_paper_takes_them(network):
    """Channels, side after pooling, side of the map before it, and inputs of the head, from the input on."""
    places = snapshot_places(network, 1.0)
    assert list(places.values()) == [place[:2] for place in PLACES[network]]
    inputs = [head[2].in_features for head in snapshot_heads(places, 10).values()]
    assert inputs == [place[3] for place in PLACES[network]]


@pytest.mark.parametrize("network", PLACES)
def test_snapshots_see_the_activations_of_their_module_in_the_order_of_the_network(network):
    model = NETWORKS[network](width=NARROW)
    seen = {}
    for name in SNAPSHOTS[network]:
        model.get_submodule(name).register_forward_hook(lambda _, __, y, name=name: seen.update({name: y}))
    model(images())
    places = snapshot_places(network, NARROW)
    assert list(seen) == list(places)
    for features, (channels, _), (_, _, side, _) in zip(
        seen.values(), places.values(), PLACES[network], strict=True
    ):
        assert features.shape == (2, channels, side, side)
        assert features.min() >= 0 and features.max() > 0
    heads = snapshot_heads(places, 10, hidden=8)
    assert all(heads[name](seen[name]).shape == (2, 10) for name in places)


# --- initial weights --------------------------------------------------------------------------------


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_initial_weights_are_kaiming_normal_by_fan_out_and_biases_zero(make):
    layers = [m for m in make(width=0.25).modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    for layer in layers:
        weight = layer.weight.detach()
        fan_out = weight.numel() // weight.shape[1]
        expected = (2 / fan_out) ** 0.5
        assert abs(weight.std() - expected) < 5 * expected / (2 * weight.numel()) ** 0.5
        assert layer.bias is None or not layer.bias.any()
    largest = max((layer.weight.detach() for layer in layers), key=torch.numel)
    kurtosis = largest.pow(4).mean() / largest.square().mean() ** 2
    assert float(kurtosis) == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_the_seed_decides_the_initial_weights_and_the_global_generator_is_left_alone(make):
    states = []
    for torch_seed, seed in ((1, 0), (2, 0), (1, 3)):
        torch.manual_seed(torch_seed)
        before = torch.get_rng_state()
        states.append(make(width=NARROW, seed=seed).state_dict())
        assert torch.equal(torch.get_rng_state(), before)
    one, again, other = states
    weights = [name for name, value in one.items() if value.dim() > 1]
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in weights)


# --- on hardware ------------------------------------------------------------------------------------


@pytest.mark.parametrize("hardware", OFF.values(), ids=OFF)
@pytest.mark.parametrize("network", NETWORKS)
def test_on_hardware_without_effects_they_are_the_digital_network_bit_for_bit(network, hardware):
    model = NETWORKS[network](width=NARROW)
    model(images(8))  # so that BatchNorm has statistics
    chip = fabricate(program(model, hardware), 0)
    assert len(crossbars(chip)) == {"vgg8": 8, "resnet18": 21}[network]
    with torch.no_grad():
        assert torch.equal(chip.eval()(images()), model.eval()(images()))


@pytest.mark.parametrize("network", NETWORKS)
def test_chips_differ_and_gradients_reach_every_parameter(network):
    model = program(NETWORKS[network](width=NARROW), presets("nft-rram1"))
    outputs = [fabricate(model, chip)(images()) for chip in (0, 1)]
    assert not torch.equal(*outputs)
    outputs[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


# --- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: vgg8(0), ["classes", "0", "≥ 1"]),
        (lambda: vgg8(channels=0), ["channels", "0", "≥ 1"]),
        (lambda: vgg8(side=28), ["side = 28", "multiples of 8"]),
        (lambda: vgg8(side=0), ["side = 0", "multiples of 8"]),
        (lambda: vgg8(width=0.0), ["width = 0.0", "0 < width ≤ 4"]),
        (lambda: resnet18(0), ["classes", "0", "≥ 1"]),
        (lambda: resnet18(channels=-1), ["channels", "-1", "≥ 1"]),
        (lambda: resnet18(width=4.1), ["width = 4.1", "0 < width ≤ 4"]),
        (lambda: resnet18(width=float("nan")), ["width = nan"]),
        (lambda: thin_resnet(21), ["depth = 21", "6 n + 2"]),
        (lambda: thin_resnet(2), ["depth = 2", "n ≥ 1"]),
        (lambda: thin_resnet(classes=0), ["classes", "0", "≥ 1"]),
        (lambda: snapshot_places("vgg16", 1.0), ["network = 'vgg16'", "vgg8, resnet18"]),
        (lambda: snapshot_places("vgg8", -1.0), ["width = -1.0"]),
    ],
)
def test_sizes_out_of_range_are_refused_by_name(make, words):
    with pytest.raises(ValueError, match=".*") as error:
        make()
    assert all(word in str(error.value) for word in words)
