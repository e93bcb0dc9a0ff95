// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The basis in which the first coordinates of rows keep most, for every rank at once.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/policy/row_moments.hpp"

namespace pikv::compression {

struct FittedBasis {
  std::vector<float> in, out;  // [D, D], see core/policy/basis.hpp
  std::vector<float> mean;     // [D]; empty unless centred
  std::vector<float> energy;   // [D], weighted mean squares of the coordinates, descending
};

/// Minimises, for every r, the mean over rows x of (x - x') W (x - x')^T, x' being x with its
/// coordinates from r on set to zero, over all linear (centred: affine) maps of rank r (Eckart and
/// Young 1936). W [D, D] is positive definite: the second moments of what meets the rows - of the
/// queries for keys, so that scores are kept; of the output projection for values - or empty: the
/// identity. A thousandth of W's mean is added along its diagonal. Throws InvalidArgument where no
/// row was seen or numbers are not finite.
[[nodiscard]] FittedBasis fit_basis(const RowMoments& rows, std::span<const double> weights,
                                    bool centred);

/// The coordinates are the channels themselves, in descending order of E[x_c^2] W_cc: with the
/// second moments of queries as W, the criterion by which ThinK (Xu et al. 2024, 2407.21018, eq. 4)
/// prunes channels of keys, over a text instead of a prompt. `energy` is that product. Throws
/// InvalidArgument where no row was seen.
[[nodiscard]] FittedBasis order_channels(const RowMoments& rows, std::span<const double> weights);

/// The least rank that keeps this share of the energy.
[[nodiscard]] std::int64_t rank_for(double share, std::span<const double> energy);

}  // namespace pikv::compression
