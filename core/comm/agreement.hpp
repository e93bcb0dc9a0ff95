// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Errors that all ranks agree on. What may fail on one rank alone (reading files, checking input)
// runs in `agree`; if it fails anywhere, every rank throws the same AgreedError, the job ends in
// order and rank 0 reports it once.
#pragma once

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <type_traits>

#include "core/comm/communicator.hpp"
#include "kernels/common/error.hpp"

namespace pikv {

/// The first failing rank's message. Bad input: exit code 2.
class AgreedError : public Error {
 public:
  using Error::Error;
};

namespace detail {
/// Throws AgreedError on every rank if `failure` is set on any.
void share_failure(Communicator& comm, const std::string* failure);
}  // namespace detail

template <class F>
auto agree(Communicator& comm, F&& f) {
  using Result = std::invoke_result_t<F>;
  std::string failure;
  try {
    if constexpr (std::is_void_v<Result>) {
      f();
      detail::share_failure(comm, nullptr);
      return;
    } else {
      Result result = f();
      detail::share_failure(comm, nullptr);
      return result;
    }
  } catch (const AgreedError&) {
    throw;
  } catch (const CommError&) {
    throw;
  } catch (const std::exception& error) {
    failure = error.what();
  }
  detail::share_failure(comm, &failure);
  throw Error("unreachable: sharing a failure throws");
}

}  // namespace pikv
