#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The PiKV Authors
# SPDX-License-Identifier: Apache-2.0
#
# Sets up, builds and runs the main job: a mixture-of-experts model on four ranks finds a number that
# is hidden in two thousand tokens of a book. Further arguments go to `pikv generate`.
set -euo pipefail
cd "$(dirname "$0")/.."

launch/install_packages.sh
cmake --preset release -DPIKV_BUILD_TESTS=OFF --log-level=WARNING
cmake --build --preset release --target pikv

# As root and with fewer processors than ranks, Open MPI wants to be asked twice.
mpirun_flags=(--oversubscribe --bind-to none)
[[ $(id -u) != 0 ]] || mpirun_flags+=(--allow-run-as-root)

printf '\n%s' "$(tail -n 1 launch/demo_prompt.txt)"
mpirun -n "${PIKV_RANKS:-4}" "${mpirun_flags[@]}" build/release/launch/pikv generate \
  --model models/tiny-moe --prompt-file launch/demo_prompt.txt --max-tokens 32 --stop $'\n' "$@"
