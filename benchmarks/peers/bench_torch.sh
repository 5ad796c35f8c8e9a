#!/bin/bash
# bench_torch.sh THREADS [op [case]]: PyTorch as installed (torch), with AVX-512 asked for (torch-avx512), and both with
# glibc told to keep freed memory (-m: no page faults on the outputs, which is what makes the large cases slow),
# and the aten operators from C++ (torch-cpp*, no Python in the figure).  TORCH_VARIANTS picks.
here=$(cd "$(dirname "$0")" && pwd); P=${PEERS:-$HOME/.cache/normlayers-peers}; T=$1; shift
M="MALLOC_MMAP_THRESHOLD_=8589934592 MALLOC_TRIM_THRESHOLD_=68719476736 MALLOC_TOP_PAD_=67108864"; export OMP_NUM_THREADS=$T
for v in ${TORCH_VARIANTS:-torch torch-avx512 torch-m torch-avx512-m torch-cpp-m torch-cpp-avx512-m}; do
  e="ATEN_CPU_CAPABILITY=avx2"; [[ $v == *avx512* ]] && e="ATEN_CPU_CAPABILITY=avx512"; [[ $v == *-m ]] && e="$e $M"
  if [[ $v == torch-cpp* ]]; then env $e $P/bin/bench_torch $here/cases.tsv $T $v "$@"; else env $e TORCH_INFO=1 /usr/bin/python3 $here/bench_torch.py $v $T "$@"; fi
done
