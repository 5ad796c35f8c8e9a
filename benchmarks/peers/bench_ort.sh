#!/bin/bash
# bench_ort.sh THREADS [op [case]]
here=$(cd "$(dirname "$0")" && pwd); P=${PEERS:-$HOME/.cache/normlayers-peers}
$P/bin/bench_ort $P/ort/node_modules/onnxruntime-node/bin/napi-v6/linux/x64/libonnxruntime.so.1 $here/cases.tsv "$@"
