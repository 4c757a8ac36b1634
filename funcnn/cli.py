"""The command line. It imports what a command needs inside that command, so that help is fast.

Exit codes: 0 ok, 1 failure, 2 usage or config, 130 and 143 after SIGINT and SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from funcnn.commands.options import (
    bench_options,
    check_options,
    export_options,
    foreign_option,
    generate_options,
    hunt_options,
    init_options,
    plan_options,
    predict_options,
    run_argument,
    run_folder,
    target_options,
    train_options,
    visualize_options,
)
from funcnn.commands.values import path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; no traceback reaches the user.

    >>> main(["--version"])
    funcnn 0.1.0
    0
    """
    from funcnn.commands.streams import open_missing_streams, write_any_text

    open_missing_streams()
    write_any_text()
    parser = _parser()
    try:
        options = parser.parse_args(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    if "command" not in options:
        parser.print_help(sys.stderr)
        return 2
    try:
        return _guarded(options.command, options)
    except BrokenPipeError:
        # Whoever read our output has gone; nothing may be written to it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt as stop:
        terminated = stop.args == ("SIGTERM",)
        print(f"funcnn: {'terminated' if terminated else 'interrupted'}", file=sys.stderr)
        return 143 if terminated else 130


def _guarded(command: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    from funcnn.commands.streams import error_line
    from funcnn.config import ConfigError

    try:
        return command(options)
    except ConfigError as error:
        if options.traceback and error.__cause__ is not None:
            raise
        for problem in error.problems:
            print(f"funcnn: {problem}", file=sys.stderr)
        return 2
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except SystemExit as stop:  # of a foreign module: its exit code, 0 perhaps, is no result
        print(f"funcnn: sys.exit({stop.code!r}) was called: there is no result", file=sys.stderr)
        return 1
    except Exception as error:
        if options.traceback:
            raise
        print(f"funcnn: {error_line(error)}", file=sys.stderr)
        return 1


def _train(options: argparse.Namespace) -> int:
    config = _config(options)
    from funcnn.commands.train import train

    chosen = _given(options, "resume", "strict", "profile")
    return train(config, **chosen, as_json=options.json)


def _eval(options: argparse.Namespace) -> int:
    from funcnn.commands.evaluate import evaluate_run

    return evaluate_run(options.run, foreign=not options.no_foreign_code, as_json=options.json)


def _list(options: argparse.Namespace) -> int:
    from funcnn.commands.checkpoint import list_checkpoints

    return list_checkpoints(options.run, as_json=options.json)


def _verify(options: argparse.Namespace) -> int:
    from funcnn.commands.checkpoint import verify_checkpoints

    return verify_checkpoints(options.run, as_json=options.json)


def _predict(options: argparse.Namespace) -> int:
    from funcnn.commands.predict import predict

    foreign = not options.no_foreign_code
    return predict(
        options.run, options.input, out=options.out, foreign=foreign, as_json=options.json
    )


def _generate(options: argparse.Namespace) -> int:
    from funcnn.commands.generate import generate

    return generate(
        options.run,
        options.prompt,
        steps=options.steps,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        seed=options.seed,
        stop=options.stop,
        foreign=not options.no_foreign_code,
        as_json=options.json,
    )


def _export(options: argparse.Namespace) -> int:
    from funcnn.commands.export import export

    foreign = not options.no_foreign_code
    return export(
        options.run, options.format, out=options.out, foreign=foreign, as_json=options.json
    )


def _init(options: argparse.Namespace) -> int:
    from funcnn.commands.init import init

    return init(options.name, out=options.out, as_json=options.json)


def _plan(options: argparse.Namespace) -> int:
    config = _config(options)
    from funcnn.commands.plan import plan_step

    return plan_step(
        config,
        device=options.device,
        counts=options.count,
        batch_per_device=options.batch_per_device,
        memory=options.memory,
        as_json=options.json,
    )


def _compare(options: argparse.Namespace) -> int:
    from funcnn.commands.gradients import compare_gradients

    return _on_config_or_target(compare_gradients, options)


def _census(options: argparse.Namespace) -> int:
    from funcnn.commands.census import take_census

    return _on_config_or_target(take_census, options)


def _on_config_or_target(command: Callable[..., int], options: argparse.Namespace) -> int:
    from funcnn.commands.gradients import run
    from funcnn.config import ConfigError

    if options.no_foreign_code and options.target is not None:
        raise ConfigError([f"--target {options.target}: --no-foreign-code refuses it"])
    return run(
        command,
        (lambda: _config(options)) if options.config else None,
        options.target,
        options.arguments,
        as_json=options.json,
        html=options.html,
    )


def _check(options: argparse.Namespace) -> int:
    from funcnn.commands.check import check_rules
    from funcnn.commands.compiled import keep_compiled

    keep_compiled(options.cache)
    of_rules = _given(options, "level", "case", "seed", "processes", "strict")
    return check_rules(options.rules, **of_rules, **_of_target(options))


def _hunt(options: argparse.Namespace) -> int:
    from funcnn.commands.compiled import keep_compiled
    from funcnn.commands.hunt import hunt_rules

    keep_compiled(options.cache)
    return hunt_rules(options.rules, **_given(options, "budget", "seed"), **_of_target(options))


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: getattr(options, name) for name in names}


def _of_target(options: argparse.Namespace) -> dict[str, Any]:
    limits = _given(options, "seconds_each", "megabytes")
    return {"as_json": options.json, **_given(options, "target", "arguments", "html"), **limits}


def _bench(options: argparse.Namespace) -> int:
    from funcnn.commands.bench import advise_steps_per_call, bench

    if options.config is not None:
        if options.names:
            from funcnn.config import ConfigError

            raise ConfigError(["bench: give names of benchmarks or --config, not both"])
        return advise_steps_per_call(_config(options), rounds=options.rounds, as_json=options.json)
    return bench(options.names, rounds=options.rounds, out=options.out, as_json=options.json)


def _visualize(options: argparse.Namespace) -> int:
    from funcnn.commands.visualize import visualize

    chosen = _given(options, "out", "images", "image")
    return visualize(
        options.run, foreign=not options.no_foreign_code, as_json=options.json, **chosen
    )


def _doctor(options: argparse.Namespace) -> int:
    from funcnn.commands.doctor import doctor

    return doctor(as_json=options.json)


def _config(options: argparse.Namespace):
    from funcnn.config import load_config
    from funcnn.config.toml import value_text

    out = [f"run.folder={value_text(options.out)}"] if getattr(options, "out", None) else []
    return load_config(options.config, [*options.set, *out], foreign=not options.no_foreign_code)


def _parser() -> argparse.ArgumentParser:
    from funcnn.version import __version__

    parser = argparse.ArgumentParser(
        prog="funcnn",
        description="Backprop that you can read, check and beat.",
        epilog="Exit codes: 0 ok, 1 failure, 2 usage or config, 130/143 after SIGINT/SIGTERM.",
    )
    parser.add_argument("--version", action="version", version=f"funcnn {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], int], text: str, of: Any = commands
    ) -> argparse.ArgumentParser:
        sub = of.add_parser(name, help=text, description=text)
        sub.set_defaults(command=run)
        sub.add_argument("--json", action="store_true", help="results as JSON lines on stdout")
        sub.add_argument("--traceback", action="store_true", help="show the traceback of an error")
        return sub

    def configured(name: str, run: Callable[[argparse.Namespace], int], text: str, **config: Any):
        sub = command(name, run, text)
        config |= {"metavar": "CONFIG", "type": path}
        sub.add_argument("config", help="a TOML file, as in configs/", **config)
        sub.add_argument(
            "--set",
            metavar="TABLE.KEY=VALUE",
            action="append",
            default=[],
            help="change one key of the config: --set train.steps=100; may be repeated",
        )
        foreign_option(sub)
        return sub

    init_options(command("init", _init, "write a commented config; without a name, list them"))
    train_options(configured("train", _train, "train a network, print its test figures"))
    evaluate = command("eval", _eval, "the test figures of a run: its latest or best checkpoint")
    run_argument(evaluate)
    text = "the checkpoints of a run: list them, or verify every file and every leaf"
    checkpoint = commands.add_parser("checkpoint", help=text, description=text)
    actions = checkpoint.add_subparsers(title="actions", metavar="ACTION", required=True)
    run_folder(command("list", _list, "step, size, time and value of each", actions))
    verify = "whether each checkpoint is whole, and what of it is damaged"
    run_folder(command("verify", _verify, verify, actions))
    predict_options(command("predict", _predict, "what a trained run says of further rows"))
    generate_options(command("generate", _generate, "what a model of text writes after a prompt"))
    export_options(command("export", _export, "the model of a run as a file for other programs"))
    visualize_options(command("visualize", _visualize, "pictures of a trained run, as PNG and SVG"))
    plan = "what a training step takes on devices that are not here, and what bounds it"
    plan_options(configured("plan", _plan, plan))
    compare = "the gradient by hand against the automatic one, for each parameter and rule"
    target_options(configured("compare", _compare, compare, nargs="?"))
    census = "every hand-written rule that a program calls: what it keeps, how far off it is"
    target_options(configured("census", _census, census, nargs="?"))
    check = command(
        "check", _check, "is a hand-written gradient right? funcnn's rules, or a function of yours"
    )
    check_options(check)
    target_options(check)
    hunt_options(command("hunt", _hunt, "arguments at which a hand-written gradient is wrong"))
    bench_options(command("bench", _bench, "time and memory beside autodiff and other libraries"))
    command("doctor", _doctor, "versions, devices and settings of this machine")
    return parser
