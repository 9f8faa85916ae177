#!/bin/sh
# Many seeds on each group protocol, and a table of what came of them:
#   integration-tests/chaos/campaign.sh [SEEDS [MINUTES [FIRST_SEED]]]
# The lines of all runs are in target/chaos/results.jsonl (RESULTS chooses another file); runs with violations keep their
# directories beside it. PROTOCOLS="consumer" takes one protocol, or several; OPTIONS="--no-cuts" are options of the program.
# A campaign that was interrupted goes on when it is started again: a seed that has a line of the same protocol, commit and
# options is not run once more. Remove the file to start again.
# Ends with 0 where no run had a violation.
set -u
seeds=${1:-20} minutes=${2:-1.5} first=${3:-1}
results=${RESULTS:-target/chaos/results.jsonl}
mkdir -p "$(dirname "$results")"
touch "$results"
cargo build --release -p keylane-chaos || exit 2
status=0
for protocol in ${PROTOCOLS:-classic cooperative consumer}; do
  # shellcheck disable=SC2086
  cargo run --release -q -p keylane-chaos -- --protocol "$protocol" --seed "$first" --seeds "$seeds" --minutes "$minutes" \
    --directory "$(dirname "$results")" --results "$results" ${OPTIONS:-} >/dev/null || status=1
done
cargo run --release -q -p keylane-chaos -- --table "$results"
exit $status
