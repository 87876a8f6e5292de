#!/usr/bin/env bash
# Puts faults back into the library, one at a time, and looks whether the simulated tests catch each.
#
#   scripts/canaries.sh [NAME...]      all of tests/canaries by default; a NAME is a file there without `.patch`
#
# A copy of the checkout in a temporary folder is patched, built and tested: the checkout itself stays as it is. It fails if
# the tests fail without any patch, if a canary survives, and if a patch no longer applies or no longer builds: a build
# that fails catches nothing. CANARY_SEEDS worlds are searched (400), and a run has CANARY_SECONDS (120), after which it
# counts as caught: without a patch it must end within that time. It needs cargo, patch and timeout, and no network.
set -Eeuo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
seeds=${CANARY_SEEDS:-400}
seconds=${CANARY_SECONDS:-120}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
copy=$work/checkout
mkdir "$copy"
cd "$root"
git ls-files -z --cached --others --exclude-standard | tar --null --ignore-failed-read -cf - -T - 2>/dev/null | tar -xf - -C "$copy"
cd "$copy"

# Dependencies are built once, and stay for the next time.
export CARGO_TARGET_DIR=${CANARY_TARGET:-$root/target/canaries}
options=(--offline --no-default-features --features sim --config profile.dev.opt-level=1)
# Those in straight lines go first: they are quick, and say what is wrong.
tests=()
for path in tests/simulated_*.rs tests/simulated.rs; do
    [[ -f $path ]] && tests+=(--test "$(basename "$path" .rs)")
done

build() { nice cargo test "${options[@]}" "${tests[@]}" --no-run >"$work/build" 2>&1; }
run() { OREAD_SEEDS=$seeds timeout "$seconds" cargo test "${options[@]}" "${tests[@]}" >"$work/run" 2>&1; }

# The first test that failed, and the seed that did it, where one did.
culprit() {
    local name seed
    name=$(sed -nE 's/^test (.*) \.\.\. FAILED$/\1/p' "$work/run" | head -1)
    seed=$(sed -nE "s/^to replay it: OREAD_SIM='([^']*)'.*/\1/p" "$work/run" | head -1)
    echo "${name:-a run without an end}${seed:+ ($seed)}"
}

if ! build || ! run; then
    echo "canaries: without any patch the tests fail, or take longer than $seconds s:" >&2
    tail -30 "$work/run" "$work/build" >&2 || true
    exit 1
fi
[[ $# -gt 0 ]] || set -- $(cd tests/canaries && ls -- *.patch)

failed=0
for name; do
    name=$(basename "$name" .patch)
    patch=$copy/tests/canaries/$name.patch
    if ! patch -p1 -F3 -s --dry-run <"$patch" >"$work/patch" 2>&1; then
        echo "$name: DOES NOT APPLY"
        failed=1
        continue
    fi
    patch -p1 -F3 -s --no-backup-if-mismatch <"$patch"
    start=$SECONDS
    code=0
    if ! build; then
        echo "$name: DOES NOT BUILD"
        failed=1
    else
        run || code=$?
        case $code in
            0) echo "$name: SURVIVED" && failed=1 ;;
            # cargo's own answer to a test that failed, and timeout's to a run without an end.
            101 | 124) echo "$name: caught in $((SECONDS - start)) s by $(culprit)" ;;
            *) echo "$name: the run ended with $code, which is no verdict" && failed=1 ;;
        esac
    fi
    patch -p1 -F3 -s -R --no-backup-if-mismatch <"$patch"
done
exit "$failed"
