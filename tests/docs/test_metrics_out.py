"""The recipes for packages that are not installed here: their syntax, and that they are writers."""

import ast
import re
from pathlib import Path

import pytest

from funcnn.train import MetricsWriter

PAGE = (Path(__file__).parents[2] / "docs/metrics_out.md").read_text("utf-8")
RECIPES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ASKED = {"rewind": ["self", "step"], "write": ["self", "record"], "close": ["self"]}


def takes(recipe):
    """{method: names of its arguments} of the one class of a recipe, but for `__init__`."""
    (made,) = [node for node in ast.parse(recipe).body if isinstance(node, ast.ClassDef)]
    methods = [node for node in made.body if isinstance(node, ast.FunctionDef)]
    found = {method.name: [a.arg for a in method.args.args] for method in methods}
    found.pop("__init__")
    return found


def test_the_recipes_are_those_of_the_page():
    assert [re.search(r"^import (\w+)$", recipe, re.M)[1] for recipe in RECIPES] == [  # pyright: ignore
        "wandb",
        "mlflow",
        "aim",
    ]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.split()[1])
def test_a_recipe_is_a_metrics_writer(recipe):
    assert takes(recipe) == ASKED
    made = type("Made", (), dict.fromkeys(takes(recipe), lambda *_: None))
    assert isinstance(made(), MetricsWriter)


def test_a_recipe_that_lacks_a_method_is_noticed():
    assert takes(RECIPES[0].replace("def rewind(", "def go_back(")) != ASKED
