// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A rank that never answers ends the wait of the others, with its name. A program of its own,
// because the deadline of a job is set when MPI starts. Exit code 0: as it should be.
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

#include "core/comm/communicator.hpp"
#include "kernels/common/error.hpp"

namespace pikv {
namespace {

constexpr std::chrono::milliseconds kDeadline{1000};
constexpr std::chrono::milliseconds kAbsence{4000};

/// Whether the exchange ended as it should for a rank whose last peer stays away.
bool times_out_naming(Communicator& comm, int lost) {
  std::vector<Message> send = make_messages(comm);
  std::vector<Message> received = make_messages(comm);
  const auto start = std::chrono::steady_clock::now();
  try {
    comm.all_to_all_v(send, received, "roll call");
    std::printf("rank %d: nobody was missed\n", comm.rank());
  } catch (const Timeout& error) {
    const auto waited = std::chrono::steady_clock::now() - start;
    const std::string text = error.what();
    const std::string expected = "rank " + std::to_string(lost) + " to send";
    if (text.starts_with("roll call") && text.find(expected) != std::string::npos &&
        waited >= kDeadline && waited < kAbsence) {
      return true;
    }
    std::printf("rank %d: %s\n", comm.rank(), error.what());
  }
  return false;
}

}  // namespace
}  // namespace pikv

int main() {
  const auto comm = pikv::make_mpi_communicator({.deadline = pikv::kDeadline});
  const int lost = comm->size() - 1;
  comm->barrier();
  bool good = true;
  if (comm->rank() == lost) {
    std::this_thread::sleep_for(pikv::kAbsence);
    // Takes, too late, what was sent to it; MPI_Finalize would wait for that.
    std::vector<pikv::Message> send = pikv::make_messages(*comm);
    std::vector<pikv::Message> received = pikv::make_messages(*comm);
    comm->all_to_all_v(send, received, "roll call");
  } else {
    good = pikv::times_out_naming(*comm, lost);
  }
  return good ? 0 : 1;
}
