# SPDX-FileCopyrightText: 2026 The PiKV Authors
# SPDX-License-Identifier: Apache-2.0
#
# What every target of the project is compiled with, as one interface target.

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

if(PIKV_WITH_CUDA)
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90a)
  endif()
  enable_language(CUDA)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 13.0)  # cudaMemAdvise takes a cudaMemLocation
    message(FATAL_ERROR "The CUDA backend needs CUDA 13.0 or later; ${CMAKE_CUDA_COMPILER} is of "
                        "${CMAKE_CUDA_COMPILER_VERSION}. Without it: -DPIKV_WITH_CUDA=OFF")
  endif()
  # CMake 3.25 does not know how to ask nvcc for C++20; nvcc has no GNU dialect of it.
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  endif()
endif()

add_library(pikv_build_options INTERFACE)
target_compile_features(pikv_build_options INTERFACE cxx_std_20)
set(cxx_only "$<COMPILE_LANGUAGE:CXX>")
target_compile_options(
  pikv_build_options
  INTERFACE "$<${cxx_only}:-Wall;-Wextra;-Wconversion;-Wsign-conversion>"
            # Vectors wider than the machine's registers are passed in memory; we only pass them
            # between functions of one build.
            "$<${cxx_only}:-Wno-psabi>"
            "$<$<AND:${cxx_only},$<BOOL:${PIKV_WERROR}>>:-Werror>"
            "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra>"
            "$<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${PIKV_WERROR}>>:SHELL:-Werror all-warnings -Xcompiler=-Werror>"
            "$<$<AND:${cxx_only},$<BOOL:${PIKV_MARCH}>>:-march=${PIKV_MARCH}>")
if(PIKV_SANITIZE)
  target_compile_options(pikv_build_options
                         INTERFACE "$<${cxx_only}:-fsanitize=${PIKV_SANITIZE};-fno-omit-frame-pointer;-fno-sanitize-recover=all>")
  target_link_options(pikv_build_options INTERFACE "-fsanitize=${PIKV_SANITIZE}")
  # The frames that GCC 13 makes for this check are not aligned for its own vector instructions.
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND PIKV_SANITIZE MATCHES address)
    target_compile_options(pikv_build_options INTERFACE "$<${cxx_only}:--param=asan-use-after-return=0>")
  endif()
endif()

# pikv_add_library(name SOURCES...): one static library a folder.
function(pikv_add_library name)
  add_library(${name} STATIC ${ARGN})
  add_library(pikv::${name} ALIAS ${name})
  target_include_directories(${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
                                            $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/pikv>)
  target_compile_features(${name} PUBLIC cxx_std_20)
  target_link_libraries(${name} PRIVATE $<BUILD_INTERFACE:pikv_build_options>)
  set_property(GLOBAL APPEND PROPERTY PIKV_LIBRARIES ${name})
endfunction()
