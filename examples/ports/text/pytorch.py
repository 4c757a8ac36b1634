"""A character model, in PyTorch.

The sources of Python's standard library, read by two GRU layers in 16 streams. Truncated
backpropagation through time: each window of 64 goes on from where the one before it has left off;
at the beginning of a stream the carries are zero. The figure is bits a character of the last fifth
of the text, which depends on the version of Python whose sources are read.

python examples/ports/text/pytorch.py
"""

import math
import sysconfig
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

RUN = Path("runs/ports/text_pytorch.pt")
CHARACTERS, STREAMS, WINDOW = 200_000, 16, 64
EMBEDDING, LAYERS = 64, (128, 192)
SAVE_EVERY = 200


class CharacterModel(nn.Module):
    """Ids (B, T) and carries -> logits (B, T, classes) and the carries after them."""

    def __init__(self, classes: int):
        super().__init__()
        self.embed = nn.Embedding(classes, EMBEDDING)
        inputs = (EMBEDDING, *LAYERS)
        self.layers = nn.ModuleList(
            nn.GRU(*sizes, batch_first=True) for sizes in zip(inputs, LAYERS, strict=False)
        )
        self.head = nn.Linear(LAYERS[-1], classes)

    def forward(self, ids, carries):
        x, after = self.embed(ids), []
        for layer, carry in zip(self.layers, carries, strict=True):
            x, carry = layer(x, carry)
            after.append(carry.detach())
        return self.head(x), after


def load_text():
    """Ids of the first four fifths of the text and of the last, and how many there are."""
    folder = Path(sysconfig.get_path("stdlib"))
    files = sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))
    text = "".join(path.read_text(encoding="utf-8") for path in files)[:CHARACTERS]
    numbers = {character: number for number, character in enumerate(sorted(set(text)))}
    ids = torch.tensor([numbers[character] for character in text])
    train, test = ids.tensor_split([CHARACTERS * 4 // 5])
    return train, test, len(numbers)


def windows(ids: torch.Tensor) -> torch.Tensor:
    """One window and the character after it for each stream: (number, streams, window + 1)."""
    length = len(ids) // STREAMS
    streams = ids[: STREAMS * length].reshape(STREAMS, length)
    return streams.unfold(1, WINDOW + 1, WINDOW).transpose(0, 1)


def fresh_carries():
    return [torch.zeros(1, STREAMS, size) for size in LAYERS]


def loss_fn(model: CharacterModel, carries, window):
    """Nats a character, and the carries."""
    logits, carries = model(window[:, :-1], carries)
    return F.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten()), carries


@torch.no_grad()
def evaluate(model: CharacterModel, test: torch.Tensor) -> float:
    """Bits a character."""
    carries, losses = fresh_carries(), []
    for window in windows(test):
        loss, carries = loss_fn(model, carries, window)
        losses.append(loss.item())
    return sum(losses) / len(losses) / math.log(2)


def main(steps: int = 800) -> float:
    """Train for so many steps, or what is left of them; bits a character of the test text."""
    torch.manual_seed(0)
    train, test, classes = load_text()
    batches = windows(train)
    model = CharacterModel(classes)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    carries = fresh_carries()

    start = 0
    if RUN.exists():
        saved = torch.load(RUN)
        start, carries = saved["step"], saved["carries"]
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    RUN.parent.mkdir(parents=True, exist_ok=True)

    for step in range(start, steps):
        place = step % len(batches)
        if place == 0:
            carries = fresh_carries()
        loss, carries = loss_fn(model, carries, batches[place])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            print(f"step {step + 1:4d}  loss {loss.item():.4f}")
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "carries": carries, "step": step + 1}, RUN)

    bits = evaluate(model, test)
    print(f"test text {bits:.4f} bits a character")
    return bits


if __name__ == "__main__":
    main()
