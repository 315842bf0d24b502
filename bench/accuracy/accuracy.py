"""accuracy.py -- what quantization costs, task by task: mlopt, ONNX Runtime and NNCF in one run."""

import argparse
import contextlib
import json
import logging
import os
import pathlib
import sys
import tempfile
import time


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", help="folder of models and data (default: $MLOPT_SHARED)")
    parser.add_argument("--library", help="libmlopt.so.0 (default: the one in build/)")
    parser.add_argument("--only", action="append", help="a task; may be given several times")
    parser.add_argument("--engine", action="append", help="an engine; fp32 is always run")
    parser.add_argument("--json", action="store_true", help="results for programs")
    return parser.parse_args()


def run(engine, task, model, folder, batches):
    begun = time.monotonic()
    ask = engine(task, model, folder)
    made = time.monotonic() - begun
    return [ask(b) for b in batches], made


def measure(task, engines, shared):
    model = shared / "models" / f"{task.model}.onnx"
    batches, base, rows = task.batches(), None, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, engine in engines.items():
            try:  # peers' tools leave files where they are
                with contextlib.redirect_stdout(sys.stderr), contextlib.chdir(folder):
                    out, made = run(engine, task, model, pathlib.Path(folder), batches)
            except Exception as e:  # a peer that cannot is a row that says so
                rows[name] = {"failed": f"{type(e).__name__}: {e}".split("\n")[0][:120]}
                continue
            base = out if base is None else base
            rows[name] = {**task.figures(out, base), "seconds": made}
    worst = rows.get("mlopt nearest", {}).get("rise", 0)
    for row in rows.values():  # four bits: the part of round-to-nearest's rise made good for
        if worst > 0 and "rise" in row:
            row["recovered"] = 1 - row["rise"] / worst
    return rows


def number(x):
    return str(x) if isinstance(x, (int, str)) else f"{x:.6f}" if abs(x) < 10 else f"{x:.1f}"


def show(task, rows):
    columns = list(dict.fromkeys(k for r in rows.values() for k in r))
    print(f"\n{task.name} ({task.model})\n{'':16}" + "".join(f"{c:>12}" for c in columns))
    for name, row in rows.items():
        if "failed" in row:
            print(f"{name:16}  {row['failed']}")
        else:
            print(f"{name:16}" + "".join(f"{number(row.get(c, '')):>12}" for c in columns))
    sys.stdout.flush()


def main():
    o = options()
    os.environ["MLOPT_SHARED"] = str(pathlib.Path(
        o.shared or os.environ.get("MLOPT_SHARED", "../shared/data")).resolve())
    here = pathlib.Path(__file__).resolve().parent
    os.environ["MLOPT_LIBRARY"] = o.library or os.environ.get("MLOPT_LIBRARY") or str(
        here.parent.parent / "build" / "libmlopt.so.0")
    logging.disable(logging.WARNING)
    from engines import CACHED, ENGINES, INT4
    from tasks import SHARED, TASKS

    def chosen(task):
        engines = INT4 if getattr(task, "four_bits", False) else ENGINES
        engines = {**engines, **(CACHED if getattr(task, "has_cache", False) else {})}
        return {k: v for k, v in engines.items() if k == "fp32" or not o.engine or k in o.engine}

    results = {}
    for make in TASKS:
        if o.only and make.name not in o.only:
            continue
        task = make()
        results[task.name] = measure(task, chosen(task), SHARED)
        if not o.json:
            show(task, results[task.name])
    if o.json:
        json.dump(results, sys.stdout, indent=2)
        print()
    print("\nWhat pruning and distillation cost takes two hours: bench/accuracy/run students",
          file=sys.stderr)


main()
