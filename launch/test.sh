#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The PiKV Authors
# SPDX-License-Identifier: Apache-2.0
#
# Sets up, builds everything with warnings as errors and runs the tests. With nvcc on the PATH the
# CUDA and NCCL code is compiled too; tests that need a GPU report skipped without one.
#
#   launch/test.sh              the release build, on 1, 2 and 4 ranks
#   launch/test.sh asan         the same tests on 3 ranks, under AddressSanitizer and
#                               UndefinedBehaviorSanitizer, the latter for all but their own sources
set -euo pipefail
cd "$(dirname "$0")/.."

preset=${1:-release}
if (($#)); then shift; fi
launch/install_packages.sh

# With a compiler cache the next run is cheap, wherever its checkout lies.
if command -v ccache >/dev/null; then
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache CMAKE_CUDA_COMPILER_LAUNCHER=ccache
  export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1
fi

with_cuda=OFF
by_preset=()
if [[ $preset == release ]]; then
  if command -v nvcc >/dev/null; then with_cuda=ON; fi
  # Programs with CUDA's libraries start slowly; what computes little is compiled sooner.
  by_preset=(-DPIKV_TEST_BY_PROGRAM=ON '-DPIKV_TEST_RANKS=1;2;4' -DPIKV_PROGRAM_FLAGS=-O1)
fi
# Kernels run on every GPU that they are for, from sm_80 on, but only Hopper's are assembled here.
cmake --preset "$preset" -DPIKV_WERROR=ON -DPIKV_BUILD_TESTS=ON -DPIKV_WITH_CUDA=$with_cuda \
  '-DCMAKE_CUDA_ARCHITECTURES=80-virtual;90a-real' "${by_preset[@]}" --log-level=WARNING
cmake --build --preset "$preset"

# Open MPI keeps memory until the process ends; only our own leaks count. Its frames are found by the
# slow unwinder alone, which the preset asks for under mpirun.
export LSAN_OPTIONS="suppressions=$PWD/tests/support/lsan.supp:print_suppressions=0"
# What is refused is refused before ranks talk; the release run has bad input on several ranks too.
if [[ $preset == asan ]]; then set -- --exclude-regex OnRanks3 "$@"; fi
ctest --test-dir "build/$preset" --output-on-failure -j "$(nproc)" "$@"
