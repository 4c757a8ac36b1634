"""Read a config, put the overrides in, check it; every problem is one line that says where."""

from __future__ import annotations

import os
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeGuard

from pydantic import ValidationError

from funcnn.config.schema import SETS, Config
from funcnn.config.table import Table
from funcnn.config.text import parse, read_override, read_value, unfit
from funcnn.config.toml import one_line, shortened, shown
from funcnn.names import files, parameters
from funcnn.spelling import did_you_mean, nearest

# An override of one key takes the place of the other: they exclude each other.
RIVALS: dict[tuple[str, ...], str] = {
    **{(table, "name"): "function" for table in ("data", "task", "model", "loss", "optimizer")},
    **{(table, "function"): "name" for table in ("data", "task", "model", "loss", "optimizer")},
    ("optimizer", "learning_rate"): "schedule",
    ("optimizer", "schedule"): "learning_rate",
}


# What other programs call it, and what it is here.
ELSEWHERE = {
    "lr": "optimizer.learning_rate",
    "epochs": "train.steps",
    "batch": "data.batch_size",
    "device": "run.platform",
    "dtype": "train.precision",
    "clip": "optimizer.clip_norm",
    **{name: f"optimizer.options.{name}" for name in ("momentum", "weight_decay", "betas")},
}


class ConfigError(Exception):
    """What is wrong with a config: `problems` holds one line each, `str()` joins them.

    >>> str(ConfigError(['x.toml: unknown key "train.stepps"', "x.toml: missing table [model]"]))
    'x.toml: unknown key "train.stepps"\\nx.toml: missing table [model]'
    """

    def __init__(self, problems: Sequence[str]):
        self.problems = tuple(one_line(problem) for problem in problems)
        super().__init__("\n".join(self.problems))


def check_known(what: str, name: str, names: Sequence[str]) -> None:
    """Raise ConfigError with the nearest of `names` where `name` is none of them.

    >>> check_known("loss.name", "logistics", ["logistic", "squared_error"])
    Traceback (most recent call last):
    funcnn.config.load.ConfigError: loss.name: unknown 'logistics' (did you mean 'logistic'?); ...
    """
    if name not in names:
        hint = did_you_mean(name, names, quote="'")
        raise ConfigError([f"{what}: unknown {name!r}{hint}; known: {', '.join(names) or 'none'}"])


def load_config(path: str | Path, overrides: Sequence[str] = (), *, foreign: bool = True) -> Config:
    """Read, override, check.

    `overrides` are `"table.key=value"`, later ones win; a key is quoted as in TOML where it holds a
    dot, and the value is TOML, or plain text where that fails. An override of `model.function`
    takes the place of the file's `model.name`, and so in the other tables, one of
    `optimizer.schedule` that of `optimizer.learning_rate`, and the other way round. `run.folder` is
    `runs/` and the name of the file where not given, `run.search` the current folder and that of
    the file. Without `foreign` a config that names a function, which would be imported and called,
    is refused. Raises `ConfigError`, one line a problem.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "tiny.toml"
    >>> _ = path.write_text('[model]\\nname = "mlp"')
    >>> config = load_config(path, ["train.steps=20", "model.options.activation=tanh"])
    >>> config.train.steps, config.model.options, config.run.folder
    (20, {'activation': 'tanh'}, 'runs/tiny')
    """
    raw = _read(Path(path))
    problems: list[str] = []
    sources: dict[tuple[str, ...], str] = {}
    for override in overrides:
        _apply(raw, override, sources, problems)
    if isinstance(raw.setdefault("run", {}), dict):
        raw["run"].setdefault("folder", f"runs/{Path(path).stem}")
        here = (os.getcwd(), os.path.dirname(os.path.abspath(path)))
        raw["run"].setdefault("search", list(dict.fromkeys(here)))

    def source(keys: tuple[str, ...]) -> str:
        return [str(path), *(text for at, text in sources.items() if at == keys[: len(at)])][-1]

    wrong = [f"{source(keys)}: {_dotted(keys)}: {problem}" for keys, problem in unfit(raw)]
    if wrong:  # the validation could not even show such a value
        raise ConfigError(problems + wrong)
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            keys = tuple(str(key) for key in detail["loc"])
            problems.append(f"{source(keys)}: {_problem(keys, typing.cast(dict, detail))}")
        raise ConfigError(problems) from None
    if problems:
        raise ConfigError(problems)
    if not foreign and (functions := config.functions()):
        refused = "refused, as foreign code; what has a name here is accepted"
        raise ConfigError(
            [
                f'{source(tuple(key.split(".")))}: {key} = "{path}": {refused}'
                for key, path in functions.items()
            ]
        )
    return config


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = parse(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        if path.is_symlink():
            message = f"is a link to {os.readlink(path)}, which is not there"
            raise ConfigError([f"{path}: {message}"]) from None
        near = nearest(path.name, [p.name for p in path.parent.glob("*.toml")])
        hint = f' (did you mean "{path.parent / near}"?)' if near else ""
        raise ConfigError([f"{path}: no such file{hint}"]) from None
    except IsADirectoryError:
        raise ConfigError([f"{path}: is a folder; a config is one TOML file"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not TOML: byte {error.start} is not UTF-8 text"]) from None
    except ValueError as error:
        raise ConfigError([f"{path}: {error}"]) from None
    if wrong := [f"{path}: {_dotted(keys)}: {problem}" for keys, problem in unfit(raw)]:
        raise ConfigError(wrong)
    if not raw:
        raise ConfigError([f'{path}: is empty; a config needs at least [model] with name = "mlp"'])
    return raw


def _apply(raw: dict, override: str, sources: dict, problems: list[str]) -> None:
    """Put one `a.b=v` into `raw`, or add a line to `problems`; `sources` maps keys to overrides."""
    option = f"--set {shortened(override)}"
    read = read_override(override)
    if read is None:
        problems.append(f'{option}: expected table.key=value, such as "train.steps=100"')
        return
    keys, text = read
    wanted = _schema(keys)
    if wanted is None:
        problems.append(f"{option}: {_unknown(keys, None)}")
        return
    table = raw
    for depth, key in enumerate(keys[:-1], start=1):
        if rival := RIVALS.get(keys[:depth]):
            table.pop(rival, None)
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            if _schema(keys[:depth]) is Any:
                at = _dotted(keys[:depth])
                problems.append(
                    f"{option}: {at} is {shown(table)}, and no table to change a key of"
                )
            return  # else it is a mistake of the file, which the validation reports
    try:
        value = read_value(text, wanted)
    except ValueError as error:
        problems.append(f"{option}: {error}")
        return
    table.pop(RIVALS.get(keys, ""), None)
    table[keys[-1]] = value
    sources.pop(keys, None)
    sources[keys] = option


def _schema(keys: Sequence[str]) -> object:
    """What the schema wants at `keys`: a Table, a type, `Any` in a free table; None: no key."""
    node: Any = Config
    for key in keys:
        if node is Any or typing.get_origin(node) is dict:
            return Any
        if not _is_table(node):
            return None
        if key not in node.model_fields:
            return None
        node = node.model_fields[key].annotation
        if isinstance(node, types.UnionType) or typing.get_origin(node) is typing.Union:
            node = typing.get_args(node)[0]  # `X | None`
        if typing.get_origin(node) is Annotated:
            node = typing.get_args(node)[0]
    return node


def _keys(table: type[Table] = Config, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name in table.model_fields:
        yield (*prefix, name)
        node = _schema((*prefix, name))
        if _is_table(node):
            yield from _keys(node, (*prefix, name))


def _is_table(node: object) -> TypeGuard[type[Table]]:
    return isinstance(node, type) and issubclass(node, Table)


def _problem(keys: tuple[str, ...], detail: dict[str, Any]) -> str:
    """One line for one complaint of pydantic."""
    kind, value, context = detail["type"], shown(detail["input"]), detail.get("ctx", {})
    at = _dotted(keys)
    if kind == "extra_forbidden":
        return _unknown(keys, detail["input"])
    if kind == "missing" and keys == ("model",):
        return 'missing table [model]; it needs name = "mlp" or function = "package.module:build"'
    expected = {
        "missing": "missing; it has no default",
        "check": detail["msg"],
        "bool_type": f"expected true or false, found {value}",
        "int_type": f"expected an integer, found {value}",
        "float_type": f"expected a number, found {value}",
        "finite_number": f"expected a finite number, found {value}",
        "string_type": f"expected a string, found {value}",
        "string_too_short": "must not be empty",
        "dict_type": f"expected a table, found {value}",
        "list_type": f"expected a list, found {value}",
        "model_type": f"expected a table, found {value}",
        "literal_error": f"expected {context.get('expected')}, found {value}".replace("'", '"'),
        "greater_than": f"must be greater than {context.get('gt')}, found {value}",
        "greater_than_equal": f"must be at least {context.get('ge')}, found {value}",
        "less_than": f"must be less than {context.get('lt')}, found {value}",
        "less_than_equal": f"must be at most {context.get('le')}, found {value}",
    }
    if kind == "check_table":
        return detail["msg"]
    return f"{at}: {expected.get(kind, detail['msg'])}"


def _unknown(keys: tuple[str, ...], value: object) -> str:
    tables = [keys[:end] for end in range(1, len(keys)) if _is_table(_schema(keys[:end]))]
    known = [key for key in _keys() if key not in tables]  # the one that it stands in is not meant
    dotted = {".".join(key): key for key in known}
    same = [".".join(key) for key in known if key[-1] == keys[-1]]
    lasts = {key[-1]: ".".join(key) for key in known}
    beside = [key[-1] for key in known if key[:-1] == keys[:-1]]
    # Of keys of one table most letters are the same ones: it is the last part that must be near.
    elsewhere = [name for name, key in dotted.items() if key[:-1] != keys[:-1]]
    near = (
        _option_of_data(keys)
        or ELSEWHERE.get(keys[-1], "")
        or (same[0] if len(same) == 1 else "")
        or ".".join((*keys[:-1], close) if (close := nearest(keys[-1], beside)) else ())
        or nearest(".".join(keys), elsewhere, alike=0.7)
        or lasts.get(nearest(keys[-1], lasts), "")
    )
    siblings = beside or list(Config.model_fields)
    what = "table" if isinstance(value, dict) else "key"
    hint = f'did you mean "{near}"?' if near else f"known: {', '.join(siblings)}"
    return f'unknown {what} "{_dotted(keys)}" ({hint})'


def _option_of_data(keys: tuple[str, ...]) -> str:
    """The key of an option that some data take, where it was looked for among those of [data]."""
    if keys[:-1] != ("data",) or not any(keys[-1] in parameters(SETS, n) for n in files(SETS)):
        return ""
    return f"data.options.{keys[-1]}"


def _dotted(keys: Sequence[str]) -> str:
    return shortened(".".join(keys))
