// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>

#include "core/comm/communicator.hpp"
#include "kernels/common/error.hpp"
#include "launch/program.hpp"

int main(int argc, char** argv) {
  std::unique_ptr<pikv::Communicator> comm;
  try {
    comm = pikv::launched_by_mpi()
               ? pikv::make_mpi_communicator(pikv::mpi_options_from_environment())
               : pikv::make_single_communicator();
  } catch (const pikv::InvalidArgument& error) {
    // Every rank reads the same environment; the first one speaks for all.
    const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
    if (rank == nullptr || std::strcmp(rank, "0") == 0)
      std::fprintf(stderr, "pikv: %s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "pikv: %s\n", error.what());
    return 1;
  }
  return pikv::launch::run_command_line(argc, argv, *comm);
}
