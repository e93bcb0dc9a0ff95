// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/experts.cuh"
#include "kernels/cuda/experts_few_rows.cuh"
#include "kernels/cuda/experts_order.cuh"
#include "kernels/cuda/few_rows.cuh"
#include "kernels/cuda/launch.cuh"

namespace pikv::kernels::cuda {
namespace {

static_assert(kExpertRows == kFewRowsBlock);

constexpr int kWarps = 4;
constexpr int kAhead = 6;
constexpr int kBlocksPerMultiprocessor = 4;
using Rows = FloatRows<1>;
using Source = FewRowsSource<Rows>;
using Stream = FewRowsStream<Rows, kWarps, kAhead>;

struct Params {
  const float* __restrict__ x;  // [T, K]; of the second product [num_pairs, K]
  const ExpertMatrices* __restrict__ table;
  ExpertOrder order;
  float* __restrict__ out;   // [num_pairs, N]
  std::int64_t num_inputs;   // K
  std::int64_t num_outputs;  // N
  std::int32_t num_chosen;   // experts a row
  std::int32_t tiles_a_group;
};

/// Tiles of all groups, one after another, as one lane sees them. Of gate and up a tile has eight
/// rows each, so that sums which belong together meet in one lane.
template <bool kIsGateUp>
class Tiles {
 public:
  static constexpr int kOutputs = kIsGateUp ? kFewRowsOutputs / 2 : kFewRowsOutputs;

  __device__ __forceinline__ Tiles(const Params& params, std::int32_t first)
      : params_(params),
        group_idx_(first / params.tiles_a_group),
        tile_(first % params.tiles_a_group) {
    enter_group();
  }
  __device__ __forceinline__ void advance() {
    if (++tile_ < params_.tiles_a_group) return;
    tile_ = 0;
    ++group_idx_;
    enter_group();
  }

  [[nodiscard]] __device__ __forceinline__ Source source() const {
    const int g = static_cast<int>(threadIdx.x) % kWarpThreads / 4;
    const auto row_of = [&](const BFloat16* matrix, std::int64_t n) {
      return matrix + min(n, params_.num_outputs - 1) * params_.num_inputs;
    };
    const std::int64_t n = first_output() + g;
    return {row_of(upper_, n), kIsGateUp ? row_of(lower_, n) : row_of(upper_, n + 8), {{x_}}};
  }
  [[nodiscard]] __device__ __forceinline__ std::int64_t first_output() const {
    return std::int64_t{tile_} * kOutputs;
  }
  [[nodiscard]] __device__ __forceinline__ const ExpertGroup& group() const { return group_; }

 private:
  __device__ __forceinline__ void enter_group() {
    const int g = static_cast<int>(threadIdx.x) % kWarpThreads / 4;
    group_ = params_.order.groups[group_idx_];
    const ExpertMatrices& expert = params_.table[group_.expert];
    upper_ = static_cast<const BFloat16*>(kIsGateUp ? expert.gate : expert.down);
    if constexpr (kIsGateUp) lower_ = static_cast<const BFloat16*>(expert.up);
    x_ = nullptr;
    if (group_.begin + g >= group_.end) return;
    const std::int32_t pair = params_.order.pairs[group_.begin + g];
    const std::int64_t row = kIsGateUp ? pair / params_.num_chosen : pair;
    x_ = params_.x + row * params_.num_inputs;
  }

  const Params& params_;
  std::int32_t group_idx_;
  std::int32_t tile_;
  ExpertGroup group_;
  const BFloat16* upper_;
  const BFloat16* lower_;
  const float* x_;
};

/// sum + bias, if there is one.
__device__ __forceinline__ float plus_bias(float sum, const float* bias, std::int64_t n) {
  return bias == nullptr ? sum : sum + bias[n];
}

/// Outputs of the `count`-th tile of a block, whose sums are in shared memory.
template <bool kIsGateUp>
__device__ __forceinline__ void store(const Params& params, const Stream& stream, int count,
                                      const ExpertGroup& group, std::int64_t first_output) {
  constexpr int kOutputs = Tiles<kIsGateUp>::kOutputs;
  const int output = static_cast<int>(threadIdx.x) % kOutputs;
  const int row = static_cast<int>(threadIdx.x) / kOutputs;
  static_assert(kExpertRows * kOutputs <= Stream::kThreads);
  const std::int64_t n = first_output + output;
  if (row >= group.end - group.begin || n >= params.num_outputs) return;
  const ExpertMatrices& expert = params.table[group.expert];
  const std::int64_t pair = params.order.pairs[group.begin + row];
  float result = stream.total(count, row, output);
  if constexpr (kIsGateUp) {
    const float up = stream.total(count, row, output + kOutputs);
    result = silu(plus_bias(result, expert.gate_bias, n)) * plus_bias(up, expert.up_bias, n);
  } else {
    result = plus_bias(result, expert.down_bias, n);
  }
  params.out[pair * params.num_outputs + n] = result;
}

/// A block an equal part of all tiles, which is one stream of weights.
template <bool kIsGateUp>
__global__ void __launch_bounds__(Stream::kThreads, kBlocksPerMultiprocessor)
    product_kernel(const __grid_constant__ Params params) {
  extern __shared__ __align__(16) std::byte memory[];
  // The order was there before the launch that the second product waits for.
  if constexpr (kIsGateUp) wait_for_previous();
  const std::int64_t num_tiles = std::int64_t{*params.order.num_groups} * params.tiles_a_group;
  const auto begin = static_cast<std::int32_t>(num_tiles * blockIdx.x / gridDim.x);
  const auto end = static_cast<std::int32_t>(num_tiles * (blockIdx.x + 1) / gridDim.x);
  if (begin == end) {
    if constexpr (!kIsGateUp) wait_for_previous();
    return;
  }
  Stream stream(*reinterpret_cast<Stream::Shared*>(memory), params.num_inputs);
  Tiles<kIsGateUp> tiles(params, begin);
  Source source = tiles.source();
  stream.ask_for_weights(source);
  if constexpr (!kIsGateUp) wait_for_previous();
  stream.ask_for_rows(source);
  for (std::int32_t tile = begin; tile < end; ++tile) {
    const ExpertGroup group = tiles.group();
    const std::int64_t first_output = tiles.first_output();
    const bool has_next = tile + 1 < end;
    Source next{};
    if (has_next) {
      tiles.advance();
      next = tiles.source();
    }
    Stream::Sums sums = {};
    stream.run(source, has_next, next, sums);
    stream.share(tile - begin, sums);
    store<kIsGateUp>(params, stream, tile - begin, group, first_output);
    source = next;
  }
}

template <bool kIsGateUp>
void multiply(Exec& exec, const ExpertsArgs& args) {
  const std::int64_t hidden = args.x.extent(1);
  const std::int64_t width = args.inner.extent(1);
  const std::int64_t num_outputs = kIsGateUp ? width : hidden;
  const auto tiles_a_group = num_blocks(num_outputs, Tiles<kIsGateUp>::kOutputs);
  const Params params{.x = kIsGateUp ? args.x.data : args.inner.data,
                      .table = args.table.data,
                      .order = order_in(args),
                      .out = kIsGateUp ? args.inner.data : args.outputs.data,
                      .num_inputs = kIsGateUp ? hidden : width,
                      .num_outputs = num_outputs,
                      .num_chosen = static_cast<std::int32_t>(args.experts.extent(1)),
                      .tiles_a_group = static_cast<std::int32_t>(tiles_a_group)};
  CudaContext& context = exec.cuda_context();
  allow_shared_bytes<product_kernel<kIsGateUp>>(context, sizeof(Stream::Shared), "experts");
  const std::int64_t most_tiles = tiles_a_group * max_expert_groups(args, kExpertRows);
  const std::int64_t most_blocks =
      std::int64_t{context.num_multiprocessors} * kBlocksPerMultiprocessor;
  const auto blocks = static_cast<unsigned>(std::min(most_tiles, most_blocks));
  launch_early(context, product_kernel<kIsGateUp>, blocks, Stream::kThreads, sizeof(Stream::Shared),
               params);
}

}  // namespace

bool run_experts_of_few_rows(Exec& exec, const ExpertsArgs& args) {
  constexpr std::int64_t kMaxInputs = std::int64_t{1} << 24;  // counted in 32 bits, as tiles are
  const std::int64_t most = std::max(args.x.extent(1), args.inner.extent(1));
  if (args.dtype != DType::kBf16 || args.x.extent(1) % kFewRowsInputs != 0 ||
      args.inner.extent(1) % kFewRowsInputs != 0 || most > kMaxInputs ||
      max_expert_groups(args, kExpertRows) * most > INT32_MAX || !lies_at_16_bytes(args.x.data) ||
      !lies_at_16_bytes(args.inner.data)) {
    return false;
  }
  order_experts(exec, args, kExpertRows);
  multiply<true>(exec, args);
  multiply<false>(exec, args);
  sum_experts(exec, args);
  return true;
}

}  // namespace pikv::kernels::cuda
