# SPDX-FileCopyrightText: 2026 The PiKV Authors
# SPDX-License-Identifier: Apache-2.0
#
# cmake -DROOT=<repository> -P layering.cmake: fails, naming every line, when an include breaks the
# layering of DESIGN section 2, when a third-party header is outside its home, or when a source
# tests a feature macro.
cmake_minimum_required(VERSION 3.25)

set(folders kernels core routing compression scheduling distillation launch)

# What each folder may include. Inside core every part adds itself to the parts before it.
set(may_kernels kernels)
set(before kernels)
foreach(part base io comm policy cache model eviction engine)
  list(APPEND before core/${part})
  set(may_core/${part} ${before})
endforeach()
foreach(folder routing compression scheduling distillation)
  set(may_${folder} ${folder} core kernels)
endforeach()
set(may_launch ${folders})

# A header, and the only paths that may include it (regular expressions both).
set(homes
    "mpi\\.h" "^core/comm/mpi/"
    "nccl\\.h" "^core/comm/nccl/"
    "(cuda|cublas|cub/|thrust/|cooperative_groups|mma\\.h).*" "^(kernels/cuda|core/comm/nccl)/"
    "cblas\\.h" "^kernels/cpu/"
    "CLI/.*" "^launch/"
    "(gtest|gmock)/.*" "^tests/"
    "boost/.*" "\\.cpp$")

set(problems "")
foreach(folder ${folders})
  file(GLOB_RECURSE sources RELATIVE ${ROOT} ${ROOT}/${folder}/*.hpp ${ROOT}/${folder}/*.cpp
       ${ROOT}/${folder}/*.cu ${ROOT}/${folder}/*.cuh ${ROOT}/${folder}/*.in)
  foreach(source ${sources})
    set(part ${folder})
    if(source MATCHES "^(core/[a-z]+)/")
      set(part ${CMAKE_MATCH_1})
    endif()
    if(NOT DEFINED may_${part})
      list(APPEND problems "${source}: ${part} is not a part of the layering")
      continue()
    endif()

    file(STRINGS ${ROOT}/${source} directives REGEX "^[ \t]*#[ \t]*(include|if|ifdef|ifndef|elif)")
    foreach(line IN LISTS directives)
      if(line MATCHES "include[ \t]+\"([a-z]+/[^\"]+)\"")
        set(header ${CMAKE_MATCH_1})
        set(allowed FALSE)
        foreach(prefix ${may_${part}})
          string(FIND ${header} "${prefix}/" at)
          if(at EQUAL 0)
            set(allowed TRUE)
          endif()
        endforeach()
        if(NOT allowed)
          list(APPEND problems "${source}: ${part} may not include ${header}")
        endif()
      elseif(line MATCHES "include[ \t]+\"")
        list(APPEND problems "${source}: not included by its path from the root: ${line}")
      elseif(line MATCHES "include[ \t]+<([^>]+)>")
        set(header ${CMAKE_MATCH_1})
        set(left ${homes})
        while(left)
          list(POP_FRONT left pattern home)
          if(header MATCHES "^${pattern}$" AND NOT source MATCHES "${home}")
            list(APPEND problems "${source}: ${header} is outside its home ${home}")
          endif()
        endwhile()
      elseif(line MATCHES "PIKV_(WITH|HAVE|USE|ENABLE)_")
        list(APPEND problems "${source}: tests a feature macro: ${line}")
      endif()
    endforeach()
  endforeach()
endforeach()

if(problems)
  list(JOIN problems "\n  " text)
  message(FATAL_ERROR "layering:\n  ${text}")
endif()
