"""Where each public name of funcnn lives, and which of them a documentation leaves out."""

import inspect
from typing import Any

import funcnn as fnn

HOMES = {
    "": fnn,
    "rules": fnn.rules,
    "models": fnn.models,
    "augment": fnn.augment,
    "data": fnn.data,
    "task": fnn.task,
    "train": fnn.train,
    "testing": fnn.testing,
}


def missing(places: Any) -> list[str]:
    """The rules and the public names that stand on no page."""
    names = [
        f"{home}.{name}".lstrip(".")
        for home, module in HOMES.items()
        for name in module.__all__
        if not (inspect.ismodule(value := getattr(module, name)) or isinstance(value, fnn.Rule))
    ]
    ours = [name for name in fnn.registered_rules() if "." not in name]
    return [f"the rule {n}" for n in ours if ("rule", n) not in places] + [
        f"fnn.{n}" for n in names if ("api", n) not in places
    ]
