// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The twin of core/comm/mpi for builds without MPI.
#include "core/comm/communicator.hpp"
#include "kernels/common/error.hpp"

namespace pikv {

bool launched_by_mpi() { return false; }

bool mpi_is_built() { return false; }

std::unique_ptr<Communicator> make_mpi_communicator(const MpiOptions& /*options*/) {
  throw NotBuilt("mpi: built without MPI");
}

}  // namespace pikv
