#!/usr/bin/env bash
# examples/resp.rs beside the real redis-server: requests a second, and the server's processor time for each.
#
#   benches/resp.sh [ROUNDS]          (5 rounds take two minutes on a machine with nothing else to do)
#
# Both servers run on core 0 and redis-benchmark on core 1, one run after the other: the two servers alternate within a
# round, and who goes first alternates from round to round, so that what else the machine does hits both. Each figure
# is the median of the rounds; "ratio" is the median of the rounds' own ratios, ours to theirs. Where the client is the
# slower side, the rates say little, and the processor time says it all: nanoseconds of the server's core for a request,
# in user and kernel space together.
#
# It needs Linux, cargo, and redis-server, redis-cli, redis-benchmark and taskset.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

ROUNDS=${1:-5}
CLIENTS=50
KEYS=100000
# Requests of a run, with `-P 1` and with `-P 16`: about a second each.
REQUESTS_1=80000
REQUESTS_16=800000

for tool in cargo redis-server redis-cli redis-benchmark taskset; do
    command -v "$tool" >/dev/null || {
        echo "resp.sh: $tool is not installed" >&2
        exit 1
    }
done
(($(nproc) >= 2)) || {
    echo "resp.sh: it takes two cores: one for the server, one for the client" >&2
    exit 1
}

cargo build --release --example resp
folder=$(mktemp -d)
declare -A pid port
trap 'kill "${pid[@]}" 2>/dev/null || true; wait; rm -r "$folder"' EXIT

taskset -c 0 "${CARGO_TARGET_DIR:-target}/release/examples/resp" 127.0.0.1:0 >"$folder/resp" &
pid[resp]=$!
until grep -q listening "$folder/resp"; do kill -0 "${pid[resp]}" && sleep 0.1; done
port[resp]=$(sed 's/.*://' "$folder/resp")
# A server that is told port 0 does not listen, so a port is tried until one is free.
until redis-cli -p "${port[redis]:-1}" ping >/dev/null 2>&1; do
    if ! kill -0 "${pid[redis]:-x}" 2>/dev/null; then
        port[redis]=$((20000 + RANDOM % 10000))
        taskset -c 0 redis-server --port "${port[redis]}" --save '' --appendonly no --dir "$folder" >"$folder/redis" &
        pid[redis]=$!
    fi
    sleep 0.1
done

# run SERVER TEST PIPELINE REQUESTS: "rate nanoseconds", of one run.
run() {
    local before after rate
    read -r before _ <"/proc/${pid[$1]}/schedstat"
    rate=$(taskset -c 1 redis-benchmark -p "${port[$1]}" -t "$2" -P "$3" -n "$4" -c "$CLIENTS" -r "$KEYS" --csv 2>/dev/null |
        tail -n 1 | cut -d'"' -f4)
    read -r after _ <"/proc/${pid[$1]}/schedstat"
    echo "$rate $(((after - before) / $4))"
}

for ((round = 1; round <= ROUNDS; round++)); do
    printf '\rround %d of %d' "$round" "$ROUNDS" >&2
    for pipeline in 1 16; do
        requests=REQUESTS_$pipeline
        for test in ping_inline ping_mbulk set get; do
            order=(resp redis)
            ((round % 2)) || order=(redis resp)
            for server in "${order[@]}"; do
                echo "$pipeline $test $server $(run "$server" "$test" "$pipeline" "${!requests}")"
            done
        done
    done
done >"$folder/runs"
printf '\r' >&2

echo "medians of $ROUNDS rounds, $CLIENTS clients, $KEYS keys, $(redis-server --version | cut -d' ' -f1-3)"
awk '
function median(text,    n, i, j, x, v) {
    n = split(text, v, " ")
    for (i = 2; i <= n; i++) { x = v[i] + 0; for (j = i - 1; j > 0 && v[j] + 0 > x; j--) v[j + 1] = v[j]; v[j + 1] = x }
    return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
}
{ key = $1 " " $2; if (!(key in seen)) { seen[key]; keys[++count] = key }
  rate[key, $3] = rate[key, $3] " " $4; time[key, $3] = time[key, $3] " " $5 }
END {
    printf "%-3s %-12s %31s   %31s\n", "", "", "requests a second", "ns of processor a request"
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
