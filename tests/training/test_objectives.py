"""The cross-entropy of whatever is classified, and what is no classification."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cimlib import fit
from cimlib.training import CrossEntropy, accuracy

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
