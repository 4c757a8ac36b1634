"""What each command takes, for the parser; nothing heavy is imported."""

from __future__ import annotations

import argparse

from funcnn.commands.values import counts, path, positive, seed, share, size, temperature
from funcnn.plan.chips import CHIPS


def bench_options(bench: argparse.ArgumentParser) -> None:
    """What `funcnn bench` takes."""
    bench.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="a benchmark; by default, on a GPU all called large_, elsewhere all others",
    )
    bench.add_argument(
        "--rounds", type=positive, default=15, metavar="N", help="times each is run; 15"
    )
    kept = bench.add_mutually_exclusive_group()
    kept.add_argument("--out", metavar="FILE", help="write the results there, as JSON lines")
    kept.add_argument(
        "--config", metavar="CONFIG", help="instead, recommend its train.steps_per_call"
    )
    foreign_option(bench)
    bench.set_defaults(set=[])


def plan_options(plan: argparse.ArgumentParser) -> None:
    """What `funcnn plan` takes beside a config."""
    plan.add_argument("--device", choices=tuple(CHIPS), default="h200", help="which; h200")
    plan.add_argument(
        "--count", type=counts, default=(1,), metavar="N,N,...", help="how many of it, in all; 1"
    )
    plan.add_argument(
        "--batch-per-device",
        type=positive,
        metavar="B",
        help="rows of a batch on each; by default those of data.batch_size, shared",
    )
    plan.add_argument(
        "--memory", type=size, metavar="GIB", help="of each device; by default all that it has"
    )


def train_options(train: argparse.ArgumentParser) -> None:
    """What `funcnn train` takes beside a config."""
    train.add_argument("--out", metavar="DIR", type=path, help="the folder of the run")
    train.add_argument(
        "--resume", action="store_true", help="continue the run in its folder, or begin it there"
    )
    train.add_argument(
        "--strict",
        action="store_true",
        help="with --resume: refuse a damaged newest checkpoint, and take none before it",
    )
    train.add_argument(
        "--profile", action="store_true", help="trace a few calls of the step, for Perfetto"
    )


def run_argument(sub: argparse.ArgumentParser) -> None:
    """The folder of a run, and whether its functions are refused."""
    run_folder(sub)
    foreign_option(sub)


def run_folder(sub: argparse.ArgumentParser) -> None:
    """The folder of a run."""
    sub.add_argument("run", metavar="RUN", help="the folder that a run was trained in", type=path)


def init_options(init: argparse.ArgumentParser) -> None:
    """What `funcnn init` takes."""
    init.add_argument("name", metavar="NAME", nargs="?", help="of the config")
    init.add_argument("--out", metavar="FILE", type=path, help="where to write it; NAME.toml")


def predict_options(predict: argparse.ArgumentParser) -> None:
    """What `funcnn predict` takes."""
    run_argument(predict)
    predict.add_argument(
        "input",
        metavar="INPUT",
        type=path,
        help="rows: .npy, .npz, or what the data were read from (.csv, an image, a folder of them)",
    )
    predict.add_argument(
        "--out", metavar="FILE", type=path, help="FILE.npy, .csv or .jsonl; else text on stdout"
    )


def generate_options(generate: argparse.ArgumentParser) -> None:
    """What `funcnn generate` takes."""
    run_argument(generate)
    generate.add_argument("--prompt", metavar="TEXT", required=True, help="what to go on from")
    generate.add_argument(
        "--steps", type=positive, metavar="N", help="tokens at most; 200, or as the model has room"
    )
    generate.add_argument(
        "--temperature", type=temperature, default=1.0, metavar="T", help="1; 0 for the likeliest"
    )
    generate.add_argument(
        "--top-k", type=positive, metavar="K", help="draw from so many of the likeliest tokens"
    )
    generate.add_argument(
        "--top-p", type=share, metavar="P", help="draw from the likeliest that have this share"
    )
    generate.add_argument(
        "--seed", type=seed, default=0, metavar="N", help="of the numbers that are drawn; 0"
    )
    generate.add_argument("--stop", metavar="TEXT", help="end where this text would come")


def export_options(export: argparse.ArgumentParser) -> None:
    """What `funcnn export` takes."""
    run_argument(export)
    export.add_argument("--format", choices=("safetensors", "stablehlo", "onnx"), required=True)
    export.add_argument("--out", metavar="FILE", type=path, help="RUN/model.FORMAT")


def foreign_option(sub: argparse.ArgumentParser) -> None:
    """Whether functions that a config names are refused."""
    sub.add_argument(
        "--no-foreign-code",
        action="store_true",
        help="import no function that a config names (model.function): refuse it",
    )


def visualize_options(visualize: argparse.ArgumentParser) -> None:
    """What `funcnn visualize` takes."""
    run_argument(visualize)
    visualize.add_argument(
        "--out", metavar="DIR", type=path, help="where to put them; RUN/pictures"
    )
    choice = visualize.add_mutually_exclusive_group()
    choice.add_argument(
        "--images",
        type=positive,
        default=6,
        metavar="N",
        help="how many test images; 6, at most 12",
    )
    choice.add_argument(
        "--image", metavar="FILE.npy", help="show this image instead, an array (H, W, C)"
    )


def check_options(check: argparse.ArgumentParser) -> None:
    """What `funcnn check` takes beside a target."""
    check.add_argument("rules", metavar="RULE", nargs="*", help="a rule of funcnn; by default all")
    check.add_argument(
        "--level",
        choices=("fast", "full", "release"),
        default="fast",
        help="fast; full adds transformations, precisions, edges; release mutants, cost, a hunt",
    )
    check.add_argument(
        "--strict",
        action="store_true",
        default=None,
        help="what is a NOTE, wrong in another setting alone, fails",
    )
    check.add_argument("--case", metavar="NAME", help="only this case of one rule")
    check.add_argument(
        "--seed", type=seed, default=0, metavar="N", help="of the numbers that are drawn; 0"
    )
    check.add_argument(
        "--processes",
        type=positive,
        metavar="N",
        help="rules checked at once; one a core, at most 8",
    )
    _limits(check)


def hunt_options(hunt: argparse.ArgumentParser) -> None:
    """What `funcnn hunt` takes."""
    hunt.add_argument(
        "rules", metavar="RULE", nargs="*", help="a rule of funcnn, or MODULE:NAME; by default all"
    )
    hunt.add_argument(
        "--budget", type=size, default=20.0, metavar="SECONDS", help="for each rule; 20"
    )
    hunt.add_argument(
        "--seed", type=seed, default=0, metavar="N", help="of the numbers that are drawn; 0"
    )
    _limits(hunt)
    target_options(hunt)


def _limits(sub: argparse.ArgumentParser) -> None:
    """What the gradient of a rule may take, and where what is compiled for it is kept."""
    sub.add_argument(
        "--cache",
        metavar="FOLDER",
        type=path,
        help="keep what is compiled there: a second check takes some 0.6 of the time",
    )
    sub.add_argument(
        "--seconds-each",
        type=size,
        default=30.0,
        metavar="SECONDS",
        help="without a sign that it goes on, after which a rule is stopped; 30",
    )
    sub.add_argument(
        "--megabytes",
        type=size,
        default=2048.0,
        metavar="MB",
        help="of memory that a check may take, by the size of its arguments; 2048",
    )


def target_options(sub: argparse.ArgumentParser) -> None:
    """A function of somebody's own, with its arguments."""
    sub.add_argument("--target", metavar="MODULE:NAME", help="a function of yours, instead")
    sub.add_argument(
        *("--args", "--arguments"),
        dest="arguments",
        metavar="MODULE:NAME",
        help="a function that takes nothing and returns the tuple of the target's arguments",
    )
    sub.add_argument("--html", metavar="FILE", help="write the report there, too, as one page")
