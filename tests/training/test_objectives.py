"""The cross-entropy of whatever is classified, and what is no classification."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cimlib import Hardware, fabricate, fit, program
from cimlib.arrays import DoubleArray
from cimlib.networks import mlp
from cimlib.training import CrossEntropy, Objective, Penalised, Replicas, accuracy

N, CLASSES = 6, 4
GENERATOR = torch.Generator().manual_seed(0)


class Given(nn.Module):
    """Outputs that are parameters."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = nn.Parameter(outputs)

    def forward(self, x):
        return self.outputs


def outputs(*shape):
    return torch.randn(*shape, generator=GENERATOR)


def labels(*shape):
    return torch.randint(CLASSES, shape, generator=GENERATOR)


def loss(logits, y):
    return CrossEntropy()(Given(logits), (torch.zeros(len(y), 1), y))


def test_of_one_label_a_sample_it_is_that_of_torch_bit_for_bit():
    logits, y = outputs(N, CLASSES), labels(N)
    assert torch.equal(loss(logits, y), F.cross_entropy(logits, y, reduction="sum") / N)


@pytest.mark.parametrize("positions", [(3,), (CLASSES,), (N,), (3, 2)])
def test_of_sequences_the_classes_are_last_and_positions_are_added(positions):
    """Also where there are as many positions as classes, of which torch takes the second dimension."""
    logits, y = outputs(N, *positions, CLASSES), labels(N, *positions)
    expected = F.cross_entropy(logits.movedim(-1, 1), y, reduction="sum") / N
    torch.testing.assert_close(loss(logits, y), expected)


@pytest.mark.parametrize("positions", [(5, 3), (3, 3), (2, 3, 5)])
def test_of_images_the_classes_are_the_channels_as_in_torch(positions):
    logits, y = outputs(N, CLASSES, *positions), labels(N, *positions)
    torch.testing.assert_close(loss(logits, y), F.cross_entropy(logits, y, reduction="sum") / N)


@pytest.mark.parametrize(
    ("logits", "y", "words"),
    [
        (outputs(N, 1), torch.zeros(N, dtype=torch.long), "classes = 1 .*two or more"),
        (outputs(N, 1, 3, 3), torch.zeros(N, 3, 3, dtype=torch.long), "classes = 1 .*two or more"),
        (outputs(N), labels(N), "shape of the output"),
        (outputs(N, CLASSES), labels(N, 1), r"shape of y = \(6, 1\).*y.squeeze\(1\)"),
        (outputs(N, 3, CLASSES), labels(N * 3), r"shape of y = \(18,\)"),
        (outputs(N, CLASSES, 4, 4), labels(N, 4, 4), "which are which"),
        (outputs(N, CLASSES), labels(N).float(), "dtype of y = torch.float32"),
        (outputs(N, CLASSES), labels(N) - 100, "label = "),
        (outputs(N, CLASSES), labels(N) + CLASSES, "label = .*0 … 3"),
    ],
)
def test_what_is_no_classification_is_refused_by_name_before_training(logits, y, words):
    model, x = Given(logits.clone()), torch.zeros(len(y), 1)
    with pytest.raises(ValueError, match=words):
        fit(model, CrossEntropy(), (x, y), epochs=1, lr=0.1, seed=0)
    assert torch.equal(model.outputs, logits)


def test_accuracy_is_of_all_positions_wherever_the_classes_are():
    logits, y = outputs(N, CLASSES, 5, 3), labels(N, 5, 3)
    expected = 100 * (logits.argmax(1) == y).float().mean(0)
    assert torch.equal(accuracy(Given(logits), torch.zeros(N), y), expected)
    assert torch.equal(accuracy(Given(logits.movedim(1, -1)), torch.zeros(N), y), expected)
    with pytest.raises(ValueError, match=r"shape of y = \(6, 1\)"):  # else each label with every sample
        accuracy(Given(outputs(N, CLASSES)), torch.zeros(N), labels(N, 1))


# --- a penalty on the weights ---------------------------------------------------------------------

BATCH = outputs(N, 4), labels(N)


def test_a_penalty_adds_its_share_of_all_weights_and_of_no_digital_bias():
    model = mlp(4, 5, CLASSES, seed=0).double()
    batch = BATCH[0].double(), BATCH[1]
    weights = [p.detach().numpy() for name, p in model.named_parameters() if name.endswith("weight")]
    plain = CrossEntropy(3.0)(model, batch).item()
    expected = plain + 0.01 * sum(abs(w).sum() for w in weights)
    assert Penalised(CrossEntropy(3.0), 0.01)(model, batch).item() == pytest.approx(expected, rel=1e-12)
    assert torch.equal(Penalised(CrossEntropy(), 0.0)(model, batch), CrossEntropy()(model, batch))


def test_its_gradient_is_the_sign_of_each_weight_times_the_penalty():
    grads = []
    for l1 in (0.0, 0.01):
        model = fabricate(program(mlp(4, CLASSES, bias="row", seed=0), Hardware()), 0)
        Penalised(CrossEntropy(), l1)(model, BATCH).backward()
        (weight,) = model.parameters()
        grads.append(weight.grad)
    torch.testing.assert_close(grads[1] - grads[0], 0.01 * weight.detach().sign(), rtol=0, atol=1e-7)


def test_networks_side_by_side_are_penalised_as_if_alone():
    alone = [mlp(4, CLASSES, bias="row", seed=seed) for seed in (0, 1)]
    x, y = BATCH
    together = Penalised(CrossEntropy(), 0.01)(
        Replicas(alone), (x[:, None].expand(-1, 2, -1), y[:, None].expand(-1, 2))
    )
    torch.testing.assert_close(together, sum(Penalised(CrossEntropy(), 0.01)(one, BATCH) for one in alone))


def test_a_large_penalty_leaves_weights_small():
    sums = []
    for l1 in (0.0, 0.1):
        model = mlp(4, CLASSES, seed=0)
        fit(model, Penalised(CrossEntropy(), l1), BATCH, epochs=200, lr=0.02, seed=0)
        sums.append(float(model[1].weight.detach().abs().sum()))
    assert sums[1] < 0.3 * sums[0]


def test_what_is_penalised_keeps_its_own_ways():
    class Own(Objective):
        def setup(self, model):
            seen.append("setup")

        def parameters(self, model):
            return [model[1].bias]

        def __call__(self, model, batch):
            return CrossEntropy()(model, batch)

        def teardown(self, model):
            seen.append("teardown")

    seen, model = [], mlp(4, CLASSES, seed=0)
    before = model[1].weight.detach().clone()
    fit(model, Penalised(Own(), 0.1), BATCH, epochs=2, lr=0.1, seed=0)
    assert seen == ["setup", "teardown"] and torch.equal(model[1].weight, before)


def test_a_penalty_out_of_range_and_one_on_conductances_are_refused():
    for l1 in (-1e-3, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="l1 = "):
            Penalised(CrossEntropy(), l1)
    hardware = Hardware(array=DoubleArray(w_max=1.0))
    model = fabricate(program(mlp(4, CLASSES, bias="row"), hardware, train="conductance"), 0)
    with pytest.raises(ValueError, match=r"conductance.*whose weights are its parameters"):
        fit(model, Penalised(CrossEntropy(), 1e-3), BATCH, epochs=1, lr=0.1, seed=0)
