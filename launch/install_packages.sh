#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The PiKV Authors
# SPDX-License-Identifier: Apache-2.0
#
# Installs what PiKV is built from, on Debian 12 or a relative of it. Asks for nothing.
set -euo pipefail

packages=(
  g++ cmake ninja-build ccache pkg-config
  libopenmpi-dev openmpi-bin libopenblas-dev libeigen3-dev libboost-dev libfmt-dev
  nlohmann-json3-dev libcli11-dev libpcre2-dev libutf8proc-dev libgtest-dev libbenchmark-dev
  xz-utils)

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
    missing+=("$package")
done
((${#missing[@]})) || exit 0

as_root=()
[[ $(id -u) == 0 ]] || as_root=(sudo)
echo "Installing: ${missing[*]}"
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends \
  "${missing[@]}" >/dev/null
