#!/usr/bin/env bash
# What it costs to depend on oread, and on what else one might take: crates, and seconds of a build from nothing.
#
#   benches/embedding.sh [RUNS]
#
# For each library it makes a package that depends on it, as somebody would who wants TCP and timers of it, with an empty
# `main`. oread and tokio are mostly generic code, which is compiled with whoever uses it: for them there's a second one, with
# an echo server for `main`. The crates are those of `cargo tree` for this machine: what is linked, and what only runs while
# building. The seconds are those of `cargo build` into a new target folder, after a fetch, with cargo's own profiles: wall
# clock and, in brackets, processor time, which other work on the machine moves less. Each is the least of RUNS runs (3 by
# default), which are made round by round, so that a busy minute hits all alike.
#
# Needs cargo, and a network or a filled cache; about 80 s of two idle cores a run. It leaves nothing behind.
set -Eeuo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
runs=${1:-3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset CARGO_TARGET_DIR RUSTFLAGS
export CARGO_INCREMENTAL=0 CARGO_TERM_COLOR=never CARGO_TERM_PROGRESS_WHEN=never
msrv=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")

# Name, its line of Cargo.toml, and its program where it's not an empty one.
oread="oread = { path = \"$root\", default-features = false }"
tokio='tokio = { version = "1", features = ["rt", "net", "io-util", "time"] }'
subjects=(
    'mio|mio = { version = "1", features = ["os-poll", "net"] }'
    "oread|$oread"
    "oread|$oread|$root/examples/embed.rs"
    'calloop|calloop = "0.14"'
    'message-io|message-io = { version = "0.19", default-features = false, features = ["tcp", "udp"] }'
    "tokio|$tokio"
    "tokio|$tokio|$folder/tokio.rs"
)

cat >"$folder/tokio.rs" <<'END'
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn main() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:7777").await?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    if stream.write_all(&buffer[..count]).await.is_err() {
                        break;
                    }
                }
            });
        }
    })
}
END

# crates EDGES: the crates below the package in the present folder, one `name version` a line.
crates() {
    cargo tree --quiet --offline --edges "$1" --prefix none --no-dedupe |
        awk '$1 != "tiny" { print $1, $2 }' | sort -u
}

# build LOG [OPTION]: builds from nothing, and adds a line of wall-clock, user and system seconds to LOG.
build() {
    local TIMEFORMAT='%R %U %S' log=$1
    shift
    rm -rf target
    { time cargo build --quiet --offline "$@" 2>errors.log; } 2>>"$log" || {
        cat errors.log >&2
        exit 1
    }
}

# least LOG: the least wall-clock and processor seconds of a log.
least() {
    awk '{ cpu = $2 + $3
           if (NR == 1 || $1 < wall) wall = $1
           if (NR == 1 || cpu < work) work = cpu }
         END { printf "%.1f (%.1f)", wall, work }' "$1"
}

for at in "${!subjects[@]}"; do
    IFS='|' read -r name dependency program <<<"${subjects[at]}"
    mkdir -p "$folder/$at/src"
    cd "$folder/$at"
    printf '[package]\nname = "tiny"\nversion = "0.0.0"\nedition = "2024"\nrust-version = "%s"\n\n[dependencies]\n%s\n' \
        "$msrv" "$dependency" >Cargo.toml
    if [[ -n $program ]]; then cp "$program" src/main.rs; else echo 'fn main() {}' >src/main.rs; fi
    cargo fetch --quiet
done

for ((run = 0; run < runs; run++)); do
    for at in "${!subjects[@]}"; do
        cd "$folder/$at"
        build dev.log
        build release.log --release
        rm -rf target
    done
done

printf '%s, %s processors, the least of %s runs\n\n' "$(rustc --version | cut -d' ' -f1,2)" "$(nproc)" "$runs"
printf '| %-20s | %-6s | %-10s | %-11s | %-11s |\n' library linked 'build only' 'dev, s' 'release, s'
echo '|---|---|---|---|---|'
for at in "${!subjects[@]}"; do
    IFS='|' read -r name _ program <<<"${subjects[at]}"
    cd "$folder/$at"
    linked=$(crates normal)
    all=$(crates normal,build | wc -l)
    version=$(awk -v name="$name" '$1 == name { print $2 }' <<<"$linked")
    count=$(wc -l <<<"$linked")
    printf '| %-20s | %6s | %10s | %11s | %11s |\n' "$name ${version#v}${program:+, echo}" "$count" "$((all - count))" \
        "$(least dev.log)" "$(least release.log)"
done
