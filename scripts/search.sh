#!/usr/bin/env bash
# Searches the simulated network for longer than CI does: all searches of tests/simulated*.rs, and those of the load's
# generators in src/bin/oread, each in its share of seeds.
#
#   scripts/search.sh [FIRST [LAST]]     parts, numbered from 0; a part is about a million seeds; none: the part 0
#
# `scripts/search.sh 0 9` is ten million. Parts need not be run at once, nor on one machine: part N has the same seeds
# anywhere. A search's share is its number of seeds in CI times SEARCH_TIMES (37). It's built optimised and with all
# assertions. The first search that fails ends it, and shows how its run is replayed.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
first=${1:-0}
last=${2:-$first}
times=${SEARCH_TIMES:-37}
unset OREAD_SIM OREAD_TRACE

options=(--locked --release --no-default-features --features sim
    --config profile.release.debug-assertions=true --config profile.release.overflow-checks=true)

# The searches, a line each: the file of tests (`oread`: the program), the test, its seeds in CI. A test is one if all that it does is to check a
# function under 40 seeds or more.
searches() {
    local path file
    for path in tests/simulated*.rs tests/relay/*.rs src/bin/oread/load/generator/simulated.rs; do
        file=$(basename "$path" .rs)
        [[ $path == tests/relay/* ]] && file=simulated_relay
        [[ $path == src/bin/* ]] && file=oread
        awk -v file="$file" '
            /^ *fn / { name = $2; sub(/\(.*/, "", name) }
            /^ *check\(0\.\.[0-9]+, [a-z_]+\);$/ {
                seeds = $0; sub(/.*\.\./, "", seeds); sub(/,.*/, "", seeds)
                if (seeds + 0 >= 40) print file, name, seeds
            }' "$path"
    done
}

list=$(searches)
[[ -n $list ]] || { echo "search: no search is found in tests/" >&2; exit 1; }
# The flags that choose a file of tests.
target() {
    case $1 in
        oread) echo '--features cli --bin oread' ;;
        *) echo "--test $1" ;;
    esac
}

# shellcheck disable=SC2046  # a word for each file
cargo test "${options[@]}" --no-run $(awk '!seen[$1]++ && $1 != "oread" { print "--test", $1 }' <<<"$list")
all=0
for ((part = first; part <= last; part++)); do
    while read -r file name seeds; do
        from=$((part * seeds * times))
        to=$((from + seeds * times))
        began=$SECONDS
        # shellcheck disable=SC2046  # flags
        said=$(OREAD_SEEDS=$from..$to cargo test --quiet "${options[@]}" $(target "$file") -- "$name" </dev/null 2>&1) || {
            echo "$said"
            exit 1
        }
        [[ $said == *' 1 passed;'* ]] || { echo "search: $file has not one test $name" >&2; exit 1; }
        all=$((all + to - from))
        printf 'part %d: %s %s, seeds %d..%d, %d s\n' "$part" "$file" "$name" "$from" "$to" "$((SECONDS - began))"
    done <<<"$list"
done
printf 'all passed: %d seeds in %d s\n' "$all" "$SECONDS"
