// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The faults of PiKV: broken contracts and broken machines. A fault is an exception; an expected
// outcome (a full pool, a miss) is a return value and never appears here.
//
// A message has up to four parts: the operation, what was seen, what is allowed, and the rank:
//   gate_topk: k = 9 exceeds num_experts = 8 (rank 3)
// The rank is added where the error is reported, because only that place knows it.
#pragma once

#include <source_location>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace pikv {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The caller or the user asked for something outside the contract.
class InvalidArgument : public Error {
 public:
  using Error::Error;
};

/// A file is missing, truncated, malformed or not what it says it is.
class BadFile : public Error {
 public:
  using Error::Error;
};

/// The operation exists, but not in this build (CUDA, NCCL or MPI was absent).
class NotBuilt : public Error {
 public:
  using Error::Error;
};

/// A budget or the machine's memory is exhausted; the message states the bytes.
class OutOfMemory : public Error {
 public:
  using Error::Error;
};

/// A peer or the transport failed.
class CommError : public Error {
 public:
  using Error::Error;
};

/// A wait passed its deadline.
class Timeout : public CommError {
 public:
  using CommError::CommError;
};

/// A CUDA, cuBLAS or driver call failed.
class CudaError : public Error {
 public:
  using Error::Error;
};

/// Joins values into a message; for code that may not depend on a formatting library.
template <class... Parts>
[[nodiscard]] std::string concat(Parts&&... parts) {
  std::ostringstream text;
  (text << ... << std::forward<Parts>(parts));
  return std::move(text).str();
}

/// Throws InvalidArgument("operation: parts...") unless `ok`. The parts are formatted only on
/// failure.
template <class... Parts>
void require(bool ok, const char* operation, const Parts&... parts) {
  if (!ok) [[unlikely]] {
    throw InvalidArgument(concat(operation, ": ", parts...));
  }
}

/// An invariant of our own that no input can break; a failure is a bug and says where.
inline void ensure(bool ok, const char* invariant,
                   std::source_location where = std::source_location::current()) {
  if (!ok) [[unlikely]] {
    throw Error(
        concat("broken invariant: ", invariant, " (", where.file_name(), ":", where.line(), ")"));
  }
}

}  // namespace pikv
