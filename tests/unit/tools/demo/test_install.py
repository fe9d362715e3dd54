"""What is applied is the examples' own files, with the images that were built."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo import install

ROOT = Path(install.__file__).resolve().parents[2]


def test_an_image_of_the_examples_is_replaced_by_the_one_that_was_built():
    text = "image: localhost/celeriac-demo-shop:dev # the shop"
    assert install.render(text, {"celeriac-demo-shop": "localhost/shop:abc"}) == "image: localhost/shop:abc # the shop"


def test_an_image_that_was_not_built_is_named():
    with pytest.raises(install.SetUpError, match="celeriac-demo-shop"):
        install.render("image: localhost/celeriac-demo-shop:dev", {"other": "x"})


@pytest.mark.parametrize("name", install.MANIFESTS)
def test_every_manifest_names_only_images_that_the_demo_builds(name):
    text = (ROOT / "examples" / name).read_text()
    rendered = install.render(text, {image: f"built/{image}:1" for image in install.DEMO_IMAGES})
    assert "localhost/" not in rendered
