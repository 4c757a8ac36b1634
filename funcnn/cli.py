"""The command line. It imports what a command needs inside that command, so that help is fast.

Exit codes: 0 ok, 1 failure, 2 usage or config, 130 and 143 after SIGINT and SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; no traceback reaches the user.

    >>> main(["--version"])
    funcnn 0.1.0
    0
    """
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    try:
        return _guarded(options.command, options)
    except BrokenPipeError:
        # Whoever read our output has gone; nothing may be written to it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("funcnn: interrupted", file=sys.stderr)
        return 130


def _guarded(command: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    from funcnn.config import ConfigError

    try:
        return command(options)
    except ConfigError as error:
        for problem in error.problems:
            print(f"funcnn: {problem}", file=sys.stderr)
        return 2
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except Exception as error:
        if options.traceback:
            raise
        print(f"funcnn: {_one_line(error)}", file=sys.stderr)
        return 1


def _one_line(error: Exception) -> str:
    """The message of an error that says what is wrong by itself; else its kind too."""
    text = " ".join(str(error).split())
    ours = type(error).__module__.startswith("funcnn.") or isinstance(error, OSError)
    if ours and text:
        return text
    return f"{type(error).__name__}: {text[:300]} (--traceback shows where)"


def _train(options: argparse.Namespace) -> int:
    config = _config(options)
    from funcnn.commands.train import train

    return train(config, resume=options.resume, as_json=options.json)


def _eval(options: argparse.Namespace) -> int:
    from funcnn.commands.train import evaluate_run

    return evaluate_run(options.run, as_json=options.json)


def _compare(options: argparse.Namespace) -> int:
    config = _config(options)
    from funcnn.commands.gradients import compare_config

    return compare_config(config, as_json=options.json)


def _check(options: argparse.Namespace) -> int:
    from funcnn.commands.gradients import check_rules

    return check_rules(options.rules, level=options.level, as_json=options.json)


def _doctor(options: argparse.Namespace) -> int:
    from funcnn.commands.doctor import doctor

    return doctor(as_json=options.json)


def _config(options: argparse.Namespace):
    from funcnn.config import load_config

    out = getattr(options, "out", None)
    return load_config(options.config, [*options.set, *([f"run.folder={out}"] if out else [])])


def _parser() -> argparse.ArgumentParser:
    from funcnn import __version__

    parser = argparse.ArgumentParser(
        prog="funcnn",
        description="Backprop that you can read, check and beat.",
        epilog="Exit codes: 0 ok, 1 failure, 2 usage or config, 130/143 after SIGINT/SIGTERM.",
    )
    parser.add_argument("--version", action="version", version=f"funcnn {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str):
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=run)
        sub.add_argument("--json", action="store_true", help="results as JSON on stdout")
        sub.add_argument("--traceback", action="store_true", help="show where an error arose")
        return sub

    def configured(name: str, run: Callable[[argparse.Namespace], int], text: str):
        sub = command(name, run, text)
        sub.add_argument("config", metavar="CONFIG", help="a TOML file, as those in configs/")
        sub.add_argument(
            "--set", metavar="a.b=v", action="append", default=[], help="override one key"
        )
        return sub

    train = configured("train", _train, "train a network, print its test accuracy")
    train.add_argument("--out", metavar="DIR", help="the run folder, in place of run.folder")
    train.add_argument("--resume", action="store_true", help="continue the run in its folder")
    evaluate = command("eval", _eval, "the test accuracy of the latest checkpoint of a run")
    evaluate.add_argument("run", metavar="RUN", help="a run folder")
    configured("compare", _compare, "hand-derived against automatic gradient, leaf by leaf")
    check = command("check", _check, "check hand-derived rules against independent derivatives")
    check.add_argument("rules", metavar="RULE", nargs="*", help="by default all")
    check.add_argument("--level", choices=("fast", "full"), default="fast")
    command("doctor", _doctor, "versions, devices and settings of this machine")
    return parser
