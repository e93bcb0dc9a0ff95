// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A flag in memory that the ranks of a machine share: raising it needs no rank that still answers.
#pragma once

#include <mpi.h>

#include <atomic>
#include <exception>

#include "kernels/common/error.hpp"

namespace pikv {

class MachineFlag {
 public:
  /// A collective. Throws CommError.
  MachineFlag() {
    MPI_Comm machine = MPI_COMM_NULL;
    check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine));
    int rank = 0;
    check(MPI_Comm_rank(machine, &rank));
    const MPI_Aint bytes = rank == 0 ? sizeof(int) : 0;
    int* mine = nullptr;
    check(MPI_Win_allocate_shared(bytes, sizeof(int), MPI_INFO_NULL, machine, &mine, &window_));
    MPI_Aint found = 0;
    int unit = 0;
    check(MPI_Win_shared_query(window_, 0, &found, &unit, &flag_));
    if (rank == 0) std::atomic_ref(*flag_).store(0);
    check(MPI_Barrier(machine));
    check(MPI_Comm_free(&machine));
  }
  /// A collective, but while an exception is on its way: then peers may be gone.
  ~MachineFlag() {
    if (std::uncaught_exceptions() == 0) MPI_Win_free(&window_);
  }
  MachineFlag(const MachineFlag&) = delete;
  MachineFlag& operator=(const MachineFlag&) = delete;

  /// True for the first who raises it.
  [[nodiscard]] bool raise() { return std::atomic_ref(*flag_).exchange(1) == 0; }

 private:
  static void check(int status) {
    if (status != MPI_SUCCESS) throw CommError("mpi: the ranks of a machine share no memory");
  }

  MPI_Win window_ = MPI_WIN_NULL;
  int* flag_ = nullptr;
};

}  // namespace pikv
