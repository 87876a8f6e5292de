"""Plots a soak: memory, descriptors and latency over time, as three SVG files.

    plot.py FOLDER OUT      reads FOLDER/samples.csv and FOLDER/probes.csv, writes OUT/soak-*.svg

Needs matplotlib. The files have no background, and greys and colours that stand out from white as well as from black.
"""

import csv
import pathlib
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, MaxNLocator

INK = "#7d8590"
BLUE, ORANGE, GREEN = "#388bfd", "#d9730d", "#2da44e"
# More points than this are not told apart on a plot of this width; of several that fall together the highest is shown.
MOST_POINTS = 500
MIB = 1 << 20

plt.rcParams.update({
    # Text stays text: small, and in the reader's own font.
    "svg.fonttype": "none",
    # The same ids whenever the same figures are plotted.
    "svg.hashsalt": "oread",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "axes.grid": True,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "legend.labelcolor": INK,
})


def table(path):
    """The columns of a file of figures; what is empty is no figure."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) if row[name] else float("nan") for row in rows] for name in rows[0]} if rows else {}


def thinned(times, values):
    """At most so many points, and the highest of those that fall together."""
    width = -(-len(times) // MOST_POINTS)
    starts = range(0, len(times), width)
    return [times[at] for at in starts], [max(values[at : at + width]) for at in starts]


def line(axes, data, name, label, color, unit=1.0):
    minutes = [at / 60 for at in data["at_s"]]
    axes.plot(*thinned(minutes, [value / unit for value in data[name]]), label=label, color=color)


def rates(data, name):
    """What a growing count adds in a second, between each two samples."""
    times, counts = data["at_s"], data[name]
    between = [(b - a) / (t - s) for a, b, s, t in zip(counts, counts[1:], times, times[1:])]
    return {"at_s": times[1:], name: between}


def thousands(value, _):
    return f"{value:,.0f}" if value >= 1 or value == 0 else f"{value:g}"


def figure(rows=1, height=3.2, ratios=None):
    drawn, axes = plt.subplots(rows, 1, sharex=True, figsize=(8, height), layout="constrained",
                               gridspec_kw={"height_ratios": ratios} if ratios else None)
    return drawn, axes


def finish(drawn, axes, path):
    for each in drawn.axes:
        each.margins(x=0.01)
        if len(each.lines) > 1:
            # Beside the plot: there it covers nothing, whatever the figures are.
            each.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.2)
    axes.set_xlabel("minutes")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    drawn.savefig(path, transparent=True, metadata={"Date": None})
    plt.close(drawn)


def memory(samples, out):
    drawn, axes = figure()
    line(axes, samples, "rss", "resident", BLUE, MIB)
    line(axes, samples, "anonymous", "anonymous", ORANGE, MIB)
    line(axes, samples, "held", "of that, kept for\npeers: output\nand input", GREEN, MIB)
    axes.set_title("Memory of the server, MiB")
    axes.set_ylim(bottom=0)
    finish(drawn, axes, out / "soak-memory.svg")


def descriptors(samples, out):
    drawn, (axes, below) = figure(2, 4.2, [3, 2])
    line(axes, samples, "descriptors", "descriptors", BLUE)
    axes.set_title("Open descriptors of the server")
    axes.yaxis.set_major_formatter(FuncFormatter(thousands))
    axes.set_ylim(bottom=0)
    accepted = rates(samples, "accepted")
    # The ramp accepts a thousand a second, and would press what follows flat.
    accepted = {name: values[1:] for name, values in accepted.items()}
    line(below, accepted, "accepted", "accepted", GREEN)
    below.set_title("Connections accepted, a second")
    below.set_ylim(bottom=0)
    finish(drawn, below, out / "soak-descriptors.svg")


def latency(samples, probes, out):
    drawn, (axes, below) = figure(2, 5.0, [3, 2])
    if probes:
        line(axes, probes, "p99_9", "p99.9", ORANGE, 1e6)
        line(axes, probes, "p99", "p99", GREEN, 1e6)
        line(axes, probes, "p50", "p50", BLUE, 1e6)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(thousands))
    axes.set_title("Latency of the probes, from when a message was due, ms")
    line(below, rates(samples, "busy_s"), "busy_s", "whole machine", INK)
    line(below, rates(samples, "ours_s"), "ours_s", "the soak", ORANGE)
    line(below, rates(samples, "cpu_s"), "cpu_s", "of that, the server", BLUE)
    below.set_title("Processors busy")
    below.set_ylim(bottom=0)
    finish(drawn, below, out / "soak-latency.svg")


def main():
    if len(sys.argv) != 3:
        sys.exit("plot.py FOLDER OUT")
    folder, out = map(pathlib.Path, sys.argv[1:])
    samples = table(folder / "samples.csv")
    probes = table(folder / "probes.csv") if (folder / "probes.csv").stat().st_size > 2 else {}
    memory(samples, out)
    descriptors(samples, out)
    latency(samples, probes, out)


if __name__ == "__main__":
    main()
