"""Where ngspice is there, it is asked."""

import shutil

import pytest


@pytest.fixture(scope="session")
def live():
    """Whether ngspice is there to be asked."""
    found = shutil.which("ngspice") is not None
    print("compared with ngspice itself" if found else "ngspice is not installed: committed values used")
    return found
