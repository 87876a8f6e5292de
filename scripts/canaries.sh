#!/usr/bin/env bash
# Puts faults back into the library, one at a time, and looks whether the simulated tests catch each.
#
#   scripts/canaries.sh [--all] [NAME...]     a NAME is a file of tests/canaries without `.patch`; none: all of them
#
# The head of each patch says what the fault is and, after `Caught by: `, which tests catch it: the file (`lib` for the
# library's own) and the test, a line for each. Only these are built and run. With --all every simulated test is, to find out
# what else catches a fault; those that search do so in OREAD_SEEDS seeds (300).
#
# It fails if a test fails without any patch, if a test that is named lets its fault live, and if a patch doesn't apply or
# doesn't build: a build that fails catches nothing. A run has CANARY_SECONDS (120), after which it counts as caught: without
# a patch it must end within that time.
#
# A copy of the checkout is patched, below target/canaries, where what is built stays for the next time. The checkout itself
# stays as it is. It needs cargo, patch and timeout, and no network once the dependencies are there. On two cores a canary takes
# three seconds, all of them nine minutes, and the first run a minute more; with --all a canary takes one or two minutes.
set -Eeuo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
seconds=${CANARY_SECONDS:-120}
all=''
if [[ ${1:-} == --all ]]; then
    all=1
    shift
fi

export CARGO_TARGET_DIR=$root/target/canaries CARGO_TERM_COLOR=never
unset OREAD_SIM OREAD_TRACE
copy=$CARGO_TARGET_DIR/checkout
mkdir -p "$CARGO_TARGET_DIR"
if ! mkdir "$copy" 2>/dev/null; then
    echo "canaries: another run is under way, or one that was killed has left $copy behind" >&2
    exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work" "$copy"' EXIT
cd "$root"
# All files are new (-m): what an earlier run has built of them is not taken for theirs.
git ls-files -z --cached --others --exclude-standard |
    tar --null --ignore-failed-read -cf - -T - 2>/dev/null | tar -xmf - -C "$copy"
cd "$copy"

options=(--offline --no-default-features --features sim --config profile.dev.debug=false)
if [[ -n $all ]]; then
    options+=(--config profile.dev.package.oread.opt-level=1)
    export OREAD_SEEDS=${OREAD_SEEDS:-300}
fi

# The tests that are to catch these canaries, as lines of `file test`; all of them: what their names begin with.
tests_for() {
    local name path
    if [[ -z $all ]]; then
        for name; do sed -n '/^---/q; s/^Caught by: //p' "tests/canaries/$name.patch"; done | sort -u
    else
        echo 'lib reactor::tests::simulated::'
        for path in tests/simulated*.rs; do echo "$(basename "$path" .rs) "; done
    fi
}

# cargo's option for a file of tests.
option() { [[ $1 == lib ]] && echo --lib || echo "--test=$1"; }

# Builds the files of these `file test` lines.
build() {
    local files
    mapfile -t files < <(cut -d' ' -f1 <<<"$1" | sort -u | while read -r file; do option "$file"; done)
    nice cargo test "${options[@]}" "${files[@]}" --no-run >"$work/build" 2>&1
}

# Runs these tests, a process for each file. What they say is in $work/run, their verdicts as `file test ok|FAILED` lines in
# $work/verdicts, and whatever else ended a run in $work/ends.
run() {
    local file code tests exact=--exact
    [[ -z $all ]] || exact=''
    : >"$work/run" >"$work/verdicts" >"$work/ends"
    for file in $(cut -d' ' -f1 <<<"$1" | sort -u); do
        mapfile -t tests < <(sed -n "s/^$file //p" <<<"$1")
        code=0
        timeout "$seconds" cargo test "${options[@]}" "$(option "$file")" -- $exact "${tests[@]}" >"$work/one" 2>&1 || code=$?
        sed -nE "s/^test (.*) \.\.\. (ok|FAILED)$/$file \1 \2/p" "$work/one" >>"$work/verdicts"
        case $code in
            0 | 101) grep -qE '^test result: ' "$work/one" || echo 'the run died' >>"$work/ends" ;;
            124) echo "a run without an end" >>"$work/ends" ;;
            *) echo "the run ended with $code" >>"$work/ends" ;;
        esac
        cat "$work/one" >>"$work/run"
    done
}

# The plan of the run that failed, where the test searched for one: it is told behind the name of the test.
seed_of() { sed -nE "s/^to replay it: env OREAD_SIM='([^']*)' .*[ :]${1##*::} -- --exact$/\1/p" "$work/run" | head -1; }

# row NAME SECONDS WHAT [PLAN]: a line of the table.
row() { printf '%-27s %7s  %s%s\n' "$1" "$2" "$3" "${4:+ ($4)}"; }

# One canary, which is in its cage again afterwards; false if it lives.
try() {
    local name=$1 patch=tests/canaries/$1.patch start=$SECONDS tests
    tests=$(tests_for "$name")
    if [[ -z $tests ]]; then
        row "$name" '' 'NAMES NO TEST' && return 1
    elif ! patch -p1 -F2 -s --dry-run <"$patch" >"$work/patch" 2>&1; then
        row "$name" '' 'DOES NOT APPLY' && return 1
    fi
    patch -p1 -F2 -s --no-backup-if-mismatch <"$patch"
    local code=0
    if build "$tests"; then
        run "$tests"
        judge "$name" "$tests" $((SECONDS - start)) || code=1
    else
        row "$name" $((SECONDS - start)) 'DOES NOT BUILD'
        grep -A8 '^error' "$work/build" || true
        code=1
    fi
    patch -p1 -F2 -s -R --no-backup-if-mismatch <"$patch"
    return "$code"
}

# The rows of a canary whose tests have run. All that are named must catch it; of all there are, one.
judge() {
    local name=$1 tests=$2 took=$3 lives='' line file test
    if [[ -n $all ]]; then
        tests=$(sed -n 's/ FAILED$//p' "$work/verdicts")
        [[ -n $tests || -s $work/ends ]] || lives=1
    fi
    while read -r file test; do
        if [[ -z $test ]]; then
            row "$name" "$took" "$(cat "$work/ends" - <<<"${lives:+LIVES}" | head -1)"
        elif grep -qxF "$file $test FAILED" "$work/verdicts"; then
            row "$name" "$took" "$file $test" "$(seed_of "$test")"
        elif grep -qxF "$file $test ok" "$work/verdicts" || [[ ! -s $work/ends ]]; then
            row "$name" "$took" "LIVES: $file $test"
            lives=1
        else
            row "$name" "$took" "$file $test: $(head -1 "$work/ends")"
        fi
        name='' took=''
    done <<<"$tests"
    [[ -z $lives ]]
}

# The tests without any patch: they must pass, and be there. Those that search do so in a hundred seeds: CI has them all.
control() {
    local tests start=$SECONDS unknown
    tests=$(tests_for "$@")
    build "$tests" || { cat "$work/build" >&2 && return 1; }
    OREAD_SEEDS=${OREAD_SEEDS:-100} run "$tests"
    if [[ -s $work/ends ]] || grep -q ' FAILED$' "$work/verdicts"; then
        echo 'canaries: without any patch tests fail, or take too long:' >&2
        cat "$work/ends" >&2
        grep ' FAILED$' "$work/verdicts" >&2
        return 1
    fi
    if [[ -z $all ]] && unknown=$(grep -vxFf <(sed 's/ ok$//' "$work/verdicts") <<<"$tests"); then
        echo "canaries: these tests are named and not there: $unknown" >&2
        return 1
    fi
    row none $((SECONDS - start)) "$(wc -l <"$work/verdicts") tests pass"
}

main() {
    local name names=() alive=0
    [[ $# -gt 0 ]] || set -- $(cd tests/canaries && ls -- *.patch)
    for name; do names+=("$(basename "$name" .patch)"); done
    row canary seconds 'caught by'
    control "${names[@]}" || exit 1
    for name in "${names[@]}"; do
        try "$name" || alive=$((alive + 1))
    done
    row all "$SECONDS" "$((${#names[@]} - alive)) of ${#names[@]} are caught"
    exit $((alive > 0))
}

main "$@"
