#!/usr/bin/env bash
# A soak of `oread serve`: thousands of connections that come and go, at about 70% of what the machine can do, with one peer
# in a hundred hostile, and every byte checked. Memory, descriptors and latency are sampled all the while.
#
#   scripts/soak.sh [SECONDS] [OPTION...]      1,800 seconds by default; the OPTIONs are those of scripts/soak/soak.py
#
# The results are written to target/soak/, the plots too. It fails, and says what and when, if a message is lost or changed,
# if the server's counters don't agree with those of the load and the hostile peers, if descriptors stay open, or if memory
# grows. It stays on loopback. It needs cargo, Linux, Python 3.11, and a limit of 20,000 descriptors for each process. The
# plots need matplotlib, which is installed below target/; where that can't be done there are no plots.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${1:-1800}
shift || true
out=target/soak
matplotlib='matplotlib==3.11.2'

cargo build --release --locked --bin oread
rm -rf "$out"
mkdir -p "$out"
# A copy: a build meanwhile must not change the program that is being soaked.
cp target/release/oread "$out/oread"
# The last commit that changed the program, and not what stands beside it.
revision=$(git log -1 --format=%h -- src Cargo.toml Cargo.lock 2>/dev/null || echo unknown)

code=0
python3 -B scripts/soak/soak.py --oread "$out/oread" --out "$out" --seconds "$seconds" --revision "$revision" "$@" || code=$?

plotter=python3
if ! python3 -c 'import matplotlib' 2>/dev/null; then
    plotter=target/soak-venv/bin/python
    { [[ -x $plotter ]] || python3 -m venv target/soak-venv; } &&
        "$plotter" -m pip install --quiet "$matplotlib" || plotter=''
fi
if [[ -z $plotter ]]; then
    echo "soak: no plots: $matplotlib can't be installed" >&2
elif [[ -s $out/samples.csv ]]; then
    "$plotter" scripts/soak/plot.py "$out" "$out"
fi
exit "$code"
