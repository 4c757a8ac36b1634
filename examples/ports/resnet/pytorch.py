"""A residual network on images, in PyTorch.

ResNet-18 in its form for CIFAR, on scikit-learn's digits, each pixel doubled to 16x16: AdamW
without decay of biases and norms, warm-up and cosine, label smoothing, crops and cutout, clipped
gradients, and a moving average of the params, which is what is evaluated. The network and the
augmentation are written out, as by those who do without torchvision; its ResNet-18 is made for
ImageNet anyway.

python examples/ports/resnet/pytorch.py
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

RUN = Path("runs/ports/resnet_pytorch.pt")
BATCH_SIZE = 64
WIDTH = 16  # of the first stage; 64 in the paper, arXiv:1512.03385
LEARNING_RATE = 2e-3
SAVE_EVERY = 50


class Block(nn.Module):
    """Two convolutions, and the way around them."""

    def __init__(self, inputs: int, features: int, stride: int):
        super().__init__()
        self.conv_1 = nn.Conv2d(inputs, features, 3, stride, padding=1, bias=False)
        self.norm_1 = nn.BatchNorm2d(features)
        self.conv_2 = nn.Conv2d(features, features, 3, padding=1, bias=False)
        self.norm_2 = nn.BatchNorm2d(features)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != features:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, features, 1, stride, bias=False), nn.BatchNorm2d(features)
            )

    def forward(self, x):
        y = F.relu(self.norm_1(self.conv_1(x)))
        y = self.norm_2(self.conv_2(y))
        return F.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    """Eight blocks in four stages: x (B, 1, 16, 16) -> logits (B, 10)."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU()
        )
        blocks, inputs = [], WIDTH
        for factor, stride in [(1, 1), (2, 2), (4, 2), (8, 2)]:
            features = factor * WIDTH
            blocks += [Block(inputs, features, stride), Block(features, features, 1)]
            inputs = features
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(8 * WIDTH, 10)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Augmented(Dataset):
    """Random crops of the padded images, and a square of zeros in each."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor):
        self.images = F.pad(images, (2, 2, 2, 2))
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index: int):
        top, left = torch.randint(0, 5, (2,)).tolist()
        image = self.images[index, :, top : top + 16, left : left + 16].clone()
        top, left = torch.randint(0, 13, (2,)).tolist()
        image[:, top : top + 4, left : left + 4] = 0
        return image, self.labels[index]


def load_data():
    images, labels = load_digits(return_X_y=True)
    images = torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    images = F.interpolate(images, scale_factor=2)  # (1797, 1, 16, 16)
    labels = torch.tensor(labels)
    return train_test_split(images, labels, test_size=360, stratify=labels, random_state=0)


def shuffled(size: int, start: int, steps: int):
    """The rows of each step's batch, from step `start` on."""
    for step in range(start, steps):
        epoch, place = divmod(step, size // BATCH_SIZE)
        order = torch.randperm(size, generator=torch.Generator().manual_seed(epoch))
        yield order[place * BATCH_SIZE :][:BATCH_SIZE].tolist()


def make_optimizer(model: ResNet, steps: int):
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": weights}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, weight_decay=0.05)
    warmup = max(1, steps // 10)

    def factor(step: int) -> float:
        if step < warmup:
            return step / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def train_step(model, optimizer, schedule, average, x, y) -> torch.Tensor:
    loss = F.cross_entropy(model(x), y, label_smoothing=0.1)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    average.update_parameters(model)
    return loss


def main(steps: int = 120) -> float:
    """Train for so many steps, or what is left of them; the accuracy on the test images."""
    torch.manual_seed(0)
    x_train, x_test, y_train, y_test = load_data()
    model = ResNet()
    optimizer, schedule = make_optimizer(model, steps)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.95))
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule, "average": average}

    start = 0
    if RUN.exists():
        saved = torch.load(RUN)
        start = saved["step"]
        torch.set_rng_state(saved["rng"])
        for name, part in parts.items():
            part.load_state_dict(saved[name])
    RUN.parent.mkdir(parents=True, exist_ok=True)

    model.train()
    rows = list(shuffled(len(y_train), start, steps))
    # With a generator of its own the loader leaves the global one, of the crops, alone.
    loader = DataLoader(
        Augmented(x_train, y_train), batch_sampler=rows, generator=torch.Generator()
    )
    for step, (x, y) in enumerate(loader, start + 1):
        loss = train_step(model, optimizer, schedule, average, x, y)
        if step % SAVE_EVERY == 0 or step == steps:
            print(f"step {step:4d}  loss {loss.item():.4f}")
            states = {name: part.state_dict() for name, part in parts.items()}
            torch.save({**states, "step": step, "rng": torch.get_rng_state()}, RUN)

    average.eval()
    with torch.no_grad():
        accuracy = (average(x_test).argmax(-1) == y_test).float().mean().item()
    print(f"test accuracy {accuracy:.4f}")
    return accuracy


if __name__ == "__main__":
    main()
