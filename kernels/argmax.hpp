// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The largest element of each row, where the row is: greedy decoding then moves one number a token
// off the GPU and not a vocabulary of logits. The lowest index among equals (-0 equals 0); NaN is
// never chosen, unless the row begins with it or with nothing larger than -infinity, which then is:
// the choice of std::max_element, bit for bit on all backends and with any number of threads.
//
// Draws at a temperature are not here. A drawn token depends on a running sum over the vocabulary
// of exponentials that round otherwise on a GPU, and a text must not depend on where it was drawn:
// logits go to the host for it (core/engine/sampler.hpp).
#pragma once

#include <cstdint>

#include "kernels/common/exec.hpp"
#include "kernels/common/view.hpp"

namespace pikv::kernels {

struct ArgmaxArgs {
  View<const float, 2> x;         // [T, V], 0 < V < 2^31
  View<std::int32_t, 1> largest;  // [T], out: subscripts in [0, V)
};

void argmax(Exec& exec, const ArgmaxArgs& args);

namespace cpu {
void argmax(Exec& exec, const ArgmaxArgs& args);
}
namespace cuda {
void argmax(Exec& exec, const ArgmaxArgs& args);
}

}  // namespace pikv::kernels
