"""training.py -- a training step of MiniLM: mlopt's and PyTorch's, in one run, in turns.

Both train the encoder's layers, embeddings frozen, towards random numbers for the last hidden state,
with clipping and AdamW, on one batch of full sequences.  The row says how long a step takes, how
much memory a process has at most, and whether losses and trained weights agree.  With --bf16 mlopt's
layers and their gradients multiply bf16, as distillation has it where that is faster; losses and
weights may then be farther apart.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
HIDDEN, HEADS, LAYERS = 384, 12, 6
RATE, DECAY, CLIP = 3e-4, 0.01, 1.0


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("model", help="minilm-encoder.onnx")
    p.add_argument("--build", default=str(HERE.parent.parent / "build"))
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--length", type=int, default=32)
    p.add_argument("--steps", type=int, default=20, help="of a round")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--bf16", action="store_true")
    p.add_argument("--json", action="store_true")
    p.add_argument("--torch-round", help=argparse.SUPPRESS)
    return p.parse_args()


def write_inputs(args, folder):
    """Inputs in the model's order, and the target."""
    random = np.random.default_rng(1)
    shape = (args.batch, args.length)
    ids = random.integers(1000, 30000, shape)
    for i, x in enumerate((ids, np.ones(shape), np.zeros(shape))):
        x.astype(np.int64).tofile(folder / f"input-{i}.bin")
    random.normal(0, 1, (*shape, HIDDEN)).astype(np.float32).tofile(folder / "target.bin")


def layer_tensors(graph, layer):
    """What MatMuls multiply by is named by number only: their nodes' names tell which is which."""
    named = {}
    mine = f"/encoder/layer.{layer}/"
    for node in graph.node:
        if node.op_type == "MatMul" and mine in node.name:
            parts = node.name.split(mine)[1].split("/")[:-1]
            named[".".join(parts)] = node.input[1]
    return named


def torch_model(args, onnx_model):
    import onnx
    import torch
    from onnx import numpy_helper
    from torch.nn import functional as F

    folder = pathlib.Path(args.model).parent
    model = onnx.load(onnx_model, load_external_data=True)
    tensor = {i.name: torch.from_numpy(numpy_helper.to_array(i, str(folder)).copy())
              for i in model.graph.initializer}
    prefix = next(n for n in tensor if n.endswith("word_embeddings.weight"))
    prefix = prefix[:-len("embeddings.word_embeddings.weight")]

    class Linear(torch.nn.Module):
        def __init__(self, weight, bias, names):
            super().__init__()
            self.inner = torch.nn.utils.skip_init(torch.nn.Linear, *weight.shape)
            self.inner.weight = torch.nn.Parameter(weight.T.contiguous())
            self.inner.bias = torch.nn.Parameter(bias)
            self.named = {names[0]: (self.inner.weight, True), names[1]: (self.inner.bias, False)}

        def forward(self, x):
            return self.inner(x)

    class Norm(torch.nn.Module):
        def __init__(self, name):
            super().__init__()
            self.weight = torch.nn.Parameter(tensor[name + ".weight"])
            self.bias = torch.nn.Parameter(tensor[name + ".bias"])
            self.named = {name + ".weight": (self.weight, False), name + ".bias": (self.bias, False)}

        def forward(self, x):
            return F.layer_norm(x, (HIDDEN,), self.weight, self.bias, 1e-12)

    class Layer(torch.nn.Module):
        def __init__(self, i):
            super().__init__()
            at = f"{prefix}encoder.layer.{i}."
            names = layer_tensors(model.graph, i)

            def linear(what):
                return Linear(tensor[names[what]], tensor[f"{at}{what}.bias"],
                              (names[what], f"{at}{what}.bias"))
            self.q, self.k, self.v = (linear(f"attention.self.{x}")
                                      for x in ("query", "key", "value"))
            self.o = linear("attention.output.dense")
            self.up, self.down = linear("intermediate.dense"), linear("output.dense")
            self.norm1 = Norm(at + "attention.output.LayerNorm")
            self.norm2 = Norm(at + "output.LayerNorm")

        def forward(self, x, mask):
            b, s, _ = x.shape

            def heads(t):
                return t.view(b, s, HEADS, HIDDEN // HEADS).transpose(1, 2)
            a = F.scaled_dot_product_attention(heads(self.q(x)), heads(self.k(x)),
                                               heads(self.v(x)), mask)
            x = self.norm1(x + self.o(a.transpose(1, 2).reshape(b, s, HIDDEN)))
            return self.norm2(x + self.down(F.gelu(self.up(x))))

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleList(Layer(i) for i in range(LAYERS))
            self.norm = Norm(prefix + "embeddings.LayerNorm")

        def forward(self, ids, mask, kinds):
            at = prefix + "embeddings."
            x = F.embedding(ids, tensor[at + "word_embeddings.weight"])
            x = x + F.embedding(kinds, tensor[at + "token_type_embeddings.weight"])
            x = self.norm(x + tensor[at + "position_embeddings.weight"][:ids.shape[1]])
            bias = torch.zeros(mask.shape).masked_fill(mask == 0, -1e9)[:, None, None, :]
            for layer in self.layers:
                x = layer(x, bias)
            return x

    return Encoder()


def torch_round(args, folder):
    """In a process of its own, so that its peak memory is."""
    import torch

    torch.set_num_threads(args.threads)
    shape = (args.batch, args.length)
    inputs = [torch.from_numpy(np.fromfile(folder / f"input-{i}.bin", np.int64).reshape(shape))
              for i in range(3)]
    target = torch.from_numpy(np.fromfile(folder / "target.bin", np.float32)
                              .reshape(*shape, HIDDEN))
    model = torch_model(args, args.model)
    weights = list(model.parameters())
    optimizer = torch.optim.AdamW(weights, RATE, weight_decay=DECAY, fused=True)
    loss_of, ms = [], []
    for _ in range(args.steps):
        begun = time.perf_counter()
        optimizer.zero_grad()
        loss = (model(*inputs) - target).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, CLIP)
        optimizer.step()
        ms.append(1e3 * (time.perf_counter() - begun))
        loss_of.append(float(loss.detach()))
    named = {k: v for m in model.modules() for k, v in getattr(m, "named", {}).items()}
    np.savez(folder / "torch.npz", **{k: (w.T if turned else w).detach().numpy()
                                      for k, (w, turned) in named.items()})
    status = pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
    print(json.dumps({"loss": loss_of, "ms": ms, "peak_mb": int(status) * 1.024e-3}))


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"training.py: failed: {' '.join(command)}")
    return json.loads(done.stdout)


def distance(folder, own, initial):
    """How far trained weights are apart, as a share of how far training moved them."""
    theirs = np.load(folder / "torch.npz")
    flat, at = np.fromfile(folder / "weights.bin", np.float32), 0
    apart = moved = 0.0
    found = 0
    for name, *dims in own["weights"]:
        n = int(np.prod(dims))
        mine, at = flat[at:at + n].reshape(dims), at + n
        if name not in theirs or name not in initial:
            continue
        found += 1
        apart += float(np.square(mine - theirs[name], dtype=np.float64).sum())
        moved += float(np.square(theirs[name] - initial[name], dtype=np.float64).sum())
    return (apart / moved) ** 0.5, found


def main():
    args = arguments()
    if args.torch_round:
        return torch_round(args, pathlib.Path(args.torch_round))
    import onnx
    from onnx import numpy_helper

    base = str(pathlib.Path(args.model).parent)
    initial = {i.name: numpy_helper.to_array(i, base)
               for i in onnx.load(args.model, load_external_data=False).graph.initializer}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_inputs(args, folder)
        sizes = [str(x) for x in (args.batch, args.length, args.steps, args.threads)]
        sizes += ["bf16"] * args.bf16
        own, torch = [], []
        for _ in range(args.rounds):
            own.append(run([f"{args.build}/bench/training/bench_training", args.model, name,
                            *sizes]))
            torch.append(run([sys.executable, *sys.argv, "--torch-round", name]))
        far, found = distance(folder, own[-1], initial)
    a, b = (min(min(r["ms"][1:]) for r in runs) for runs in (own, torch))
    loss = max(abs(x / y - 1) for x, y in zip(own[0]["loss"], torch[0]["loss"]))
    row = {"batch": args.batch, "length": args.length, "threads": args.threads,
           "mlopt_ms": a, "torch_ms": b, "ratio": b / a,
           "mlopt_mb": max(r["peak_mb"] for r in own),
           "torch_mb": max(r["peak_mb"] for r in torch),
           "loss_error": loss, "weights_error": far, "weights": found,
           "agrees": loss < (1e-3 if args.bf16 else 1e-4) and far < (0.1 if args.bf16 else 0.02)
           and found > 0}
    if args.json:
        print(json.dumps(row))
    else:
        print(" ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}"
                       for k, v in row.items()))
    return 0 if row["agrees"] else 1


sys.exit(main())
