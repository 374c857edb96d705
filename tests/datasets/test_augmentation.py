"""What random crops and flips must be."""

import pytest
import torch
from torch.nn import functional as F

from cimlib.datasets import crop_and_flip

N, MARGIN = 600, 2


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def x():
    """Images that are wider than high, no two pixels of which are equal."""
    return 1 + torch.rand(N, 3, 5, 7, generator=generator(9))


def places(x, cropped, margin):
    """For each crop, where it was cut out, (top, left), and whether it is mirrored."""
    _, _, height, width = x.shape
    padded = F.pad(x, (margin,) * 4)
    found = []
    for image, crop in zip(padded, cropped, strict=True):
        found.append(
            [
                (top, left, mirrored)
                for top in range(2 * margin + 1)
                for left in range(2 * margin + 1)
                for mirrored in (False, True)
                for window in [image[:, top : top + height, left : left + width]]
                if torch.equal(crop, window.flip(2) if mirrored else window)
            ]
        )
    return found


@pytest.fixture(scope="module")
def found(x):
    return places(x, crop_and_flip(x, generator(), MARGIN), MARGIN)


def test_every_crop_is_one_window_of_its_own_padded_image_or_its_mirror_image(found):
    assert [len(here) for here in found] == [1] * N


def test_offsets_cover_everything_from_none_to_twice_the_margin_evenly(found):
    offsets = [(top, left) for [(top, left, _)] in found]
    counts = [offsets.count((top, left)) for top in range(5) for left in range(5)]
    expected = N / 25
    assert sum((count - expected) ** 2 / expected for count in counts) < 51.2  # χ², 24 degrees, 0.1 %


def test_half_of_the_images_are_mirrored_whatever_their_offset(found):
    mirrored = [mirrored for [(_, _, mirrored)] in found]
    left = [mirrored for [(_, left, mirrored)] in found if left < MARGIN]
    assert abs(sum(mirrored) - N / 2) < 4 * (N / 4) ** 0.5
    assert abs(sum(left) - len(left) / 2) < 4 * (len(left) / 4) ** 0.5


def test_without_a_margin_images_are_themselves_or_mirrored(x):
    found = places(x[:50], crop_and_flip(x[:50], generator(), 0), 0)
    assert all(len(here) == 1 for here in found)
    assert len({here[0][2] for here in found}) == 2


def test_the_margin_is_four_unless_another_is_given(x):
    assert torch.equal(crop_and_flip(x, generator()), crop_and_flip(x, generator(), 4))


def test_the_generator_decides_and_goes_on(x):
    one = generator()
    first, second = crop_and_flip(x, one), crop_and_flip(x, one)
    assert torch.equal(first, crop_and_flip(x, generator()))
    assert not torch.equal(first, second)
    assert not torch.equal(first, crop_and_flip(x, generator(1)))


def test_the_images_and_the_global_generator_are_left_alone(x):
    before, state = x.clone(), torch.get_rng_state()
    cropped = crop_and_flip(x, generator())
    assert torch.equal(x, before) and torch.equal(torch.get_rng_state(), state)
    assert cropped.shape == x.shape and cropped.dtype == x.dtype


def test_the_layout_of_the_memory_makes_no_difference(x):
    nhwc = x.to(memory_format=torch.channels_last)
    assert torch.equal(crop_and_flip(nhwc, generator()), crop_and_flip(x, generator()))
