#!/usr/bin/env bash
# After a build: exports a layer of each kind with `normlayers export`, runs the model in ONNX Runtime, and compares with `normlayers run`.
# Needs node and npm, which fetches ONNX Runtime; where that cannot be had it says that it skips, and succeeds.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PEERS=${PEERS:-$HOME/.cache/normlayers-peers}
skip() { echo "skipped: $1"; exit 0; }
command -v npm > /dev/null || { (apt-get update && apt-get install -y --no-install-recommends nodejs npm) > /dev/null 2>&1 || true; }
command -v npm > /dev/null || skip 'npm is not here and could not be installed'
mkdir -p "$PEERS/ort"
if [ ! -e "$PEERS/ort/node_modules/onnxruntime-node" ]; then
  (cd "$PEERS/ort" && npm init -y && npm install onnxruntime-node@1.30.0 --ignore-scripts) > /dev/null 2>&1 || skip 'npm could not install onnxruntime-node'
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
normlayers() { artifacts/bin/NormLayers.Cli/debug/NormLayers.Cli "$@"; }
x=examples/data/ppocr-v4-rec/05_layer_x.npy # (2, 40, 120)
# ONNX Runtime's LRN takes four dimensions only: the same elements as (2, 40, 10, 12), in a header of the same length.
sed '1s/(2, 40, 120), }      /(2, 40, 10, 12), }   /' "$x" > "$work/images.npy"
count=0
while IFS='|' read -r layer options; do
  count=$((count + 1))
  case $layer in LocalResponseNorm* | *2d*) x=$work/images.npy ;; esac
  # shellcheck disable=SC2086
  normlayers export "$layer" --output "$work/$count.onnx" $options
  normlayers run "$work/$count.onnx" --node output --input "$x" --output "$work/$count.npy"
  node benchmarks/peers/check_onnx.js "$work/$count.onnx" "$x" "$work/$count.npy"
done << LAYERS
LayerNorm(120)|--weights examples/data/ppocr-v4-rec/parameters.safetensors --prefix layer_norm_43
LayerNorm((40, 120), eps=1e-3)|
RMSNorm(120, eps=1e-6)|
GroupNorm(8, 40)|
InstanceNorm1d(40, affine=True)|
BatchNorm1d(40)|
BatchNorm2d(40)|
LocalResponseNorm(5, alpha=0.1)|
LAYERS
echo "$count exported layers agree with ONNX Runtime"
