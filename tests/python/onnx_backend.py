"""onnx_backend -- ONNX's backend node tests against mlopt.backend, judged against a baseline.

  onnx_backend.py                    all tests; fails when one of onnx_backend.passing no longer
                                     passes, or one is neither passed nor refused cleanly
  onnx_backend.py --filter REGEX     the tests whose name it finds;  --every N: each N-th of them
  onnx_backend.py --dims symbolic    inputs whose sizes are known at run time only
  onnx_backend.py --dims frozen      all inputs are constants: the compiler folds everything
  onnx_backend.py --dims weights     all inputs but the first are constants, its sizes symbolic
  onnx_backend.py --update           writes onnx_backend.passing and docs/onnx-support.md

Every test runs in a worker process: a crash costs one test, not the run.
"""
import argparse
import collections
import multiprocessing
import multiprocessing.connection
import pathlib
import re
import resource
import signal
import sys
import time
import warnings

HERE = pathlib.Path(__file__).resolve().parent
BASELINE = HERE / "onnx_backend.passing"
TABLE = HERE.parent.parent / "docs" / "onnx-support.md"
SECONDS = 60  # for one test
ADDRESS_SPACE = 8 << 30
HALF_RTOL = 2**-9  # two units in the last place: expected values of f16 are rounded at every step

# kind: pass; unsupported, refused (by another message of the library), wrong, error, crash
Outcome = collections.namedtuple("Outcome", "kind text")


def load_cases():
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sorted(load_model_tests(kind="node"), key=lambda case: case.name)


# ---- one test ----

def symbolic(model):
    """The model with symbols for its inputs' sizes but 1, and outputs without types."""
    result = type(model)()
    result.CopyFrom(model)
    for value in result.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_value != 1:
                dim.dim_param = f"{value.name}_{axis}"
    for value in result.graph.output:
        value.ClearField("type")
    return result


def prepare(case, dims, options):
    import mlopt.backend

    names = [v.name for v in case.model.graph.input]
    if dims in ("frozen", "weights"):
        options = dict(options, freeze=names[dims == "weights":])
    model = symbolic(case.model) if dims in ("symbolic", "weights") else case.model
    return mlopt.backend.prepare(model, "CPU", **options)


def judge(case, dims, options):
    """Runs one test in this process."""
    import mlopt
    from onnx.backend.test.runner import Runner, _normalize_tensor

    try:
        for inputs, expected in case.data_sets:
            outputs = prepare(case, dims, options).run([_normalize_tensor(x) for x in inputs])
            expected = [_normalize_tensor(x) for x in expected]
            half = any(getattr(x, "dtype", None) == "float16" for x in expected)
            Runner.assert_similar_outputs(expected, outputs, atol=case.atol,
                                          rtol=max(case.rtol, HALF_RTOL) if half else case.rtol)
    except mlopt.UnsupportedError as e:
        return Outcome("unsupported", str(e))
    except mlopt.Error as e:
        return Outcome("refused", str(e))
    except AssertionError as e:
        return Outcome("wrong", str(e))
    except Exception as e:  # whatever it is, it is one test's result
        return Outcome("error", f"{type(e).__name__}: {e}")
    return Outcome("pass", "")


def work(connection, cases, *settings):
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        index = connection.recv()
        if index is None:
            return
        connection.send(judge(cases[index], *settings))


# ---- all tests ----

class Worker:
    def __init__(self, cases, settings):
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=work, args=(theirs, cases, *settings))
        self.process.start()
        theirs.close()
        self.index = None

    def give(self, index):
        self.index, self.start = index, time.monotonic()
        self.pipe.send(index)

    def outcome(self):
        """The test's outcome, None while it runs; a worker that died is left with `process` dead."""
        if self.pipe.poll():
            try:
                return self.pipe.recv()
            except EOFError:
                self.process.join()
                code = self.process.exitcode
                return Outcome("crash", signal.Signals(-code).name if code < 0 else f"exit {code}")
        if time.monotonic() - self.start > SECONDS:
            self.process.kill()
            self.process.join()
            return Outcome("crash", f"no result after {SECONDS} s")
        return None

    def stop(self):
        if self.process.is_alive():
            self.pipe.send(None)
        self.process.join()


def run_all(cases, jobs, *settings):
    multiprocessing.set_start_method("fork")  # workers share the tests' data
    outcomes = {}
    left = list(reversed(range(len(cases))))
    workers = []
    while left or workers:
        while left and len(workers) < jobs:
            workers.append(Worker(cases, settings))
            workers[-1].give(left.pop())
        multiprocessing.connection.wait([w.pipe for w in workers], timeout=1)
        for worker in list(workers):
            outcome = worker.outcome()
            if outcome is None:
                continue
            outcomes[cases[worker.index].name] = outcome
            if worker.process.is_alive() and left:
                worker.give(left.pop())
            else:
                worker.stop()
                workers.remove(worker)
    return outcomes


# ---- what came out ----

def reason(text):
    """The message without what is special to one test: path, node, numbers of other nodes."""
    text = re.sub(r"input '[^']*' (has element type|is no tensor)", r"an input \1", text)
    errors = [line for line in text.split("\n") if ": error: " in line and "see above" not in line]
    line = errors[0] if errors else text.split("\n")[0]
    return re.sub(r" \[\w+, in [^\]]*\]$", "", line.split("error: ", 1)[-1])


def operator(case):
    """The operator a test is about: what most of its name says, else its only node's."""
    nodes = [n.op_type for n in case.model.graph.node]
    plain = case.name.replace("test_", "", 1).replace("_", "").lower()
    named = [n for n in nodes if plain.startswith(n.lower())]
    return max(named or nodes, key=len)


def table(cases, outcomes):
    """docs/onnx-support.md."""
    per_operator = collections.defaultdict(list)
    reasons = collections.defaultdict(list)
    for case in cases:
        outcome = outcomes[case.name]
        per_operator[operator(case)].append(outcome.kind == "pass")
        if outcome.kind != "pass":
            reasons[f"{outcome.kind}: {reason(outcome.text)}"].append(case.name)
    passed = sum(o.kind == "pass" for o in outcomes.values())
    from onnx import __version__
    lines = ["# ONNX support", "",
             "Written by `tests/python/onnx_backend.py --update`: ONNX's backend node tests "
             f"(onnx {__version__}) run through `mlopt.backend`.", "",
             f"**{passed} of {len(cases)} pass.** The others are refused with the reasons below.",
             "", "## Operators", "", "| operator | passed | of |", "|---|---:|---:|"]
    for name in sorted(per_operator):
        results = per_operator[name]
        lines.append(f"| {name} | {sum(results)} | {len(results)} |")
    lines += ["", "## Reasons", "", "| tests | reason | for example |", "|---:|---|---|"]
    for text in sorted(reasons, key=lambda t: (-len(reasons[t]), t)):
        names = reasons[text]
        lines.append(f"| {len(names)} | {text.replace('|', chr(92) + '|')} | {names[0]} |")
    return "\n".join(lines) + "\n"


def report(outcomes, dims, verbose):
    """Prints what is worth reading; the number of tests that fail."""
    fixed = dims == "fixed"  # else sizes or values are hidden or known that a model may rely on
    expected = set(BASELINE.read_text().split()) if fixed else set()
    good = {"pass", "unsupported"} if fixed else {"pass", "unsupported", "refused"}
    failures = 0
    for name, outcome in sorted(outcomes.items()):
        bad = outcome.kind not in good or (name in expected and outcome.kind != "pass")
        failures += bad
        if bad or (verbose and outcome.kind != "pass"):
            print(f"{outcome.kind}\t{name}\t{outcome.text.strip()}")
    kinds = collections.Counter(outcome.kind for outcome in outcomes.values())
    print(", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())))
    new = [n for n, o in outcomes.items() if fixed and o.kind == "pass" and n not in expected]
    if new:
        print(f"{len(new)} pass that are not in {BASELINE.name}: --update")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filter", default="", metavar="REGEX")
    parser.add_argument("--every", type=int, default=1, metavar="N")
    parser.add_argument("--dims", choices=("fixed", "symbolic", "frozen", "weights"), default="fixed")
    parser.add_argument("--jobs", type=int, default=2, metavar="N")
    parser.add_argument("-O", default="1", help="level to compile at (default: 1)")
    parser.add_argument("--update", action="store_true")
    parser.add_argument("-v", "--verbose", action="store_true", help="print refusals too")
    args = parser.parse_args()

    cases = load_cases()
    chosen = [c for c in cases if re.search(args.filter, c.name)][::args.every]
    outcomes = run_all(chosen, args.jobs, args.dims, {"O": args.O, "threads": 1})
    failures = report(outcomes, args.dims, args.verbose)
    if args.update and (len(chosen) < len(cases) or args.dims != "fixed"):
        sys.exit("--update needs all tests as they are")
    if args.update:
        passing = [c.name for c in cases if outcomes[c.name].kind == "pass"]
        BASELINE.write_text("\n".join(passing) + "\n")
        TABLE.write_text(table(cases, outcomes))
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
