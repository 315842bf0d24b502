"""train_torch.py -- writes train_torch.h: a small transformer, and what PyTorch makes of it in training.

  python train_torch.py >train_torch.h

The losses are those of distillation: KL of what is decided, squared errors of hidden states, cosine
of their means; then clipping and AdamW, in float64.  test_train_torch.c holds mlopt to them.
"""

import math
import textwrap

import torch
from torch.nn import functional as F

B, S, D, HEADS, WIDE, WORDS, CLASSES, STEPS = 2, 3, 4, 2, 6, 7, 3, 5
SHARES = (1.0, 0.5, 0.25)
PEAK, TOTAL, WARMUP, CLIP, TEMPERATURE = 0.02, 8, 0.25, 0.5, 2.0
torch.set_default_dtype(torch.float64)


def numbers(seed, *shape):
    """Numbers that f32 holds exactly."""
    n = math.prod(shape)
    x = [round(32 * math.sin(1.7 * i + seed) * (1 + seed % 3)) / 64 for i in range(n)]
    return torch.tensor(x).reshape(shape)


WEIGHTS = {
    "g1": (D,), "c1": (D,), "wq": (D, D), "bq": (D,), "wk": (D, D), "wv": (D, D), "wo": (D, D),
    "bo": (D,), "g2": (D,), "w1": (D, WIDE), "b1": (WIDE,), "w2": (WIDE, D), "wc": (D, CLASSES),
}
SPLIT = f"[{B}, {S}, {HEADS}, {D // HEADS}]"
EACH = f"[{B}, {HEADS}, {S}, {D // HEADS}]"
TEXT = f"""module "student" {{
  in %i "ids" : s64[{B}, {S}]
WEIGHTS
  %x = gather %emb, %i {{axis = 0}} : f32[{B}, {S}, {D}]
  %n = layer_norm %x, %g1, %c1 : f32[{B}, {S}, {D}]
  %q3 = linear %n, %wq, %bq : f32[{B}, {S}, {D}]
  %k3 = linear %n, %wk : f32[{B}, {S}, {D}]
  %v3 = linear %n, %wv : f32[{B}, {S}, {D}]
  %q4 = reshape %q3 {{shape = {SPLIT}}} : f32{SPLIT}
  %k4 = reshape %k3 {{shape = {SPLIT}}} : f32{SPLIT}
  %v4 = reshape %v3 {{shape = {SPLIT}}} : f32{SPLIT}
  %q = transpose %q4 {{perm = [0, 2, 1, 3]}} : f32{EACH}
  %k = transpose %k4 {{perm = [0, 2, 1, 3]}} : f32{EACH}
  %v = transpose %v4 {{perm = [0, 2, 1, 3]}} : f32{EACH}
  %a4 = attention %q, %k, %v {{scale = 0.75}} : f32{EACH}
  %at = transpose %a4 {{perm = [0, 2, 1, 3]}} : f32[{B}, {S}, {HEADS}, {D // HEADS}]
  %a = reshape %at {{shape = [{B}, {S}, {D}]}} : f32[{B}, {S}, {D}]
  %o = linear %a, %wo, %bo : f32[{B}, {S}, {D}]
  %r = add %o, %x : f32[{B}, {S}, {D}]
  %m = layer_norm %r, %g2 : f32[{B}, {S}, {D}]
  %u = linear %m, %w1, %b1 : f32[{B}, {S}, {WIDE}]
  %w = gelu %u : f32[{B}, {S}, {WIDE}]
  %d = linear %w, %w2 : f32[{B}, {S}, {D}]
  %h = add %r, %d : f32[{B}, {S}, {D}]
  %s = reduce_mean %h {{axes = [1]}} : f32[{B}, 1, {D}]
  %p = reshape %s {{shape = [{B}, {D}]}} : f32[{B}, {D}]
  %y = linear %p, %wc : f32[{B}, {CLASSES}]
  out "y" = %y
  out "h" = %h
}}
"""


def forward(w, emb, ids):
    def heads(t):
        return t.view(B, S, HEADS, D // HEADS).transpose(1, 2)
    x = emb[ids]
    n = F.layer_norm(x, (D,), w["g1"], w["c1"])
    a = F.scaled_dot_product_attention(heads(n @ w["wq"] + w["bq"]), heads(n @ w["wk"]),
                                       heads(n @ w["wv"]), scale=0.75)
    r = x + a.transpose(1, 2).reshape(B, S, D) @ w["wo"] + w["bo"]
    h = r + F.gelu(F.layer_norm(r, (D,), w["g2"]) @ w["w1"] + w["b1"]) @ w["w2"]
    return h.mean(1) @ w["wc"], h


def loss_of(y, h, target_y, target_h):
    t = TEMPERATURE
    kl = t * t * F.kl_div((y / t).log_softmax(-1), (target_y / t).log_softmax(-1),
                          reduction="batchmean", log_target=True)
    cosine = 1 - F.cosine_similarity(target_h.mean(1), h.mean(1), dim=-1).mean()
    terms = kl, (h - target_h).square().mean(), cosine
    return sum(s * x for s, x in zip(SHARES, terms))


def rate(step):
    return PEAK * max(0, min(1, step / (WARMUP * TOTAL),
                             (TOTAL - (step - 1)) / (TOTAL * (1 - WARMUP))))


def put(kind, name, x):
    rows = textwrap.wrap(", ".join(f"{float(v):.9g}" for v in x), 96)
    print(f"static const {kind} {name}[] = {{", *rows, "};", sep="\n")


def constant(name, x):
    row = ", ".join(f"{float(v):.9g}" for v in x.flatten())
    return f"%{name} = const {{{row}}} : f32[{', '.join(map(str, x.shape))}]"


def put_text(text):
    print("static const char text[] =")
    for line in text.splitlines():
        *parts, last = textwrap.wrap(line, 90, drop_whitespace=False) or [""]
        for part in parts:
            print('"' + part.replace('"', '\\"') + '"')
        print('"' + last.replace('"', '\\"') + '\\n"')
    print(";")


def main():
    weights = {k: numbers(i + 1, *shape) + (k[0] == "g")
               for i, (k, shape) in enumerate(WEIGHTS.items())}
    emb = numbers(20, WORDS, D)
    ids = torch.tensor([[0, 3, 6], [2, 2, 5]])
    target_y, target_h = numbers(21, B, CLASSES), numbers(22, B, S, D)
    rows = [constant(k, v) for k, v in (weights | {"emb": emb}).items()]
    text = TEXT.replace("WEIGHTS", "\n".join(rows))
    w = {k: torch.nn.Parameter(v.clone()) for k, v in weights.items()}
    optimizer = torch.optim.AdamW(w.values(), PEAK, (0.9, 0.999), 1e-8, 0.01)
    losses, norms = [], []
    for step in range(1, STEPS + 1):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.zero_grad()
        loss = loss_of(*forward(w, emb, ids), target_y, target_h)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(w.values(), CLIP))
        losses.append(loss.detach())
        if step == 1:
            scale = min(1, CLIP / float(norms[0]))
            gradients = torch.cat([p.grad.flatten() for p in w.values()]) / scale
        optimizer.step()
    print("/* train_torch.h -- written by train_torch.py with PyTorch. */")
    print("/* clang-format off */")
    put_text(text)
    put("int64_t", "ids", ids.flatten())
    put("float", "target_y", target_y.flatten())
    put("float", "target_h", target_h.flatten())
    put("float", "shares", SHARES)
    put("double", "losses", losses)
    put("double", "norms", norms)
    put("double", "gradients", gradients)
    put("double", "trained", torch.cat([p.detach().flatten() for p in w.values()]))
    print(f"static const double peak = {PEAK}, total = {TOTAL}, warmup = {WARMUP}, clip = {CLIP};")


main()
