"""peers.py -- mlopt and its peers on the same models, one process each, in alternation.

    bench/peers/run                        every row of the bench
    bench/peers/run --only 'minilm*' --isa avx2
    bench/peers/run MODEL.onnx --dim batch=1 --dim sequence=128

Each round measures the machine's limits and then runs every contender once in a process of its
own: load, warm up, then timed runs for --seconds.  A figure is the median over rounds of the
processes' medians, so that a machine whose speed drifts disturbs all alike.  Where a peer can run
a model in several forms (fused or not), a round that does not count chooses the fastest.

The limit of a row is the time of its multiply-adds at the speed of registers alone, or of reading
its weights and inputs from memory, whichever is longer.  The speed of registers is that of the clock
which mlopt has while it runs: its process times further runs in turns with multiply-adds alone
(mlopt bench --profile).  With --isa, all are capped to that level,
the peers by what CPUID answers them (capped.py).  Figures that evidently ran more than the level
(verdict.py) are printed in brackets and do not count.
"""

import argparse
import fnmatch
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np

import capped
from quantized import SAMPLES, forms
from rows import (ROOT, ROWS, Row, artefact, cache_name, make_inputs, make_samples,
                  model_path)
from verdict import judge, leave_out, remarks, text_of
from work import count_work

LEVELS = ("avx2", "avxvnni", "avx512", "avx512vnni", "avx512bf16", "amx")
PEERS = ("onnxruntime", "openvino")
WEIGHT_BYTES = {"fp32": 4, "int8": 1, "int4": 0.5}  # scales of groups aside


def run_json(command, **environment):
    """The JSON that a command prints."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                          env={**os.environ, **environment})
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def measure_limits(args, isa=None):
    """GMAC/s of floats and bytes and GB/s of reading, on all threads at once."""
    command = [args.build / "bench/kernels/bench_kernels", "--limits", "--json",
               "--threads", args.threads, "--seconds", 0.2]
    return run_json(command + (["--isa", isa] if isa else []))


def compile_mlopt(args, row, model, form, options, folder):
    """The row's shared object of one form, for one level, its shapes fixed like OpenVINO's."""
    calib = folder / "calib.npz"
    calibrated = any("{calib}" in option for option in options)
    options = [option.format(calib=calib) for option in options]
    options += [f"--dim={name}={size}" for name, size in row.dims.items() if name.isidentifier()]
    command = [args.build / "bin/mloptc", model, "-O3", "-q", *options,
               f"--mcpu={args.isa or 'native'}", "-o"]

    def calibrate(new):
        samples = make_samples(model, row.dims, SAMPLES)
        with open(new, "wb") as file:
            np.savez(file, **{k: np.concatenate([s[k] for s in samples]) for k in samples[0]})

    if calibrated:
        artefact(calib, calibrate, model)
    shape = "".join(f"-{size}" for size in row.dims.values())
    return artefact(folder / f"mlopt-{form.replace(' ', '-')}-{args.isa or 'native'}{shape}.so",
                    lambda new: subprocess.run([*map(str, command), new], check=True),
                    model, args.build / "bin/mloptc", args.build / "libmlopt.so",
                    ROOT / "bench/peers/rows.py")


def own_forms(row):
    """precision -> name of mlopt's form -> its options."""
    return {"fp32": {"fp32": ()}, "int8": row.int8, **({"int4": row.int4} if row.int4 else {})}


def prepare(args, row):
    """(contender, precision) -> name of the form -> command line that prints JSON."""
    model = model_path(row.model, args.cache)
    folder = args.cache / cache_name(row.model) / row.name
    feed = make_inputs(model, row.dims)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "in.npz", **feed)
    commands = {}
    for precision, own in own_forms(row).items():
        commands["mlopt", precision] = {form: [
            args.build / "bin/mlopt", "bench",
            compile_mlopt(args, row, model, form, options, folder),
            "--inputs", folder / "in.npz",
            "--batch", "0", "--threads", args.threads, "--seconds", args.seconds, "--json",
            "--profile"]
            for form, options in own.items()}
        for peer in PEERS:
            commands[peer, precision] = {
                form: [sys.executable, ROOT / "bench/peers/contender.py", peer, file,
                       folder / "in.npz", args.threads, args.seconds]
                for form, file in forms(peer, precision, row, model, args.cache).items()}
    return commands, count_work(model, feed)


def choose_forms(commands, environment):
    """(contender, precision) -> (name of its fastest form, command line, times of all forms).

    A peer may fail in one of several forms, or in all: then the precision goes without it.
    """
    chosen = {}
    for contender, by_form in commands.items():
        times = dict.fromkeys(by_form, 0) if len(by_form) == 1 else {}
        for form, command in by_form.items() if not times else ():
            try:
                times[form] = run_json(command, **environment)["median_ms"]
            except RuntimeError as error:
                print(f"{contender[0]}: without the form '{form}': {error}", file=sys.stderr)
        if not times:
            print("{}: {} runs in none of its forms".format(*contender), file=sys.stderr)
            if contender[0] == "mlopt":
                sys.exit(1)
            continue
        form = min(times, key=times.get)
        chosen[contender] = form, by_form[form], times
    return chosen


def limits_of(limits, rounds, work, precision):
    """What a run takes at least, by the best rates that the rounds saw; and the limit's share of
    mlopt's time, in which each round's multiply-adds are at the rate that is measured between its
    runs."""
    kind = ("fp32" if precision == "fp32" else "int8") + "_gmacs"
    compute = work["macs"] / max(l[kind] for l in limits) / 1e6
    read = (work["weights"] * WEIGHT_BYTES[precision] + work["input_bytes"]) / 1e6
    read /= statistics.median(l["read_gbs"] for l in limits)
    profiles = [r["profile"] for r in rounds]
    share = statistics.median(work["macs"] / p["limits"][kind] / 1e6 / p["run_ms"] for p in profiles)
    ms = statistics.median(r["median_ms"] for r in rounds)
    return {"compute_ms": compute, "read_ms": read, "limit_share": max(share, read / ms)}


def measure(args, row):
    """The row's results, one for each precision; none when files are all that is wanted."""
    commands, work = prepare(args, row)
    if args.prepare:
        return []
    cap = args.isa if args.isa != args.cpu else None
    environment = capped.environment(cap, args.cache) if cap else {}
    chosen = choose_forms(commands, environment)
    rounds, limits = {contender: [] for contender in chosen}, []
    for _ in range(args.rounds):
        limits.append(measure_limits(args, args.isa))
        for contender, (_, command, _) in chosen.items():
            rounds[contender].append(run_json(command, **environment))
    results = [{"row": row.name, "precision": precision, "isa": limits[0]["isa"],
                "threads": args.threads, **work,
                **limits_of(limits, rounds["mlopt", precision], work, precision),
                "contenders": {name: figures(rounds[name, precision], form, times)
                               for (name, p), (form, _, times) in chosen.items()
                               if p == precision}}
               for precision in own_forms(row)]
    for result in results:
        leave_out(result, capped=bool(cap))
    judge(row, results)
    return results


def figures(rounds, form, times):
    return {"form": form, "forms_ms": times, "median_ms": statistics.median(r["median_ms"] for r in rounds),
            "min_ms": min(r["min_ms"] for r in rounds), "avx512": rounds[0].get("avx512", [])}


def print_header(args, isa):
    if args.json or args.prepare:
        return
    print(f"{isa}, {args.threads} thread(s); medians in ms; ratio: the best peer's time by mlopt's")
    print(f"{'row':12} {'':4} {'mlopt':>9} {'':11} " +
          "".join(f" {peer:>9} {'':13}" for peer in PEERS) +
          f"{'ratio':>7} {'to any':>7} {'of limit':>9}  wanted", flush=True)


def print_result(args, result):
    if args.json:
        print(json.dumps(result), flush=True)
        return
    columns = "".join(" " + column(result["contenders"].get(peer)) for peer in PEERS)
    ratios = " ".join(f"{r:6.2f}x" if r else f"{'-':>7}"
                      for r in (result["ratio"], result["ratio_any"]))
    print(f"{result['row']:12} {result['precision']:4} "
          f"{result['contenders']['mlopt']['median_ms']:9.3f} "
          f"{result['contenders']['mlopt']['form']:11}{columns}"
          f"{ratios} {result['limit_share']:8.0%}   {text_of(result)}", flush=True)
    for remark in remarks(result):
        print(f"{'':17} ({remark})", flush=True)


def column(figure):
    """A peer's time and form; in brackets where it does not count."""
    if not figure:
        return f"{'-':>9} {'':13}"
    time = f"{figure['median_ms']:.3f}"
    return f"{'(' + time + ')' if figure.get('left_out') else time:>9} {figure['form']:13}"


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", nargs="?", help="an ONNX file instead of the rows of the bench")
    parser.add_argument("--dim", action="append", default=[], metavar="NAME=V")
    parser.add_argument("--only", metavar="ROW", help="rows whose name matches, e.g. 'minilm*'")
    parser.add_argument("--isa", choices=LEVELS, help="cap the level (default: this CPU's)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of timed runs per process")
    parser.add_argument("--json", action="store_true", help="one object a line for each result")
    parser.add_argument("--prepare", action="store_true", help="make all files, measure nothing")
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="mlopt's build folder")
    parser.add_argument("--cache", type=Path, help="models and artefacts (default: BUILD/bench/peers)")
    return parser.parse_args()


def main():
    args = parse()
    args.cache = args.cache or args.build / "bench/peers"
    isa = args.cpu = measure_limits(args)["isa"]
    rows = [r for r in ROWS if not args.only or fnmatch.fnmatch(r.name, args.only)]
    if args.model:
        dims = {k: int(v) for k, v in (d.split("=") for d in args.dim)}
        rows = [Row(Path(args.model).stem, args.model, "model", dims)]
    if not rows:
        sys.exit("no such row; there are " + ", ".join(r.name for r in ROWS))
    print_header(args, args.isa or isa)
    for row in rows:
        for result in measure(args, row):
            print_result(args, result)


if __name__ == "__main__":
    main()
