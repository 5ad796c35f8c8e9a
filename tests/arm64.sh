#!/usr/bin/env bash
# The stored bits on Arm64, whose vectors have 128 bits, from an x64 machine: publishes the tests for it and runs those of the
# bits in QEMU. Installs nothing: the emulator and the four libraries that .NET asks for are unpacked into a folder that goes
# again. Says that it skips where they cannot be had (it takes Debian's or Ubuntu's archive, and NuGet's Arm64 runtime).
set -euo pipefail
cd "$(dirname "$0")/.."

skip() { printf 'skipped: %s\n' "$1"; exit 0; }
[ "$(uname -sm)" = 'Linux x86_64' ] || skip "this is $(uname -sm), not an x64 machine"
[ "$(command -v apt-get)" ] && [ "$(command -v dpkg)" ] || skip 'there is no apt-get'

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Packages of an architecture, unpacked; of a|b the first that there is.
unpack() {
  local architecture=$1 package choice; shift
  mkdir -p "$work/$architecture/partial"
  local options="-qq -oAPT::Architecture=$architecture -oAPT::Architectures=$architecture -oDir::State::Lists=$work/$architecture -oDir::Cache=$work/cache -oAPT::Sandbox::User=root"
  timeout 120 apt-get $options update || return 1
  for package in "$@"; do
    for choice in ${package//|/ }; do
      (cd "$work" && timeout 120 apt-get $options download "$choice" 2> /dev/null) && break
    done
    dpkg -x "$work/$choice"_*.deb "$work/root" || return 1
  done
}
unpack amd64 qemu-user-static || skip "the archive gave no emulator"
unpack arm64 libc6 libgcc-s1 libstdc++6 'libssl3t64|libssl3' || skip "the archive gave no libraries of Arm64"
[ -e "$work/root/lib" ] || ln -s usr/lib "$work/root/lib"

# Apart from the other builds, which would have to be restored again.
project="tests/NormLayers.Tests -p:ArtifactsPath=$work/artifacts -r linux-arm64 -p:SelfContained=true"
dotnet restore $project || skip "NuGet gave no runtime of Arm64"
dotnet publish $project --no-restore -c Release -p:RunAnalyzers=false -o "$work/app"
# QEMU sees code that changes only where it is written in its own place.
DOTNET_EnableWriteXorExecute=0 timeout 600 "$work/root/usr/bin/qemu-aarch64-static" -L "$work/root" "$work/app/NormLayers.Tests" --filter-class '*Bits*'
