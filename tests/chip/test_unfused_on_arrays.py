"""Attention and recurrence in crossbar arrays: every weight of an unfused network is in one."""

import pytest
import torch
from fused import drawn, linears
from torch import nn
from torchvision.models import VisionTransformer, swin_t, swin_v2_t

from cimlib.chip import Hardware, crossbars, fabricate, program
from cimlib.devices import Device, Gaussian
from cimlib.networks import unfused


class Pooled(nn.Module):
    """A recurrent network or an encoder, and the classes of the mean over its positions."""

    def __init__(self, inner, width):
        super().__init__()
        self.inner, self.classes = inner, nn.Linear(width, 3)

    def forward(self, x):
        y = self.inner(x)
        return self.classes((y[0] if isinstance(y, tuple) else y).mean(1))


def encoder(batch_first=True):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)
    inner = nn.TransformerEncoder(layer, 2, enable_nested_tensor=batch_first)
    return Pooled(inner, 8), drawn(3, 5, 8, dtype=torch.float32)


def image(side):
    return drawn(1, 3, side, side, dtype=torch.float32)


NETWORKS = {
    "encoder": encoder,
    "encoder, length first": lambda: encoder(batch_first=False),
    "lstm": lambda: (Pooled(nn.LSTM(8, 6, 2, bidirectional=True, batch_first=True), 12), encoder()[1]),
    "lstm with projections": lambda: (Pooled(nn.LSTM(8, 6, proj_size=4, batch_first=True), 4), encoder()[1]),
    "gru": lambda: (Pooled(nn.GRU(8, 6, batch_first=True), 6), encoder()[1]),
    "rnn": lambda: (Pooled(nn.RNN(8, 6, batch_first=True), 6), encoder()[1]),
    "vision transformer": lambda: (VisionTransformer(32, 16, 2, 4, 16, 32, num_classes=5), image(32)),
    "swin": lambda: (swin_t(weights=None, num_classes=5), image(32)),
    "swin v2": lambda: (swin_v2_t(weights=None, num_classes=5), image(32)),
}
ERRONEOUS = Hardware(device=Device(Gaussian(0.3)))


def made(name):
    torch.manual_seed(0)
    plain, x = NETWORKS[name]()
    for p in plain.parameters():
        if p.dim() == 2:  # torchvision has a head begin at zero
            nn.init.normal_(p, std=0.2)
    return plain.eval(), x


@pytest.mark.parametrize("name", sorted(NETWORKS))
@torch.no_grad()
def test_on_ideal_hardware_an_unfused_network_is_the_digital_one_bit_for_bit(name):
    plain, x = made(name)
    digital = unfused(plain)
    chip = fabricate(program(digital, Hardware()), 0)
    assert torch.equal(chip(x), digital(x))
    assert {layer.name for layer in crossbars(chip)} >= linears(digital)


@pytest.mark.parametrize("name", sorted(NETWORKS))
@torch.no_grad()
def test_errors_of_every_single_array_reach_the_output_in_evaluation_without_gradients(name):
    plain, x = made(name)
    digital = unfused(plain)
    expected = digital(x)
    layers = sorted(linears(digital))
    some = layers if len(layers) < 20 else layers[:: len(layers) // 5]
    for layer in some:
        chip = fabricate(program(digital, ERRONEOUS, layers=[layer]), 0)
        assert not torch.allclose(chip(x), expected, rtol=1e-4, atol=1e-6), layer


@torch.no_grad()
def test_errors_reach_a_padded_batch_in_evaluation_without_gradients_and_padding_stays_zero():
    plain, x = made("encoder")
    padding = torch.zeros(3, 5, dtype=torch.bool)
    padding[0, 3:] = True
    digital = unfused(plain.inner)
    expected = digital(x, src_key_padding_mask=padding)
    for layer in sorted(linears(digital)):
        found = fabricate(program(digital, ERRONEOUS, layers=[layer]), 0)(x, src_key_padding_mask=padding)
        assert not torch.allclose(found, expected, rtol=1e-4, atol=1e-6), layer
        assert torch.equal(found == 0, padding[..., None].expand_as(found))


@pytest.mark.parametrize("name", ["encoder", "lstm", "gru"])
def test_gradients_on_ideal_hardware_are_the_digital_ones(name):
    plain, x = made(name)
    digital = unfused(plain)
    chip = fabricate(program(digital, Hardware()), 0)
    for model in (digital, chip):
        model(x).square().sum().backward()
    found, expected = ({n: p.grad for n, p in model.named_parameters()} for model in (chip, digital))
    torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_every_step_in_time_is_computed_by_the_same_chip():
    lstm = unfused(nn.LSTM(8, 6, 2, batch_first=True))
    chip, x = fabricate(program(lstm, ERRONEOUS), 3), drawn(3, 5, 8, dtype=torch.float32)
    state, steps = None, []
    for step in x.split(1, 1):
        y, state = chip(step, state)
        steps.append(y)
    torch.testing.assert_close(chip(x)[0], torch.cat(steps, 1))
    assert not torch.allclose(chip(x)[0], lstm(x)[0], atol=1e-3)
