#!/bin/bash
# bench_onednn.sh THREADS [op [case]]: oneDNN as found: the newer build if there is one, and Debian's 2.6.3.
here=$(cd "$(dirname "$0")" && pwd); P=${PEERS:-$HOME/.cache/normlayers-peers}
export OMP_NUM_THREADS=$1 OMP_PROC_BIND=true
[ -x $P/bin/bench_onednn ] && $P/bin/bench_onednn $here/cases.tsv "$@"
[ -n "$ONLY_NEW" ] || $P/bin/bench_onednn2 $here/cases.tsv "$@"
