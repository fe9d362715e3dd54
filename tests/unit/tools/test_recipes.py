"""An image's tag follows from what it is made from, and every image of the repository can be built from its inputs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomllib

from localcluster import base, images, recipes
from localcluster.errors import LocalClusterError
from localcluster.paths import CHECKOUT
from localcluster.recipes import Recipe

RECIPE = Recipe("app", "Dockerfile", ("src",))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "src" / "__pycache__").mkdir(parents=True)
    (tmp_path / "Dockerfile").write_text("FROM x\n")
    (tmp_path / "src" / "app.py").write_text("print(1)\n")
    (tmp_path / "src" / "__pycache__" / "app.pyc").write_text("x")
    (tmp_path / "other.py").write_text("print(2)\n")
    return tmp_path


def test_the_same_inputs_give_the_same_tag(checkout: Path) -> None:
    assert recipes.tag(RECIPE, "base", checkout) == recipes.tag(RECIPE, "base", checkout)
    assert re.fullmatch(r"[0-9a-f]{12}", recipes.tag(RECIPE, "base", checkout))


def test_the_copy_that_is_built_has_the_tag_of_what_was_copied(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy = tmp_path_factory.mktemp("copy")
    recipes.stage(RECIPE, copy, checkout)
    assert recipes.tag(RECIPE, "base", copy) == recipes.tag(RECIPE, "base", checkout)
    assert not (copy / "other.py").exists()
    assert not (copy / "src" / "__pycache__").exists()


def change_content(checkout: Path) -> Recipe:
    (checkout / "src" / "app.py").write_text("print(3)\n")
    return RECIPE


def add_file(checkout: Path) -> Recipe:
    (checkout / "src" / "new.py").touch()
    return RECIPE


def rename_file(checkout: Path) -> Recipe:
    (checkout / "src" / "app.py").rename(checkout / "src" / "main.py")
    return RECIPE


def make_executable(checkout: Path) -> Recipe:
    (checkout / "src" / "app.py").chmod(0o755)
    return RECIPE


def change_dockerfile(checkout: Path) -> Recipe:
    (checkout / "Dockerfile").write_text("FROM y\n")
    return RECIPE


def choose_target(_: Path) -> Recipe:
    return Recipe("app", "Dockerfile", ("src",), "worker")


@pytest.mark.parametrize(
    "change", [change_content, add_file, rename_file, make_executable, change_dockerfile, choose_target]
)
def test_a_change_gives_another_tag(checkout: Path, change: object) -> None:
    before = recipes.tag(RECIPE, "base", checkout)
    assert callable(change)
    assert recipes.tag(change(checkout), "base", checkout) != before


def test_another_base_gives_another_tag(checkout: Path) -> None:
    assert recipes.tag(RECIPE, "base", checkout) != recipes.tag(RECIPE, "newer base", checkout)


@pytest.mark.parametrize("name", ["other.py", "src/__pycache__/app.pyc"])
def test_what_is_no_input_does_not_matter(checkout: Path, name: str) -> None:
    before = recipes.tag(RECIPE, "base", checkout)
    (checkout / name).write_text("changed")
    assert recipes.tag(RECIPE, "base", checkout) == before


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"dockerfile": "D"}, "missing: inputs"),
        ({"dockerfile": "D", "inputs": [], "targets": "x"}, "unknown: targets"),
    ],
)
def test_a_wrong_catalogue_names_the_key(table: dict[str, object], sentence: str) -> None:
    with pytest.raises(LocalClusterError, match=rf"images\.toml, \[app\]: {sentence}"):
        recipes.parse({"app": table})


def test_an_input_that_is_not_there_is_an_error(checkout: Path) -> None:
    with pytest.raises(LocalClusterError, match="there is no docs"):
        recipes.files(Recipe("app", "Dockerfile", ("docs",)), checkout)


@pytest.mark.parametrize("recipe", recipes.read().values(), ids=lambda recipe: recipe.name)
def test_everything_that_a_dockerfile_copies_is_among_its_inputs(recipe: Recipe) -> None:
    context = {str(path) for path in recipes.files(recipe)}
    copied = re.findall(r"^COPY (?!--from)(\S+) \S+$", (CHECKOUT / recipe.dockerfile).read_text(), re.MULTILINE)
    if not recipe.target:  # the root Dockerfile has stages for two images
        for source in copied:
            assert any(path == source or path.startswith(f"{source}/") for path in context), source


def test_every_dockerfile_of_the_repository_is_in_the_catalogue() -> None:
    there = {str(path.relative_to(CHECKOUT)) for path in CHECKOUT.glob("examples/*/Dockerfile")} | {"Dockerfile"}
    assert {recipe.dockerfile for recipe in recipes.read().values()} == there


@pytest.mark.parametrize("distribution", ["operator", "worker"])
def test_the_image_carries_the_version_of_its_distribution(distribution: str) -> None:
    version = tomllib.loads((CHECKOUT / distribution / "pyproject.toml").read_text())["project"]["version"]
    stage = (CHECKOUT / "Dockerfile").read_text().split(f"AS {distribution}\n", 1)[1].split("\nFROM ", 1)[0]
    assert f'org.opencontainers.image.version="{version}"' in stage
    for label in ("title", "licenses", "source"):
        assert f"org.opencontainers.image.{label}=" in stage
    assert "USER 65532:65532" in stage


def test_docker_builds_from_the_copied_context() -> None:
    recipe = Recipe("celeriac-worker", "Dockerfile", ("worker",), "worker")
    assert images.docker_build(recipe, "localhost/celeriac-worker:1", Path("/context")) == [
        "docker",
        "build",
        "--build-arg=BASE_IMAGE=python:3.13-slim-trixie",
        "--target=worker",
        "--file=/context/Dockerfile",
        "--tag=localhost/celeriac-worker:1",
        "/context",
    ]


def test_the_public_base_is_the_dockerfiles_default() -> None:
    assert f"ARG BASE_IMAGE={images.PUBLIC_BASE}\n" in (CHECKOUT / "Dockerfile").read_text()


def test_pip_inside_trusts_the_certificates_that_are_mounted() -> None:
    assert base.pip_configuration({"timeout": "60"}) == (
        "[global]\ncert = /etc/ssl/certs/ca-certificates.crt\ntimeout = 60\n"
    )
