"""verdict.py -- which figures of a row count, and whether the row holds what is wanted of it."""

ENOUGH = 0.9  # of the limit: a row that near to it holds whatever the peers do


def best_peer(result, names=None):
    """The shortest time of the peers that count, or of those named; None without any."""
    times = [v["median_ms"] for k, v in result["contenders"].items()
             if k != "mlopt" and not v.get("left_out") and (names is None or k in names)]
    return min(times, default=None)


def leave_out(result, capped):
    """Where a level caps the contenders, marks the peers of which it is evident that they use more.

    Evident is what a peer says itself (its products and convolutions need AVX-512, which no cap
    below it allows), or a time that the capped arithmetic cannot have at the best of clocks.
    """
    for name, figure in result["contenders"].items():
        if not capped or name == "mlopt":
            continue
        beyond = figure["avx512"] if "512" not in result["isa"] else []
        if beyond:
            figure["left_out"] = "not capped: " + ", ".join(beyond)
        elif figure["median_ms"] < result["compute_ms"]:
            figure["left_out"] = "not capped: faster than the level's arithmetic"


def ratio_to(ms, time):
    return ms / time if ms else None


def wanted_of(row, precision, isa):
    """Peer ("best", or a name: its best of any precision) -> wanted ratio."""
    by_level = row.wanted_avx2 if isa == "avx2" else {}
    wanted = by_level.get(precision, row.wanted.get(precision, {}))
    return wanted if isinstance(wanted, dict) else {"best": wanted}


def judge(row, results):
    """Adds ratios, wanted ratios and the verdict to the results of a row's precisions."""
    for result in results:
        ms = result["contenders"]["mlopt"]["median_ms"]
        any_best = [t for t in map(best_peer, results) if t]
        result["ratio"] = ratio_to(best_peer(result), ms)
        result["ratio_any"] = ratio_to(min(any_best, default=None), ms)
        result["wanted"], reached = {}, []
        for peer, least in wanted_of(row, result["precision"], result["isa"]).items():
            if peer == "best":
                ratio = result["ratio"]
            elif peer not in result["contenders"]:
                continue  # it runs the model in none of its forms
            else:
                times = [t for r in results if (t := best_peer(r, {peer}))]
                ratio = ratio_to(min(times, default=None), ms)
            result["wanted"][peer] = {"least": least, "ratio": ratio}
            reached.append(ratio is not None and ratio >= least)
        result["holds_by"] = (["ratio"] if reached and all(reached) else []) + (
            ["limit"] if result["limit_share"] >= ENOUGH else [])


def text_of(result):
    """"Such as "1.2x: holds by ratio" or "1.8x openvino: misses"."""
    if not result["wanted"]:
        return ""
    wanted = ", ".join(f"{w['least']}x" + ("" if peer == "best" else f" {peer}")
                       for peer, w in result["wanted"].items())
    if result["holds_by"]:
        return f"{wanted}: holds by " + " and ".join(result["holds_by"])
    open_ = any(w["ratio"] is None for w in result["wanted"].values())
    return f"{wanted}: " + ("open, no peer's figure counts" if open_ else "misses")


def remarks(result):
    """What the row has to say of figures that do not count, and of mlopt's other forms."""
    own = result["contenders"]["mlopt"]
    others = [f"mlopt {result['precision']} {form}: {ms:.3f} ms before the rounds"
              for form, ms in own["forms_ms"].items() if form != own["form"]]
    return others + [f"{name} {result['precision']} {figure['left_out']}"
            for name, figure in result["contenders"].items() if figure.get("left_out")]
