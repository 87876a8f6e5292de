#!/usr/bin/env bash
# examples/resp.rs beside the real redis-server: requests a second, and what each costs the server.
#
#   benches/resp.sh [ROUNDS]          rates and processor time; the 15 rounds of the default take two minutes of a machine that
#                                     does nothing else, after a release build that may take longer
#   benches/resp.sh instructions      user-space instructions a request
#
# Rates: both servers run on core 0, and redis-benchmark on core 1, one run after the other. The servers alternate within a
# round, and who goes first alternates from round to round, so that what else the machine does hits both. Each figure
# is the median of the rounds; "ratio" is the median of the rounds' own ratios, ours to theirs. The rate is that of the
# slower side, which may be the client; the processor time is the server's alone, in user and kernel space together.
# A ratio above 1 is ours ahead in the rates, and behind in the processor time. -P 16 has redis-benchmark send 16 requests
# before it reads an answer. The example asks the poll for 20 us before it sleeps (`Limits::spin`), which Redis does not:
# that is part of its lead in the rates, and of its processor time.
#
# Instructions: callgrind's count for a run of 3N requests less that for N, divided by 2N. They don't move with what
# else the machine does.
#
# It needs Linux, cargo, redis-server, redis-cli, redis-benchmark, and taskset or valgrind.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

MODE=${1:-15}
CLIENTS=50
KEYS=100000
# Requests of a run, with `-P 1` and with `-P 16`: half a second each. Many short runs side by side tell more than
# a few long ones on a machine that does other things as well.
REQUESTS_1=40000
REQUESTS_16=600000
# N of the instructions.
FEW=16000

die() {
    echo "resp.sh: $*" >&2
    exit 1
}
[[ $MODE == instructions || $MODE =~ ^[1-9][0-9]*$ ]] || die "how many rounds is '$MODE'?"
for tool in cargo redis-server redis-cli redis-benchmark "$([[ $MODE == instructions ]] && echo valgrind || echo taskset)"; do
    command -v "$tool" >/dev/null || die "$tool is not installed"
done
(($(nproc) >= 2)) || die "it takes two cores: one for the server, one for the client"

cargo build --release --example resp
folder=$(mktemp -d)
declare -A pid port each
trap 'for id in "${pid[@]}"; do kill "$id" 2>/dev/null || true; done; wait; rm -r "$folder"' EXIT

# start SERVER PREFIX...: starts resp or redis under a tool, on a free port, and waits until it answers.
start() {
    local server=$1
    shift
    pid[$server]=
    port[$server]=1
    until redis-cli -p "${port[$server]}" ping >/dev/null 2>&1; do
        if ! kill -0 "${pid[$server]:-x}" 2>/dev/null; then
            # Redis does not listen on a port that is 0. If somebody has this one, it ends, and another is tried.
            port[$server]=$((20000 + RANDOM % 10000))
            local command=("$@")
            case $server in
            resp) command+=("${CARGO_TARGET_DIR:-target}/release/examples/resp" "127.0.0.1:${port[$server]}") ;;
            redis) command+=(redis-server --port "${port[$server]}" --save '' --appendonly no --dir "$folder") ;;
            esac
            "${command[@]}" >"$folder/$server" 2>&1 &
            pid[$server]=$!
        fi
        sleep 0.1
    done
}

# load SERVER TEST PIPELINE REQUESTS PREFIX...: the rate of one run.
load() {
    local server=$1 test=$2 pipeline=$3 requests=$4
    shift 4
    "$@" redis-benchmark -p "${port[$server]}" -t "$test" -P "$pipeline" -n "$requests" -c "$CLIENTS" -r "$KEYS" --csv \
        2>/dev/null | tail -n 1 | cut -d'"' -f4
}

# measured SERVER TEST PIPELINE: "rate nanoseconds", of one run.
measured() {
    local requests=REQUESTS_$3 before after rate
    requests=${!requests}
    read -r before _ <"/proc/${pid[$1]}/schedstat"
    rate=$(load "$@" "$requests" taskset -c 1)
    read -r after _ <"/proc/${pid[$1]}/schedstat"
    echo "$rate $(((after - before) / requests))"
}

# instructions SERVER TEST PIPELINE REQUESTS: sets `count` to those of a whole run, from start to end. It's not called in a
# subshell, so that the server is ended whatever happens.
instructions() {
    start "$1" valgrind --quiet --tool=callgrind "--callgrind-out-file=$folder/count"
    # So that GET finds what it asks for.
    load "$1" set 16 $((10 * KEYS)) >/dev/null
    load "$@" >/dev/null
    kill "${pid[$1]}"
    wait "${pid[$1]}" || true
    count=$(awk '/^(summary|totals):/ { print $2; exit }' "$folder/count")
}

tests=(ping_inline ping_mbulk set get)
if [[ $MODE == instructions ]]; then
    KEYS=1000
    printf '%-3s %-12s %9s %9s\n' -P '' resp redis
    for pipeline in 1 16; do
        for test in "${tests[@]}"; do
            for server in resp redis; do
                instructions "$server" "$test" "$pipeline" "$FEW"
                few=$count
                instructions "$server" "$test" "$pipeline" $((3 * FEW))
                each[$server]=$(((count - few) / (2 * FEW)))
            done
            printf '%-3s %-12s %9d %9d\n' "$pipeline" "$test" "${each[resp]}" "${each[redis]}"
        done
    done
    exit
fi

start resp taskset -c 0
start redis taskset -c 0
for ((round = 1; round <= MODE; round++)); do
    for pipeline in 1 16; do
        for test in "${tests[@]}"; do
            order=(resp redis)
            ((round % 2)) || order=(redis resp)
            for server in "${order[@]}"; do
                echo "$pipeline $test $server $(measured "$server" "$test" "$pipeline")"
            done
        done
    done
    echo "round $round of $MODE" >&2
done >"$folder/runs"

echo "medians of $MODE rounds, $CLIENTS clients, $KEYS keys, $(redis-server --version | cut -d' ' -f1-3)"
awk '
function median(text,    n, i, j, x, v) {
    n = split(text, v, " ")
    for (i = 2; i <= n; i++) { x = v[i] + 0; for (j = i - 1; j > 0 && v[j] + 0 > x; j--) v[j + 1] = v[j]; v[j + 1] = x }
    return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
}
{ key = $1 " " $2; if (!(key in seen)) { seen[key]; keys[++count] = key }
  rate[key, $3] = rate[key, $3] " " $4; time[key, $3] = time[key, $3] " " $5 }
END {
    printf "%-16s %31s   %31s\n", "", "requests a second", "ns of processor a request"
    printf "%-3s %-12s %11s %11s %7s   %11s %11s %7s\n", "-P", "", "resp", "redis", "ratio", "resp", "redis", "ratio"
    for (k = 1; k <= count; k++) {
        key = keys[k]; split(key, name, " "); ratios = ""; times = ""
        n = split(rate[key, "resp"], a, " "); split(rate[key, "redis"], b, " ")
        split(time[key, "resp"], c, " "); split(time[key, "redis"], d, " ")
        for (i = 1; i <= n; i++) { ratios = ratios " " a[i] / b[i]; times = times " " c[i] / d[i] }
        printf "%-3s %-12s %11d %11d %7.2f   %11d %11d %7.2f\n", name[1], name[2], median(rate[key, "resp"]),
            median(rate[key, "redis"]), median(ratios), median(time[key, "resp"]), median(time[key, "redis"]), median(times)
    }
}' "$folder/runs"
