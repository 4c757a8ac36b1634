"""funcnn generate: what the model of a run writes after a prompt."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator

import jax
import numpy as np

from funcnn.commands.platform import choose_platform
from funcnn.commands.streams import warn
from funcnn.config import ConfigError
from funcnn.core.caching import most_places
from funcnn.core.errors import first_line
from funcnn.data.codecs import Codec, codec_of
from funcnn.data.dataset import DataError
from funcnn.generation.writing import generate_stream
from funcnn.runs.folder import RunFolder
from funcnn.runs.loaded import LoadedRun, loaded_from

STEPS = 200  # where nothing else is asked for, and there are places for it


def generate(
    run: str,
    prompt: str,
    *,
    steps: int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    stop: str | None = None,
    foreign: bool = True,
    as_json: bool = False,
) -> int:
    """Write what follows a prompt to stdout, token by token.

    Args:
        run: the folder of the run, of a model of text.
        prompt: the text to go on from; it is not written again.
        steps: how many tokens at most; None for 200, or for as many as the model has places for.
        temperature, top_k, top_p: as in `fnn.generate`.
        seed: of the numbers that are drawn.
        stop: a text at which writing ends, and which is not written.
        foreign: whether a function that the config of the run names may be imported.
        as_json: one JSON line, when it is done.

    Raises:
        ConfigError: no such run, it is none of text, or the prompt holds what is no token.
    """
    folder = RunFolder(run)
    choose_platform(folder.read(foreign=foreign).run.platform)
    loaded = loaded_from(folder, warn, foreign=foreign)
    codec = _codec(loaded, run)
    tokens = _encoded(codec, prompt)
    steps = _steps(loaded, len(tokens), steps)
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    key = jax.random.key(seed)
    try:
        stream = generate_stream(
            loaded.model, loaded.params, tokens[None], steps=steps, key=key, **options
        )
    except (TypeError, ValueError) as error:
        raise ConfigError([f"{run}: {first_line(error)}"]) from error
    text = Text(codec, stop)
    for piece in text.pieces(int(token[0]) for token in stream):
        if not as_json:
            print(piece, end="", flush=True)
    if as_json:
        found = {"prompt": prompt, "text": text.written, "tokens": text.tokens}
        print(json.dumps({**found, "stopped": text.stopped}))
    else:
        print()
    return 0


def _codec(loaded: LoadedRun, run: str) -> Codec:
    chosen, vocabulary = loaded.config.data, loaded.known.vocabulary
    if not vocabulary:
        raise ConfigError(
            [f'{run}: is no run of text: its data have no vocabulary, as those of "text" have']
        )
    tokens = chosen.options.get("tokens", "characters") if chosen.name == "text" else "characters"
    try:
        return codec_of(vocabulary, str(tokens))
    except DataError as error:
        raise ConfigError([f"{run}: {error}"]) from error


def _encoded(codec: Codec, prompt: str) -> np.ndarray:
    try:
        tokens = codec.encode(prompt)
    except DataError as error:
        raise ConfigError([f"--prompt: {error}"]) from error
    if not tokens.size:
        raise ConfigError(["--prompt: holds no token; give a text to go on from"])
    return tokens


def _steps(loaded: LoadedRun, given: int, steps: int | None) -> int:
    """How many tokens are written; the last one needs no place, since nothing follows it."""
    most = most_places(loaded.model, loaded.params)
    room = STEPS if most is None else most - given + 1
    if most is not None and room < (steps or 1):
        message = f"the prompt has {given} tokens, and the model {most} places"
        cure = f"at most {room} can be written" if room > 0 else f"give at most {most} of them"
        raise ConfigError([f"{f'--steps {steps}' if room > 0 else '--prompt'}: {message}: {cure}"])
    return steps or min(STEPS, room)


class Text:
    """Tokens as the text that they are, up to where a stop begins.

    Attributes:
        written: the text up to now.
        tokens: all that have come, those of the stop too.
        stopped: whether the stop has come.

    >>> text = Text(codec_of(("a", "b", "c")), "bc")
    >>> list(text.pieces([1, 0, 1, 1, 2, 0])), text.written, text.stopped
    (['ba', 'b'], 'bab', True)
    """

    def __init__(self, codec: Codec, stop: str | None):
        self._writer, self._stop = codec.writer(), stop
        self.written, self.tokens, self.stopped = "", [], False

    def pieces(self, tokens: Iterable[int]) -> Iterator[str]:
        """The text as it becomes certain; what may be the beginning of the stop is held back."""
        held = ""
        for token in tokens:
            self.tokens.append(token)
            held = yield from self._certain(held + self._writer.add(token))
            if self.stopped:
                return
        held = yield from self._certain(held + self._writer.end())
        if held and not self.stopped:
            yield self._wrote(held)

    def _certain(self, text: str) -> Generator[str, None, str]:
        """What of a text cannot be of the stop; the rest is returned."""
        stop = self._stop
        if stop and stop in text:
            self.stopped = True
            text, held = text[: text.index(stop)], ""
        else:
            held = _beginning(stop, text) if stop else ""
            text = text[: len(text) - len(held)]
        if text:
            yield self._wrote(text)
        return held

    def _wrote(self, text: str) -> str:
        self.written += text
        return text


def _beginning(stop: str, text: str) -> str:
    """The longest end of a text with which the stop may begin.

    >>> _beginning("bcb", "abcb"), _beginning("bcd", "abc")
    ('b', 'bc')
    """
    ends = (stop[:n] for n in range(len(stop) - 1, 0, -1))
    return next((end for end in ends if text.endswith(end)), "")
