"""A wheel of each distribution contains the licence and describes the package."""

from __future__ import annotations

import subprocess
import sys
import zipfile

import pytest

from localcluster.paths import CHECKOUT

PACKAGES = ("operator", "worker")


@pytest.mark.parametrize("package", PACKAGES)
def test_a_wheel_has_the_licence_and_describes_the_package(package, tmp_path) -> None:
    # As the image builds it: hatchling alone, without a network.
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=CHECKOUT / package, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (licence,) = [name for name in names if name.endswith("dist-info/licenses/LICENSE")]
        assert archive.read(licence) == (CHECKOUT / "LICENSE").read_bytes()
        (metadata,) = [name for name in names if name.endswith("dist-info/METADATA")]
        text = archive.read(metadata).decode()
    assert "License-Expression: Apache-2.0" in text
    assert (CHECKOUT / package / "README.md").read_text() in text
