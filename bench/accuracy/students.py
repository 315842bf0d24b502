"""students.py -- what smaller models lose: pruned and distilled by mlopt, beside students of the same
number of layers that were chosen without looking (every other layer, the first or the last ones) or
by block influence, and trained alike.

A row is a class of ROWS: a task of tasks.py, what mlopt is asked for, and what is wanted.
"""

import argparse
import functools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

TREE = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TREE / "python"))
SAMPLES = 2000  # without labels


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", help="folder of models and data (default: $MLOPT_SHARED)")
    parser.add_argument("--library", help="libmlopt.so.0 (default: the one in build/)")
    parser.add_argument("--only", action="append", help="a row; may be given several times")
    parser.add_argument("--student", action="append",
                        help="mlopt, every other, first, last, influence (default: all)")
    parser.add_argument("--minutes", type=float, help="of training, instead of the row's own")
    parser.add_argument("--steps", type=int, help="of training, instead of minutes; 0: fitted in closed form alone")
    parser.add_argument("--keep", type=pathlib.Path,
                        help="folder that students are kept in; those that are there are measured")
    parser.add_argument("--json", action="store_true", help="results for programs")
    return parser.parse_args()


# ---- layers that others would keep ----

def evenly(layers, left):
    return [round(i * (layers - 1) / (left - 1)) for i in range(left)]


def streams(graph, blocks):
    """What each layer reads: of the first sum in it the operand that others read, too; and the
    result of the last sum."""
    readers = {}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    nodes, found, seen = {n.name: n for n in graph.node}, [], set()
    for branch in blocks["branches"]:
        node = nodes[branch["added_at"]]
        if branch["layer"] not in seen:
            seen.add(branch["layer"])
            found.append(max(node.input, key=lambda name: readers.get(name, 0)))
    return [*found, node.output[0]]


def influence(model, calib, layers, left):
    """Keeps the layers whose results differ most from what they read: 1 - cosine, token by token."""
    import numpy as np
    import onnx
    import onnxruntime

    told = subprocess.run([TREE / "build/bin/mlopt", "inspect", "--blocks", "--json", model],
                          check=True, capture_output=True, text=True).stdout
    shown = onnx.load(model)
    names = streams(shown.graph, json.loads(told))
    for name in names:
        shown.graph.output.append(onnx.ValueInfoProto(name=name))
    with tempfile.NamedTemporaryFile(suffix=".onnx") as f:
        onnx.save(shown, f.name)  # external data was loaded with it
        session = onnxruntime.InferenceSession(f.name)
    sums = np.zeros(layers)
    for i in range(min(64, len(next(iter(calib.values()))))):
        one = {k: v[i:i + 1] for k, v in calib.items()}
        if "attention_mask" in one and "position_ids" not in one:
            length = int(one["attention_mask"].sum())
            one = {k: v[:, :length] for k, v in one.items()}
        h = [x.reshape(-1, x.shape[-1]) for x in session.run(names, one)]
        for k in range(layers):
            cosine = (h[k] * h[k + 1]).sum(-1) / (
                np.linalg.norm(h[k], axis=-1) * np.linalg.norm(h[k + 1], axis=-1))
            sums[k] += 1 - cosine.mean()
    return sorted(np.argsort(-sums, kind="stable")[:left].tolist())


# ---- rows ----

class Row:
    """task, layers of the teacher and of the student, and what mlopt is asked for."""
    layers, left, minutes, ask = 6, 0, None, {}

    def __init__(self):
        import tasks
        self.task = getattr(tasks, self.kind)()
        self.model = str(tasks.SHARED / "models" / f"{self.task.model}.onnx")

    def calib(self):
        return self.task.calib()

    def better(self, own, other):
        return own["agreement"] > other["agreement"]

    def students(self):
        if not self.left:
            return {"mlopt": dict(self.ask)}
        own = dict(self.ask) or {"distill": [f"student:{self.left}"]}
        kept = {"every other": evenly(self.layers, self.left), "first": range(self.left),
                "last": range(self.layers - self.left, self.layers),
                "influence": influence(self.model, self.calib(), self.layers, self.left)}
        asked = {k: {"distill": "student:" + ",".join(map(str, v))} for k, v in kept.items()}
        return {"mlopt": own, **asked}


class Sst2(Row):
    kind = "Sentiment"

    def calib(self):
        import tasks
        return {k: v[:SAMPLES] for k, v in tasks.load("sst2_train").items() if k != "labels"}


class Sst2Four(Sst2):
    name, left, minutes = "sst2, 4 layers", 4, 5

    def wanted(self, r, base):
        return r["accuracy"] >= base["accuracy"] and r["agreement"] >= .935


class Sst2Three(Sst2):
    name, left, minutes = "sst2, 3 layers", 3, 8

    def wanted(self, r, base):
        return r["accuracy"] >= base["accuracy"] - .003 and r["agreement"] >= .925


class Sst2Untrained(Sst2):
    name, left, ask = "sst2, 1.25x", 5, {"prune": "1.25x"}

    def wanted(self, r, base):
        return r["agreement"] >= .93 and r.get("making", 0) <= 60


class Embeddings(Row):
    name, kind, left, minutes = "minilm, 4 layers", "Embeddings", 4, 8

    def calib(self):
        import tasks
        return {k: v[:SAMPLES] for k, v in tasks.load("sts_calib").items()}

    def better(self, own, other):
        return own["cosine"] > other["cosine"]

    def wanted(self, r, base):
        return r["Spearman"] >= .993 * base["Spearman"] and r["cosine"] >= .955


class Characters(Row):
    name, kind, left, minutes, ask = "gpt, 5 blocks", "Characters", 5, 8, {"prune": 1}

    def better(self, own, other):
        return own["rise"] < other["rise"]

    def wanted(self, r, base):
        return r["rise"] <= .01


class Digits(Row):
    name, kind, minutes, ask = "digits, 1.5x fewer MACs", "Digits", 1, {"prune": "1.5x-macs"}

    def wanted(self, r, base):
        return r["accuracy"] >= base["accuracy"] - .005


ROWS = [Sst2Four, Sst2Three, Sst2Untrained, Embeddings, Characters, Digits]


# ---- measuring ----

def trained(row, ask, o):
    """What is asked of mlopt, with the training that the row allows."""
    ask = {k: list(v) if isinstance(v, list) else v for k, v in ask.items()}
    if o.steps is not None and (row.minutes or "distill" in ask):
        ask["distill_steps"] = o.steps
    elif row.minutes:
        given = ask.get("distill", [])
        minutes = o.minutes or row.minutes
        ask["distill"] = [*(given if isinstance(given, list) else [given]), minutes]
    elif "distill" in ask:
        ask["distill_steps"] = 0  # fitted in closed form, as pruning does, and no more
    return ask


def answers(row, batches, path):
    import mlopt
    session = mlopt.InferenceSession(path)
    inputs = {i.name for i in session.get_inputs()}
    first = session.get_outputs()[0].name
    return [session.run([first], {k: v for k, v in b.items() if k in inputs})[0] for b in batches]


def seconds(run, feeds, rounds):
    """The median time of a run over all feeds, one after the other."""
    spent = []
    for _ in range(rounds):
        begun = time.perf_counter()
        for feed in feeds:
            run(feed)
        spent.append(time.perf_counter() - begun)
    return statistics.median(spent)


def time_one(kind, model):
    """Times of one thread, one sample a run: at 128 tokens, and over samples of their own lengths."""
    import importlib
    import numpy as np
    import tasks

    runtime = importlib.import_module(kind)
    settings = runtime.SessionOptions()
    settings.intra_op_num_threads = 1
    run = functools.partial(runtime.InferenceSession(model, settings).run, None)
    data = tasks.load("sst2_dev")
    data.pop("labels")
    own = [b for b in tasks.batched(data, 1, "attention_mask")][:100]
    long = {k: np.ones((1, 128), np.int64) for k in own[0]}
    print(json.dumps([seconds(run, [long], 30), seconds(run, own, 3)]))


def timed(kind, model, environment):
    """time_one() in a process of its own."""
    command = [sys.executable, __file__, "--time", kind, model]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True,
                                     env={**os.environ, **environment}).stdout)


def speed(row, paths, cache):
    """How many times faster than ONNX Runtime in fp32 on the teacher; both capped where mlopt is."""
    sys.path.insert(0, str(TREE / "bench/peers"))
    import capped

    best = {}
    for _ in range(5):  # in turns, as clocks drift
        for level, path in paths.items():
            environment = capped.environment(level, cache) if level else {}
            for kind, model in (("onnxruntime", row.model), ("mlopt", path)):
                times = timed(kind, model, environment if kind == "onnxruntime" else {})
                best[level, kind] = [min(pair) for pair in
                                     zip(times, best.get((level, kind), times))]
    return {f"faster {where}{level and ', ' + level}":
            best[level, "onnxruntime"][i] / best[level, "mlopt"][i]
            for level in paths for i, where in enumerate(("at 128", "at its lengths"))}


def quantized(row, path, batches, base):
    """The student in eight bits: all levels, and AVX2 alone."""
    import mlopt
    made = {"": path.with_suffix(".int8.so"), "avx2": path.with_suffix(".int8-avx2.so")}
    for level, small in made.items():
        capped = {"mcpu": level} if level else {}
        if not small.exists():
            mlopt.compile(str(path), str(small), int8="dynamic", calib=row.calib(), **capped)
    paths = {k: str(v) for k, v in made.items()}
    return {**row.task.figures(answers(row, batches, paths[""]), base), **speed(row, paths, TREE / "build/bench/peers")}


def measure(row, o):
    import mlopt

    started = time.monotonic()
    batches = row.task.batches()
    base = answers(row, batches, row.model)
    rows = {"teacher": row.task.figures(base, base)}
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        for name, ask in row.students().items():
            if o.student and name not in o.student:
                continue
            path, begun = (o.keep or folder) / f"{row.name}, {name}.onnx", time.monotonic()
            made = {}
            if not path.exists():
                mlopt.compile(row.model, str(path), emit="onnx", calib=row.calib(),
                              **trained(row, ask, o))
                made = {"making": time.monotonic() - begun}
            rows[name] = {**row.task.figures(answers(row, batches, str(path)), base), **made}
            if name == "mlopt" and row.kind == "Sentiment" and row.minutes:
                rows["mlopt --int8"] = quantized(row, path, batches, base)
    if "mlopt" in rows:
        rows["mlopt"]["as wanted"] = bool(row.wanted(rows["mlopt"], rows["teacher"]))
        others = [r for k, r in rows.items() if k not in ("mlopt", "mlopt --int8", "teacher")]
        if others:  # alone, it is the best of nothing
            rows["mlopt"]["best"] = all(row.better(rows["mlopt"], r) for r in others)
    rows["teacher"]["seconds of the row"] = time.monotonic() - started
    return rows


def main():
    if sys.argv[1:2] == ["--time"]:  # a process that measures for speed()
        return time_one(*sys.argv[2:])
    o = options()
    os.environ["MLOPT_SHARED"] = str(pathlib.Path(
        o.shared or os.environ.get("MLOPT_SHARED", "../shared/data")).resolve())
    os.environ["MLOPT_LIBRARY"] = o.library or os.environ.get("MLOPT_LIBRARY") or str(
        TREE / "build" / "libmlopt.so.0")
    results = {}
    for make in ROWS:
        if o.only and make.name not in o.only and make.name.split(",")[0] not in o.only:
            continue
        results[make.name] = measure(make(), o)
        for name, figures in {} if o.json else results[make.name].items():
            told = ", ".join(f"{k} {v if isinstance(v, bool) else f'{v:.5g}'}"
                             for k, v in figures.items())
            print(f"{make.name:24} {name:14} {told}", flush=True)
    if o.json:
        json.dump(results, sys.stdout, indent=2)
        print()


main()
