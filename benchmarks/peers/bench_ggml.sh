#!/bin/bash
# bench_ggml.sh THREADS [op [case]]: the build of ggml's kernels that fits this processor (GGML_VARIANT picks another).
here=$(cd "$(dirname "$0")" && pwd); P=${PEERS:-$HOME/.cache/normlayers-peers}
if [ -z "$GGML_VARIANT" ]; then
  flags=$(grep -m1 '^flags' /proc/cpuinfo)
  case $flags in *avx512_bf16*) v=-zen4;; *avx512_vnni*) v=-icelake;; *avx512f*) v=-skylakex;; *) v=-haswell;; esac
  export GGML_VARIANT=$v
fi
$P/bin/bench_ggml $P/ggml/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64 $here/cases.tsv "$@"
