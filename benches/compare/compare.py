"""Times the rows of the comparison, each in a process of ours, candle-transformers' and PyTorch's in turn.

Needs the standard library only; `run` calls it with the Python that has torch and the path of the Rust worker.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import agreement
from cores import available_cores

ROWS = ["sam_vit_b_encode", "mobile_sam_encode", "decode_64", "generate_32", "resnet18_b8", "resnet18_train_b32"]
# A row that takes minutes runs once.
SLOW = {"generate_32"}
SIDES = ["ours", "candle", "pytorch"]
# Each program takes all cores by its own rules, whatever was set for others.
THREADS = {"RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"}


class Failure(Exception):
    """A row that gave no result, and why."""


def options():
    parser = argparse.ArgumentParser(prog="benches/compare/run", description="Ours beside candle and PyTorch.")
    parser.add_argument("--json", action="store_true", help="print one line of JSON a row and nothing else")
    parser.add_argument("--only", metavar="NAME", choices=ROWS, help=f"one row of {', '.join(ROWS)}")
    parser.add_argument("--rounds", metavar="N", type=int, help="rounds of every row (3; 1 for generate_32)")
    parser.add_argument("--worker", type=Path, required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rounds is not None and options.rounds < 1:
        parser.error(f"argument --rounds: expected at least 1, got {options.rounds}")
    return options


def run(command, what):
    """The standard output of a worker."""
    environment = {name: value for name, value in os.environ.items() if name not in THREADS}
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    except OSError as error:
        raise Failure(f"{what}: {error}") from error
    if done.returncode != 0:
        shown = "\n".join(done.stderr.strip().splitlines()[-12:])
        raise Failure(f"{what} ended with status {done.returncode}\n{shown}")
    return done.stdout


def measure(command, what):
    """The report of a worker, or None where it cannot do the row."""
    lines = run(command, what).strip().splitlines()
    try:
        report = json.loads(lines[-1])
        if "skipped" in report:
            print(f"compare: {what} is left out: {report['skipped']}", file=sys.stderr)
            return None
        times = report["ms"]
        complete = times and all(time > 0 for time in times) and report["peak_mb"] > 0
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise Failure(f"{what} printed no report: {lines[-1:]}") from error
    if not complete:
        raise Failure(f"{what} reported no times: {report}")
    return report


def commands(worker, work, folder):
    python = Path(__file__).with_name("pytorch.py")
    return {
        "ours": [str(worker), "ours", work, str(folder)],
        "candle": [str(worker), "candle", work, str(folder)],
        "pytorch": [sys.executable, str(python), work, str(folder)],
    }


def time_row(work, rounds, worker):
    """The reports of every side, in the order of the rounds."""
    reports = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory(prefix="compare-") as folder:
        run([str(worker), "prepare", folder, work], f"{work}: preparing")
        by_side = commands(worker, work, folder)
        for number in range(rounds):
            first = number % len(SIDES)
            for side in SIDES[first:] + SIDES[:first]:
                print(f"compare: {work}, round {number + 1} of {rounds}, {side}", file=sys.stderr)
                report = measure(by_side[side], f"{work}: {side}")
                if report is not None:
                    reports[side].append(report)
            if number == 0 and reports["ours"] and reports["pytorch"]:
                same_work(work, reports["ours"][0], reports["pytorch"][0])
    return reports


def same_work(work, ours, pytorch):
    try:
        agreement.check(ours, pytorch)
    except (OSError, TypeError, ValueError) as error:
        raise Failure(f"{work}: ours and PyTorch did not do the same work: {error}") from error


def summary(work, reports):
    """What --json prints, and the ranges for the table."""
    times = {side: [time for report in reports[side] for time in report["ms"]] for side in SIDES}
    medians = {side: statistics.median(times[side]) if times[side] else None for side in SIDES}

    def ratio(over):
        return medians["ours"] / medians[over] if medians["ours"] and medians[over] else None

    row = {"work": work} | {f"{side}_ms": medians[side] for side in SIDES}
    row |= {"ours_over_pytorch": ratio("pytorch"), "ours_over_candle": ratio("candle")}
    row["peak_mb"] = max((report["peak_mb"] for report in reports["ours"]), default=None)
    return row, {side: (min(times[side]), max(times[side])) if times[side] else None for side in SIDES}


def cpu_model():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name") and ":" in line)
    return next(names, platform.processor() or platform.machine())


def machine():
    rustc = shutil.which("rustc")
    rustc = subprocess.run([rustc, "--version"], capture_output=True, text=True).stdout.strip() if rustc else "rustc ?"
    today = datetime.date.today().isoformat()
    return f"{cpu_model()}, {available_cores()} cores, {rustc}, torch {importlib.metadata.version('torch')}, {today}"


HEAD = ["work", "ours ms", "candle ms", "PyTorch ms", "ours/PyTorch", "ours/candle", "ours MB"]
WIDTHS = [18, 28, 28, 28, 12, 11, 8]


def line(cells):
    padded = (f"{cell:{align}{width}}" for cell, align, width in zip(cells, "<" + 6 * ">", WIDTHS))
    return "  ".join(padded)


def table_line(row, ranges):
    def time(side):
        if ranges[side] is None:
            return "-"
        return "{:.1f} ({:.1f}-{:.1f})".format(row[f"{side}_ms"], *ranges[side])

    def number(name, digits):
        return "-" if row[name] is None else f"{row[name]:.{digits}f}"

    ratios = [number(name, 2) for name in ("ours_over_pytorch", "ours_over_candle")]
    return line([row["work"], *map(time, SIDES), *ratios, number("peak_mb", 0)])


def main():
    chosen = options()
    if not chosen.json:
        print(f"{machine()}\nmedian (fastest-slowest) of all repetitions\n\n{line(HEAD)}", flush=True)
    failures = []
    for work in [chosen.only] if chosen.only else ROWS:
        rounds = chosen.rounds or (1 if work in SLOW else 3)
        try:
            row, ranges = summary(work, time_row(work, rounds, chosen.worker))
        except Failure as failure:
            print(f"compare: {failure}", file=sys.stderr)
            failures.append(work)
            continue
        print(json.dumps(row) if chosen.json else table_line(row, ranges), flush=True)
    if failures:
        sys.exit(f"compare: no result for {', '.join(failures)}")


if __name__ == "__main__":
    main()
