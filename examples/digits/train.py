"""train.py -- trains a small CNN on scikit-learn's digits and writes every shipped file here.

    python train.py [--epochs N] [--out DIR]

Needs torch (2.13, CPU), onnx, numpy and scikit-learn, which carries the data (1,797 images of
8 x 8, from the UCI repository, CC BY 4.0). One thread and fixed seeds.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

WIDTH = 32


def conv_bn(inputs, outputs, kernel, groups=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Digits(nn.Module):
    """Stem, residual block, max pool, depthwise-separable block, average pool and a linear head."""

    def __init__(self):
        super().__init__()
        self.stem = conv_bn(1, WIDTH, 3)
        self.first = conv_bn(WIDTH, WIDTH, 3)
        self.second = conv_bn(WIDTH, WIDTH, 3)
        self.depthwise = conv_bn(WIDTH, WIDTH, 3, groups=WIDTH)
        self.pointwise = conv_bn(WIDTH, 2 * WIDTH, 1)
        self.pool = nn.MaxPool2d(2)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(2 * WIDTH, 10)

    def forward(self, image):
        x = torch.relu(self.stem(image))
        x = torch.relu(x + self.second(torch.relu(self.first(x))))
        x = self.pool(x)
        x = torch.relu(self.pointwise(torch.relu(self.depthwise(x))))
        return self.head(torch.flatten(self.average(x), 1))


def shifted(images, generator):
    """Each image of [n, 1, 8, 8] moved by up to one pixel both ways."""
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    moves = torch.randint(0, 3, (len(images), 2), generator=generator).tolist()
    return torch.stack([padded[i, :, y : y + 8, x : x + 8] for i, (y, x) in enumerate(moves)])


def train(model, images, labels, epochs, batch=32):
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for picked in order[: len(order) // batch * batch].split(batch):
            logits = model(shifted(images[picked], generator))
            loss = nn.functional.cross_entropy(logits, labels[picked])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    model.eval()


def export(model, path):
    """Without constant folding and in evaluation mode, so that BatchNormalization stays a node."""
    torch.onnx.export(
        model, (torch.zeros(2, 1, 8, 8),), str(path), dynamo=False, opset_version=17,
        training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
        input_names=["image"], output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(0)

    data = load_digits()
    images = (data.images / 16).astype(np.float32)[:, None]
    labels = data.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(images))
    held_out, used = order[:600], order[600:]

    model = Digits()
    train(model, torch.from_numpy(images[used]), torch.from_numpy(labels[used]), args.epochs)
    with torch.no_grad():
        guesses = model(torch.from_numpy(images[held_out])).argmax(-1).numpy()
    print(sum(p.numel() for p in model.parameters()), "parameters")
    print(f"held-out images: {(guesses == labels[held_out]).mean():.4f}")

    export(model, args.out / "model.onnx")
    np.savez_compressed(args.out / "calib.npz", image=images[used[:256]])
    np.savez_compressed(args.out / "eval.npz", image=images[held_out])
    np.save(args.out / "eval_labels.npy", labels[held_out])


if __name__ == "__main__":
    main()
