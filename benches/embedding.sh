#!/usr/bin/env bash
# What it costs to depend on oread, and on what else one might take: crates, and seconds of a build from nothing.
#
#   benches/embedding.sh [RUNS]
#
# For each library it makes a package that depends on it, as somebody would who wants TCP and timers of it, with an empty
# `main`. oread and tokio are mostly generic code, which is compiled with whoever uses it: for them there's a second line, with
# an echo server for `main`. The crates are those of `cargo tree` for this machine: what is linked, and what only runs while building. The
# seconds are those of `cargo build` into a new target folder, after a fetch, with cargo's own profiles: wall clock and, in
# brackets, processor time, which another user of the machine moves less. Each is the least of RUNS runs (3 by default).
#
# Needs cargo, and a network or a filled cache; about 80 s of two cores a run. It leaves nothing behind.
set -Eeuo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
runs=${1:-3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset CARGO_TARGET_DIR RUSTFLAGS
export CARGO_INCREMENTAL=0 CARGO_TERM_COLOR=never CARGO_TERM_PROGRESS_WHEN=never
msrv=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")

# Name, its line of Cargo.toml, and its program where it's not an empty one.
subjects=(
    'mio|mio = { version = "1", features = ["os-poll", "net"] }'
    "oread|oread = { path = \"$root\", default-features = false }"
    "oread|oread = { path = \"$root\", default-features = false }|$root/examples/embed.rs"
    'calloop|calloop = "0.14"'
    'message-io|message-io = { version = "0.19", default-features = false, features = ["tcp", "udp"] }'
    'tokio|tokio = { version = "1", features = ["rt", "net", "io-util", "time"] }'
    "tokio|tokio = { version = \"1\", features = [\"rt\", \"net\", \"io-util\", \"time\"] }|$folder/tokio.rs"
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

# seconds [OPTION]: the least wall-clock and processor seconds of a build from nothing.
seconds() {
    local TIMEFORMAT='%R %U %S' run
    for ((run = 0; run < runs; run++)); do
        rm -rf target
        { time cargo build --quiet --offline "$@" 2>build.log; } 2>&1 || { cat build.log >&2; return 1; }
    done | awk '
        { cpu = $2 + $3
          if (NR == 1 || $1 < wall) wall = $1
          if (NR == 1 || cpu < least) least = cpu }
        END { printf "%.1f (%.1f)", wall, least }'
}

printf '%s, %s processors, the least of %s runs\n\n' "$(rustc --version | cut -d' ' -f1,2)" "$(nproc)" "$runs"
printf '%-20s %7s %11s %13s %13s\n' library linked 'build only' 'dev, s' 'release, s'
for subject in "${subjects[@]}"; do
    IFS='|' read -r name dependency program <<<"$subject"
    rm -rf "$folder/tiny"
    mkdir -p "$folder/tiny/src"
    cd "$folder/tiny"
    printf '[package]\nname = "tiny"\nversion = "0.0.0"\nedition = "2024"\nrust-version = "%s"\n\n[dependencies]\n%s\n' \
        "$msrv" "$dependency" >Cargo.toml
    if [[ -n $program ]]; then cp "$program" src/main.rs; else echo 'fn main() {}' >src/main.rs; fi
    cargo fetch --quiet
    linked=$(crates normal)
    built=$(crates normal,build)
    version=$(awk -v name="$name" '$1 == name { print $2 }' <<<"$linked")
    count=$(wc -l <<<"$linked")
    printf '%-20s %7s %11s %13s %13s\n' "$name ${version#v}${program:+, echo}" "$count" "$(($(wc -l <<<"$built") - count))" \
        "$(seconds)" "$(seconds --release)"
done
