# SPDX-FileCopyrightText: 2026 The PiKV Authors
# SPDX-License-Identifier: Apache-2.0
#
# Installs this build under a prefix of its own, and builds and runs a small project that finds it
# there. cmake -D BUILD_DIR= -D WORK_DIR= -D SOURCE_DIR= -D GENERATOR= -D COMPILER= -D BUILD_TYPE=
#       -D FLAGS= -D MODEL= -P install_test.cmake

file(REMOVE_RECURSE ${WORK_DIR})
file(MAKE_DIRECTORY ${WORK_DIR})

# run(what command ...): stops the test with what the command printed if it fails.
function(run what)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE text ERROR_VARIABLE text)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${what} failed (${status}):\n${text}")
  endif()
  set(text "${text}" PARENT_SCOPE)
endfunction()

run("Installing" ${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${WORK_DIR}/prefix)
run("Configuring a consumer"
    ${CMAKE_COMMAND} -S ${SOURCE_DIR} -B ${WORK_DIR}/build -G ${GENERATOR}
    -D CMAKE_CXX_COMPILER=${COMPILER} -D CMAKE_BUILD_TYPE=${BUILD_TYPE}
    -D CMAKE_CXX_FLAGS=${FLAGS} -D CMAKE_PREFIX_PATH=${WORK_DIR}/prefix)
run("Building a consumer" ${CMAKE_COMMAND} --build ${WORK_DIR}/build)
run("Running a consumer" ${WORK_DIR}/build/consumer ${MODEL})
if(NOT text STREQUAL "qwen3_moe of 6 layers\n")
  message(FATAL_ERROR "The consumer printed: ${text}")
endif()

# The installed headers must do without the source tree, and the program must run.
if(NOT EXISTS ${WORK_DIR}/prefix/include/pikv/core/model/model_config.hpp)
  message(FATAL_ERROR "The headers are not under include/pikv")
endif()
run("Running the installed program" ${WORK_DIR}/prefix/bin/pikv --version)

# Its shapes are its own, not those of the source tree.
execute_process(COMMAND ${WORK_DIR}/prefix/bin/pikv bench-decode --shape none-such
                RESULT_VARIABLE status ERROR_VARIABLE text OUTPUT_VARIABLE text)
string(FIND "${text}" "${WORK_DIR}/prefix" at)
string(FIND "${text}" "qwen3-30b-a3b" known)
if(NOT status EQUAL 2 OR at EQUAL -1 OR known EQUAL -1)
  message(FATAL_ERROR "The installed program does not know its shapes (${status}):\n${text}")
endif()
