"""student -- smaller models that give what a model gives: prune() and distill()."""
import ctypes
import os

from .compiler import Watch, _check, _context, _file, _options
from .library import (ON_DISTILL, ON_PRUNE, SCORE, DistillHooks, Plugin, PruneHooks, Score,
                      library)

_ABI = 2


def prune(model, target, output, calib, progress=None, score=None, **options):
    """Writes a smaller model to `output`: ONNX, or IR text where the name ends with .mlt.

    target: what the option prune takes: 2 (layers), "25%", "1.5x", "12MB"
    calib: {input name: array} of samples along axis 0, without labels
    progress: called with {"what", "step", "steps", "loss", "seconds"} before each candidate;
        False ends it with an Error of the tag "canceled"
    score: called with {"layer", "kind", "node", "parameters", "seconds", "loss"} for each part
        that could go; what it returns is used in the place of "loss": parts of the least sum go
    options: those of compile(); distill=5 trains what is left
    """
    with _asked(model, calib, ON_PRUNE, progress, score, options) as (context, path, settings):
        _check(context, library.ml_prune(context, path, settings, str(target).encode(),
                                         os.fsencode(output)))


def distill(model, output, calib, student=None, progress=None, **options):
    """Writes a student that is trained to give the model's results to `output`, as prune() does.

    student: 4 (so many layers), "0,1,2,5" (these); None: what the option prune leaves
    progress: called with {"step", "steps", "loss", "error", "agreement", "best", "seconds",
        "left"} now and then; False ends the training, and the best student so far is written
    options: those of compile(): distill=5 (minutes), distill_steps=300, seed=1, teacher="big.onnx"
    """
    with _asked(model, calib, ON_DISTILL, progress, None, options) as (context, path, settings):
        _check(context, library.ml_distill(
            context, path, settings, None if student is None else str(student).encode(),
            os.fsencode(output)))


class _asked:
    """What both calls need, for as long as they run."""

    def __init__(self, model, calib, kind, progress, score, options):
        self._parts = [_context(), _file(model)]
        self._calib, self._kind, self._score, self._options = calib, kind, score, options
        self._caught = Watch(progress)

    def __enter__(self):
        self._open = []
        context, path = (self._begin(part) for part in self._parts)
        settings = self._begin(_options(context, {}, self._calib, self._options,
                                        Watch()))
        self._watch(context, settings)
        return context, path, settings

    def __exit__(self, kind, value, trace):
        while self._open:
            self._open.pop().__exit__(None, None, None)
        return self._caught.__exit__(None, None, None)

    def _begin(self, part):
        value = part.__enter__()
        self._open.append(part)
        return value

    def _watch(self, context, settings):
        self._lent = []  # the library calls them until the end
        if self._caught.progress is not None:
            on = self._kind(self._caught.goes_on())
            self._lent.append(on)
            if self._kind is ON_PRUNE:
                library.ml_options_prune(settings, PruneHooks(None, on))
            else:
                library.ml_options_distill(settings, DistillHooks(None, on))
        if self._score is not None:
            on = self._caught.safely(lambda p: float(self._score(p)), float("nan"))
            scores = (Score * 1)(Score(b"own", b"", SCORE(on), None))
            plugin = Plugin(_ABI, b"python", None, 0, scores, 1, None, 0)
            self._lent += [scores, plugin]
            _check(context, library.ml_options_plugin(settings, plugin))
            _check(context, library.ml_options_set(settings, b"prune-score", b"own"))
