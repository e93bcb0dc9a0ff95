// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// RoPE of the queries and keys of new tokens and the way of these keys and their values into open
// pages, on a GPU in one launch (kernels/rope.hpp, kernels/kv_page.hpp).
#pragma once

#include "kernels/common/exec.hpp"
#include "kernels/kv_page.hpp"
#include "kernels/rope.hpp"

namespace pikv::kernels {

/// In place.
struct Rotations {
  RopeArgs queries;
  RopeArgs keys;
};

/// Each row and head of the keys is the key of one write and of no other.
struct RotateAndWriteArgs {
  Rotations rotations;
  WriteSlotsArgs writes;
};

/// Throws InvalidArgument where ropes or write_slots do, and unless there are as many writes as
/// rows and heads of keys.
void rotate_and_write(Exec& exec, const RotateAndWriteArgs& args);

/// Where nothing is to be written.
void rotate(Exec& exec, const Rotations& rotations);

namespace cuda {
void rotate_and_write(Exec& exec, const RotateAndWriteArgs& args);
}  // namespace cuda

}  // namespace pikv::kernels
