// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The symbols of core/comm/nccl in a build without NCCL.
#include "core/comm/communicator.hpp"
#include "core/comm/row_exchange.hpp"
#include "kernels/common/error.hpp"

namespace pikv {

bool nccl_is_built() { return false; }

std::unique_ptr<Communicator> make_nccl_communicator(Communicator&, Exec&,
                                                     std::chrono::milliseconds) {
  throw NotBuilt("make_nccl_communicator: built without NCCL");
}

std::unique_ptr<RowExchange> make_nccl_row_exchange(Communicator&, Exec&,
                                                    std::chrono::milliseconds) {
  throw NotBuilt("make_nccl_row_exchange: built without NCCL");
}

}  // namespace pikv
