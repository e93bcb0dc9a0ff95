# SPDX-FileCopyrightText: 2026 The PiKV Authors
# SPDX-License-Identifier: Apache-2.0
#
# cmake -DSCRIPT=layering.cmake -DTEMP=<directory> -P layering_test.cmake: the script passes what is
# allowed and catches what is not, one planted line at a time.
cmake_minimum_required(VERSION 3.25)

# plant(path line result): a tree of one file with one line; the script must give `result`.
function(plant path line expected)
  file(REMOVE_RECURSE ${TEMP})
  file(WRITE ${TEMP}/${path} "${line}\n")
  execute_process(COMMAND ${CMAKE_COMMAND} -DROOT=${TEMP} -P ${SCRIPT}
                  RESULT_VARIABLE status ERROR_VARIABLE text OUTPUT_QUIET)
  if(expected STREQUAL passes AND NOT status EQUAL 0)
    message(SEND_ERROR "${path} may contain ${line}, but: ${text}")
  elseif(expected STREQUAL fails AND (status EQUAL 0 OR NOT text MATCHES "${path}"))
    message(SEND_ERROR "${path} must not contain ${line}: ${status} ${text}")
  endif()
endfunction()

plant(kernels/a.hpp "#include \"kernels/common/view.hpp\"" passes)
plant(kernels/a.hpp "#include \"core/base/ids.hpp\"" fails)
plant(core/cache/a.hpp "#include \"core/policy/codec.hpp\"" passes)
plant(core/policy/a.hpp "#include \"core/cache/kv_cache.hpp\"" fails)
plant(core/model/a.cpp "#include \"core/engine/engine.hpp\"" fails)
plant(core/engine/a.cpp "#include \"scheduling/tables.hpp\"" fails)
plant(core/other/a.cpp "#include \"kernels/rope.hpp\"" fails)
plant(routing/a.cpp "#include \"core/engine/engine.hpp\"" passes)
plant(routing/a.cpp "#include \"compression/tables.hpp\"" fails)
plant(distillation/a.cpp "#include \"launch/options.hpp\"" fails)
plant(launch/a.cpp "#include \"scheduling/tables.hpp\"" passes)
plant(launch/a.cpp "#include \"tests/support/random.hpp\"" fails)
plant(core/base/a.cpp "#include \"sibling.hpp\"" fails)
plant(core/comm/mpi/a.cpp "#include <mpi.h>" passes)
plant(core/comm/a.cpp "  #  include <mpi.h>" fails)
plant(core/comm/mpi/a.cpp "#include <nccl.h>" fails)
plant(kernels/cuda/a.cu "#include <cuda_runtime.h>" passes)
plant(core/comm/nccl/a.cpp "#include <cuda_runtime.h>" passes)
plant(kernels/common/a.hpp "#include <cublas_v2.h>" fails)
plant(kernels/cpu/a.cpp "#include <cblas.h>" passes)
plant(core/model/a.cpp "#include <cblas.h>" fails)
plant(core/base/a.cpp "#include <CLI/CLI.hpp>" fails)
plant(launch/a.cpp "#include <gtest/gtest.h>" fails)
plant(core/io/a.hpp "#include <boost/container/flat_map.hpp>" fails)
plant(kernels/a.cpp "#ifdef PIKV_WITH_CUDA" fails)
plant(launch/a.cpp "#if defined(PIKV_WITH_MPI)" fails)
plant(kernels/a.hpp "#if defined(__AVX512F__)" passes)
file(REMOVE_RECURSE ${TEMP})
