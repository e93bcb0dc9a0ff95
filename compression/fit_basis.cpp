// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "compression/fit_basis.hpp"

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <functional>
#include <numeric>

#include "kernels/common/error.hpp"

namespace pikv::compression {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ConstMap = Eigen::Map<const Matrix>;

constexpr double kRidge = 1e-3;  // of the mean of a diagonal

std::vector<float> to_floats(const Matrix& m) { return {m.data(), m.data() + m.size()}; }

/// L with W = L L^T, after the ridge.
Matrix root_of(std::span<const double> weights, std::int64_t dim) {
  if (weights.empty()) return Matrix::Identity(dim, dim);
  Matrix w = ConstMap(weights.data(), dim, dim);
  w.diagonal().array() += kRidge * w.trace() / static_cast<double>(dim) + 1e-30;
  const Eigen::LLT<Matrix> decomposition(w);
  require(decomposition.info() == Eigen::Success, "fit_basis", "the weights are not positive");
  return decomposition.matrixL();
}

}  // namespace

FittedBasis fit_basis(const RowMoments& rows, std::span<const double> weights, bool centred) {
  require(rows.count > 0, "fit_basis", "no rows");
  const std::int64_t dim = rows.dim;
  const auto n = static_cast<double>(rows.count);
  Eigen::RowVectorXd mean = Eigen::RowVectorXd::Zero(dim);
  if (centred) mean = Eigen::Map<const Eigen::RowVectorXd>(rows.sum.data(), dim) / n;
  const Matrix second = ConstMap(rows.products.data(), dim, dim) / n - mean.transpose() * mean;
  require(second.allFinite(), "fit_basis", "rows have numbers that are not finite");
  const Matrix root = root_of(weights, dim);
  const Eigen::SelfAdjointEigenSolver<Matrix> solver(root.transpose() * second * root);
  require(solver.info() == Eigen::Success, "fit_basis", "the eigenvalues did not converge");
  const Matrix axes = solver.eigenvectors().rowwise().reverse();  // largest first

  FittedBasis basis;
  basis.in = to_floats(root * axes);
  basis.out = to_floats(axes.transpose() *
                        root.triangularView<Eigen::Lower>().solve(Matrix::Identity(dim, dim)));
  if (centred) basis.mean = to_floats(mean);
  basis.energy = to_floats(solver.eigenvalues().reverse().cwiseMax(0.0));
  return basis;
}

FittedBasis order_channels(const RowMoments& rows, std::span<const double> weights) {
  require(rows.count > 0, "fit_basis", "no rows");
  const auto dim = static_cast<std::size_t>(rows.dim);
  std::vector<double> worth(dim);
  for (std::size_t c = 0; c < dim; ++c) {
    worth[c] = rows.products[c * (dim + 1)] / static_cast<double>(rows.count);
    if (!weights.empty()) worth[c] *= weights[c * (dim + 1)];
  }
  std::vector<std::size_t> order(dim);
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::greater<>{}, [&](std::size_t c) { return worth[c]; });
  FittedBasis basis;
  basis.in.assign(dim * dim, 0.0f);
  basis.out = basis.in;
  for (std::size_t i = 0; i < dim; ++i) {
    basis.in[order[i] * dim + i] = 1.0f;
    basis.out[i * dim + order[i]] = 1.0f;
    basis.energy.push_back(static_cast<float>(worth[order[i]]));
  }
  return basis;
}

std::int64_t rank_for(double share, std::span<const double> energy) {
  const double total = std::accumulate(energy.begin(), energy.end(), 0.0);
  double kept = energy[0];
  std::size_t rank = 1;
  while (rank < energy.size() && kept < share * total) kept += energy[rank++];
  return static_cast<std::int64_t>(rank);
}

}  // namespace pikv::compression
