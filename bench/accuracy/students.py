"""students.py -- what smaller models lose: pruned and distilled by mlopt, beside students of the same
size by baselines.py, trained alike, and `plain`, with what is left as it was.

A row is a class of ROWS: a task of tasks.py, what mlopt is asked for, and what is wanted.  Students
are told as they are done; what mlopt's is beside them (`as wanted`, `best`) when all are.
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

import baselines

TREE = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TREE / "python"))
SAMPLES = 2000  # without labels


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", help="folder of models and data (default: $MLOPT_SHARED)")
    parser.add_argument("--library", help="libmlopt.so.0 (default: the one in build/)")
    parser.add_argument("--only", action="append", help="a row; may be given several times")
    parser.add_argument("--student", action="append",
                        help="mlopt, every other, first, last, influence, norms, plain ... (default: all)")
    parser.add_argument("--quick", action="store_true",
                        help="500 samples, 40 steps, speed in one turn: a table in minutes, of no merit")
    parser.add_argument("--minutes", type=float, help="of training, instead of the row's own")
    parser.add_argument("--steps", type=int, help="of training, instead of minutes; 0: fitted in closed form alone")
    parser.add_argument("--keep", type=pathlib.Path,
                        help="folder of students and their reports; those that are there are measured")
    parser.add_argument("--json", action="store_true", help="results for programs")
    return parser.parse_args()


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

    @functools.cached_property
    def kept(self):
        """The layers that each of the others leaves."""
        return {"every other": baselines.evenly(self.layers, self.left),
                "first": list(range(self.left)),
                "last": list(range(self.layers - self.left, self.layers)),
                "influence": baselines.influence(self.model, self.calib(), self.layers, self.left)}

    def students(self):
        """Who makes a student, by name: called with its path and the options."""
        own = dict(self.ask) or {"distill": [f"student:{self.left}"]}
        kept = self.kept
        asked = {k: {"distill": "student:" + ",".join(map(str, v))} for k, v in kept.items()}
        plain = {f"plain {k}": lambda path, o, v=v: baselines.layers_alone(self.model, v, path)
                 for k, v in kept.items()}
        return {k: functools.partial(trained, self, v)
                for k, v in {"mlopt": own, **asked}.items()} | plain


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
    name, kind, left, minutes, ask = "gpt, 5 blocks", "Characters", 5, 5, {"prune": 1}

    def better(self, own, other):
        return own["rise"] < other["rise"]

    def wanted(self, r, base):
        return r["rise"] <= .01


class Digits(Row):
    name, kind, minutes, ask = "digits, 1.5x fewer MACs", "Digits", 1, {"prune": "1.5x-macs"}
    kept = {}

    def better(self, own, other):
        return own["accuracy"] > other["accuracy"]

    def students(self):
        """By the norms of weights: two thirds of the channels are 1.5x fewer multiply-adds here."""
        def plain(path, o):
            baselines.narrowed(self.model, 2 / 3, path)

        def alike(path, o):
            with tempfile.NamedTemporaryFile(suffix=".onnx") as f:
                plain(f.name, o)
                trained(self, {"teacher": self.model}, path, o, f.name)

        return {"mlopt": functools.partial(trained, self, self.ask), "norms": alike,
                "plain norms": plain}

    def wanted(self, r, base):
        return r["accuracy"] >= base["accuracy"] - .005


ROWS = [Sst2Four, Sst2Three, Sst2Untrained, Embeddings, Characters, Digits]


# ---- measuring ----

def trained(row, ask, path, o, model=None):
    """Writes what is asked of mlopt, with the training that the row allows."""
    import mlopt
    ask = dict(ask)
    if not row.minutes:
        if "distill" in ask:
            ask["distill_steps"] = 0  # fitted in closed form, as pruning does, and no more
    elif o.steps is not None:
        ask["distill_steps"] = o.steps
    else:
        given = ask.get("distill", [])
        minutes = o.minutes or row.minutes
        ask["distill"] = [*(given if isinstance(given, list) else [given]), minutes]
    mlopt.compile(model or row.model, str(path), emit="onnx", calib=row.calib(),
                  report=str(report_of(path)), **ask)


def report_of(path):
    return pathlib.Path(path).with_suffix(".json")


def layers_left(path):
    """The layers that mlopt has left, by the report beside the student; None: not layers alone are
    gone, or there is no report."""
    if not report_of(path).exists():
        return None
    decisions = json.loads(report_of(path).read_text())["decisions"]
    plan = next((d["choice"] for d in decisions if d["subject"] == "plan"), "")
    layers = [plan[i:i + 2] for i in range(0, len(plan), 2)]  # k: kept, x: cut
    return [i for i, k in enumerate(layers) if k == "kk"] if {*layers} <= {"kk", "xx"} else None


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


def speed(row, paths, cache, turns):
    """How many times faster than ONNX Runtime in fp32 on the teacher; both capped where mlopt is."""
    sys.path.insert(0, str(TREE / "bench/peers"))
    import capped

    best = {}
    for _ in range(turns):  # as clocks drift
        for level, path in paths.items():
            environment = capped.environment(level, cache) if level else {}
            for kind, model in (("onnxruntime", row.model), ("mlopt", path)):
                times = timed(kind, model, environment if kind == "onnxruntime" else {})
                best[level, kind] = [min(pair) for pair in
                                     zip(times, best.get((level, kind), times))]
    return {f"faster {where}{level and ', ' + level}":
            best[level, "onnxruntime"][i] / best[level, "mlopt"][i]
            for level in paths for i, where in enumerate(("at 128", "at its lengths"))}


def quantized(row, path, batches, base, turns):
    """The student in eight bits: for this CPU, and for AVX2 alone."""
    import mlopt
    made = {"": path.with_suffix(".int8.so"), "avx2": path.with_suffix(".int8-avx2.so")}
    for level, small in made.items():
        if not small.exists():
            mlopt.compile(str(path), str(small), int8="dynamic", calib=row.calib(),
                          mcpu=level or "native")
    paths = {k: str(v) for k, v in made.items()}
    return {**row.task.figures(answers(row, batches, paths[""]), base),
            **speed(row, paths, TREE / "build/bench/peers", turns)}


def make(write, path, o):
    """Writes the student, if it is not there; what that took."""
    if path.exists():
        return {}
    begun = time.monotonic()
    write(str(path), o)
    return {"making": time.monotonic() - begun}


def compared(row, rows):
    """What mlopt's student is beside the others that were made."""
    told = {"as wanted": bool(row.wanted(rows["mlopt"], rows["teacher"]))}
    others = [k for k in rows if k not in ("mlopt", "mlopt --int8", "teacher") and
              "as" not in rows[k]]
    if others:  # alone, it is the best of nothing
        ahead = [k for k in others if not row.better(rows["mlopt"], rows[k])]
        told["best"] = not ahead
        told.update({"not better than": ahead} if ahead else {})
    return told


def measure(row, o, tell):
    started = time.monotonic()
    batches = row.task.batches()
    base = answers(row, batches, row.model)
    rows = {"teacher": row.task.figures(base, base)}
    tell("teacher", rows["teacher"])
    with tempfile.TemporaryDirectory() as scratch:
        folder = o.keep or pathlib.Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        left = {}  # layers, by student
        for name, write in row.students().items():
            if o.student and name not in o.student and name.split()[0] not in o.student:
                continue
            path = folder / f"{row.name}, {name}.onnx"
            layers = row.kept.get(name)
            twins = [k for k in left if layers and left[k] == layers]
            if twins:  # trained alike, it would be the same
                rows[name] = {"as": twins}
                tell(name, rows[name])
                continue
            made = make(write, path, o)
            left[name] = layers_left(path) if name == "mlopt" else layers
            rows[name] = {**row.task.figures(answers(row, batches, str(path)), base), **made}
            tell(name, rows[name])
            if name == "mlopt" and row.kind == "Sentiment" and row.minutes:
                turns = 1 if o.quick else 5
                rows["mlopt --int8"] = quantized(row, path, batches, base, turns)
                tell("mlopt --int8", rows["mlopt --int8"])
    verdict = compared(row, rows) if "mlopt" in rows else {}
    rows.setdefault("mlopt", {}).update(verdict)
    rows["teacher"]["seconds of the row"] = time.monotonic() - started
    tell("in all", {**verdict, "seconds": rows["teacher"]["seconds of the row"]})
    return rows


def shown(value):
    if isinstance(value, list):
        return ", ".join(value)
    return str(value) if isinstance(value, bool) else f"{value:.5g}"


def show(row, name, figures):
    told = ", ".join(f"{k} {shown(v)}" for k, v in figures.items())
    print(f"{row:24} {name:18} {told}", flush=True)


def main():
    if sys.argv[1:2] == ["--time"]:  # a process that measures for speed()
        return time_one(*sys.argv[2:])
    o = options()
    os.environ["MLOPT_SHARED"] = str(pathlib.Path(
        o.shared or os.environ.get("MLOPT_SHARED", "../shared/data")).resolve())
    os.environ["MLOPT_LIBRARY"] = o.library or os.environ.get("MLOPT_LIBRARY") or str(
        TREE / "build" / "libmlopt.so.0")
    if o.quick:
        global SAMPLES
        SAMPLES, o.steps = 500, 40 if o.steps is None else o.steps
    results = {}
    for kind in ROWS:
        if o.only and kind.name not in o.only and kind.name.split(",")[0] not in o.only:
            continue
        tell = functools.partial(show, kind.name) if not o.json else lambda *told: None
        results[kind.name] = measure(kind(), o, tell)
    if o.json:
        json.dump(results, sys.stdout, indent=2)
        print()


main()
