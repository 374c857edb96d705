"""What the plain networks are made of."""

import pytest
import torch

from cimlib.networks import mlp


def test_mlp_widths_and_bias_rows_are_what_they_say():
    plain, row = mlp(4, 8, 3, seed=0), mlp(4, 8, 3, bias="row", seed=0)
    assert [tuple(p.shape) for p in plain.parameters()] == [(8, 4), (8,), (3, 8), (3,)]
    assert [tuple(p.shape) for p in row.parameters()] == [(8, 5), (3, 9)]
    x = torch.randn(2, 4)
    by_hand = torch.relu(x @ row[2].weight[:, :4].T + row[2].weight[:, 4])
    torch.testing.assert_close(row[:4](x), by_hand)
    with pytest.raises(ValueError, match="at least two"):
        mlp(4)
    with pytest.raises(ValueError, match="'rows'"):
        mlp(4, 3, bias="rows")
