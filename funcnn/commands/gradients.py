"""funcnn compare and funcnn check."""

from __future__ import annotations

import dataclasses
import difflib
import json
import sys
from collections.abc import Sequence

import jax

from funcnn.commands.platform import choose_platform
from funcnn.config import Config, ConfigError
from funcnn.experiment import build_experiment
from funcnn.gradient.check import check
from funcnn.gradient.compare import compare
from funcnn.rules import registered_rules


def compare_config(config: Config, *, as_json: bool = False) -> int:
    """Manual against automatic gradient of a config's loss on its first batch. 1 where wrong."""
    device = choose_platform(config.run.platform)
    experiment = build_experiment(config)
    batch = jax.tree.map(jax.numpy.asarray, experiment.batches()(0))
    key = jax.random.key(config.run.seed)
    report = compare(experiment.loss, experiment.params, batch, key, has_aux=True)
    if as_json:
        for row in report.rows:
            print(json.dumps(dataclasses.asdict(row)))
        print(str(report).splitlines()[-1], file=sys.stderr)
    else:
        print(f"gradient of {experiment.dataset.name}, {len(batch['y'])} images, on {device}")
        print(report)
    return 0 if report.ok else 1


def check_rules(names: Sequence[str], *, level: str, as_json: bool = False) -> int:
    """Check registered rules, all of them where none is named. 1 where one is wrong."""
    rules = registered_rules()
    for name in names:
        if name not in rules:
            near = difflib.get_close_matches(name, rules, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ConfigError([f"check: unknown rule {name}{hint}; known: {', '.join(rules)}"])
    wrong = []
    for name in names or rules:
        report = check(rules[name], level=level)
        if as_json:
            for result in report.results:
                print(json.dumps(dataclasses.asdict(result)))
        else:
            print(report, flush=True)
        wrong += [] if report.ok else [name]
    if wrong:
        print(f"wrong or not compared: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0
