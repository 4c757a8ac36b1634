"""funcnn generate: a run of text writes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_codecs import byte_level

import funcnn as fnn
from funcnn.cli import main
from funcnn.commands.generate import Text
from funcnn.data.codecs import codec_of

POEM = "die rose ist ohne warum, sie blühet, weil sie blühet\n" * 8
TABLE = """
[data]
name = "text"
path = "poem.txt"
options = {{tokens = "{tokens}", length = 8}}
batch_size = 4
[task]
name = "language"
[model]
name = "{model}"
options = {options}
[train]
steps = 2
"""
GPT = "{length = 12, width = 8, depth = 1, heads = 2}"


def command(capsys, *arguments):
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


def trained(place, name, model, options, tokens="characters"):
    (place / "poem.txt").write_text(POEM, encoding="utf-8")
    config = place / f"{name}.toml"
    config.write_text(TABLE.format(model=model, options=options, tokens=tokens))
    assert main(["train", str(config), "--out", str(place / name)]) == 0
    return place / name


@pytest.fixture(scope="module")
def characters(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("characters"), "run", "gpt", GPT)


@pytest.fixture(scope="module")
def of_bytes(tmp_path_factory):
    options = "{width = 5, hidden = [6]}"
    return trained(tmp_path_factory.mktemp("bytes"), "run", "char_rnn", options, "bytes")


def test_it_writes_what_generate_gives(characters, capsys):
    run = fnn.load_run(characters)
    numbers = {token: number for number, token in enumerate(run.known.vocabulary)}
    prompt = jnp.array([[numbers[c] for c in "rose"]])
    options = {"temperature": 2.0, "top_k": 9, "top_p": 0.9}
    tokens = fnn.generate(run.model, run.params, prompt, steps=7, key=jax.random.key(5), **options)
    wanted = "".join(run.known.vocabulary[token] for token in tokens[0].tolist())
    given = ["--prompt", "rose", "--seed", 5, "--temperature", 2, "--top-k", 9, "--top-p", 0.9]
    found = command(capsys, "generate", characters, *given, "--steps", 7)
    assert found == (0, f"{wanted}\n", [])
    code, out, err = command(capsys, "generate", characters, *given, "--steps", 7, "--json")
    assert (code, err, out.count("\n")) == (0, [], 1)
    record = {"prompt": "rose", "text": wanted, "tokens": tokens[0].tolist(), "stopped": False}
    assert json.loads(out) == record


def test_it_writes_as_much_as_there_is_room_for(characters, capsys):
    _, out, _ = command(capsys, "generate", characters, "--prompt", "rose", "--json")
    assert len(json.loads(out)["tokens"]) == 9  # of 12 places, of which the last token needs none
    code, out, err = command(capsys, "generate", characters, "--prompt", "rose", "--steps", 10)
    assert (code, out) == (2, "")
    has = "the prompt has 4 tokens, and the model 12 places"
    assert err == [f"funcnn: --steps 10: {has}: at most 9 can be written"]
    _, _, err = command(capsys, "generate", characters, "--prompt", "rose" * 4)
    has = "the prompt has 16 tokens, and the model 12 places"
    assert err == [f"funcnn: --prompt: {has}: give at most 12 of them"]


def test_a_stop_is_not_written(characters, capsys):
    given = ["generate", characters, "--prompt", "r", "--temperature", 3, "--json"]
    free = json.loads(command(capsys, *given)[1])
    stop = free["text"][4:6]
    found = json.loads(command(capsys, *given, "--stop", stop)[1])
    end = free["text"].index(stop)
    assert found["text"] == free["text"][:end]
    assert found["tokens"] == free["tokens"][: end + 2]
    assert found["stopped"]


def test_a_run_of_bytes_that_carries_a_state(of_bytes, capsys):
    given = ["generate", of_bytes, "--prompt", "blüh", "--json", "--temperature", 0]
    record = json.loads(command(capsys, *given)[1])
    assert len(record["tokens"]) == 200
    assert record["text"] == bytes(record["tokens"]).decode(errors="replace")
    # Bytes that are no text at all come out as well.
    code, out, _ = command(capsys, *given[:-3], "--temperature", 9, "--steps", 20)
    assert (code, out[-1:]) == (0, "\n")


def test_a_run_of_a_tokenizer(tmp_path, capsys):
    path, vocabulary = byte_level(tmp_path)
    options = "{width = 8, depth = 1, heads = 2, hidden = 8}"
    run = trained(tmp_path, "run", "llama", options, path)
    capsys.readouterr()
    given = ["generate", run, "--prompt", "und so", "--steps", 30, "--json"]
    record = json.loads(command(capsys, *given)[1])
    codec = codec_of(vocabulary, path)
    assert record["text"] == "".join(Text(codec, None).pieces(record["tokens"]))
    (tmp_path / "bytes.json").unlink()
    code, _, err = command(capsys, *given)
    assert (code, err) == (2, [f"funcnn: {run}: {path}: no such file"])


def test_what_is_no_prompt(characters, capsys):
    unknown = "'ß' is no token of the training's text"
    for prompt, wrong in (("roße", unknown), ("", "holds no token")):
        code, out, err = command(capsys, "generate", characters, "--prompt", prompt)
        assert (code, out) == (2, "")
        assert len(err) == 1
        assert err[0].startswith(f"funcnn: --prompt: {wrong}")


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        (["--temperature", "-1"], "expected a number from 0, found -1"),
        (["--temperature", "nan"], "expected a number from 0, found nan"),
        (["--top-p", "0"], "expected a number above 0, at most 1, found 0"),
        (["--top-k", "0"], "expected a number from 1, found 0"),
        (["--steps", "0"], "expected a number from 1, found 0"),
    ],
)
def test_options_outside_their_range(characters, capsys, option, wrong):
    code, _, err = command(capsys, "generate", characters, "--prompt", "r", *option)
    assert code == 2
    assert err[-1].endswith(f"argument {option[0]}: {wrong}")


def test_a_run_of_something_else(tmp_path, capsys):
    config = tmp_path / "digits.toml"
    config.write_text('[model]\nname = "mlp"\noptions = {hidden = []}\n[train]\nsteps = 1\n')
    assert main(["train", str(config), "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    code, out, err = command(capsys, "generate", tmp_path / "run", "--prompt", "a")
    assert (code, out) == (2, "")
    has = 'its data have no vocabulary, as those of "text" have'
    assert err == [f"funcnn: {tmp_path / 'run'}: is no run of text: {has}"]
    code, _, err = command(capsys, "generate", tmp_path / "none", "--prompt", "a")
    assert (code, err) == (2, [f"funcnn: {tmp_path / 'none'}: holds no run (no config.toml)"])


def test_what_may_be_the_stop_is_held_back():
    codec = codec_of(tuple("abc"))
    tokens = ["abc".index(c) for c in "abcabababca"]
    text = Text(codec, "ababc")
    assert list(text.pieces(tokens)) == ["abc", "ab"]
    assert (text.written, text.stopped, len(text.tokens)) == ("abcab", True, 10)
    text = Text(codec, "ababc")
    assert "".join(text.pieces(tokens[:9])) == text.written == "abcababab"
    assert not text.stopped
    assert "".join(Text(codec, "").pieces(tokens)) == "abcabababca"
    pieces = list(Text(codec_of((), "bytes"), "x").pieces(np.frombuffer("aä".encode()[:2], "u1")))
    assert pieces == ["a", "\ufffd"]
