// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The symbols of kernels/cuda in a build without CUDA.
#include <string_view>

#include "kernels/argmax.hpp"
#include "kernels/attention.hpp"
#include "kernels/attention_columns.hpp"
#include "kernels/block_attention.hpp"
#include "kernels/common/error.hpp"
#include "kernels/cuda/backend.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/experts.hpp"
#include "kernels/fill.hpp"
#include "kernels/gate_topk.hpp"
#include "kernels/gather_slots.hpp"
#include "kernels/head_maps.hpp"
#include "kernels/kv_page.hpp"
#include "kernels/linear.hpp"
#include "kernels/merge_parts.hpp"
#include "kernels/merge_states.hpp"
#include "kernels/page_bounds.hpp"
#include "kernels/peer_rows.hpp"
#include "kernels/rms_norm.hpp"
#include "kernels/rope.hpp"
#include "kernels/rotate_and_write.hpp"
#include "kernels/rows.hpp"
#include "kernels/softmax.hpp"

namespace pikv {
namespace {

[[noreturn]] void not_built(std::string_view operation) {
  throw NotBuilt(concat(operation, ": built without CUDA"));
}

}  // namespace

namespace cuda {

std::shared_ptr<CudaContext> make_context(int) { not_built("make_context"); }
std::array<std::byte, 16> uuid(const CudaContext&) { not_built("uuid"); }
void synchronize(CudaContext&) { not_built("synchronize"); }
GpuMemory memory(const CudaContext&) { not_built("memory"); }
void* allocate(std::size_t, Access) { not_built("allocate"); }
void release(void*) noexcept {}
void copy(CudaContext&, void*, Device, const void*, Device, std::size_t) { not_built("copy"); }
void clear(CudaContext&, void*, std::size_t) { not_built("clear"); }
const void* upload(CudaContext&, const void*, std::size_t) { not_built("upload"); }
const void* download(CudaContext&, const void*, std::size_t) { not_built("download"); }
void begin_recording(CudaContext&) { not_built("begin_recording"); }
void end_recording(CudaContext&) { not_built("end_recording"); }
bool is_recording(const CudaContext&) { return false; }
GraphCounts graph_counts(const CudaContext&) { not_built("graph_counts"); }
std::vector<std::string> describe_devices() { return {}; }
bool is_built() { return false; }

}  // namespace cuda

namespace kernels::cuda {

void argmax(Exec&, const ArgmaxArgs&) { not_built("argmax"); }
void attention(Exec&, const AttentionArgs&) { not_built("attention"); }
void attention_columns(Exec&, const AttentionColumnsArgs&) { not_built("attention_columns"); }
void block_attention(Exec&, const BlockAttentionArgs&) { not_built("block_attention"); }
void silu_mul(Exec&, const SiluMulArgs&) { not_built("silu_mul"); }
void add(Exec&, const AddArgs&) { not_built("add"); }
void sigmoid_gated_add(Exec&, const SigmoidGatedAddArgs&) { not_built("sigmoid_gated_add"); }
void experts(Exec&, const ExpertsArgs&) { not_built("experts"); }
void clamp(Exec&, const ClampArgs&) { not_built("clamp"); }
void fill_uniform(Exec&, const FillUniformArgs&) { not_built("fill_uniform"); }
void gate_topk(Exec&, const GateTopkArgs&) { not_built("gate_topk"); }
void gather_slots(Exec&, const GatherSlotsArgs&) { not_built("gather_slots"); }
void head_maps(Exec&, const HeadMapsArgs&) { not_built("head_maps"); }
void write_slots(Exec&, const WriteSlotsArgs&) { not_built("write_slots"); }
void clear_pages(Exec&, const ClearPagesArgs&) { not_built("clear_pages"); }
void move_slots(Exec&, const MoveSlotsArgs&) { not_built("move_slots"); }
void hide_slots(Exec&, const HideSlotsArgs&) { not_built("hide_slots"); }
void turn_keys(Exec&, const TurnKeysArgs&) { not_built("turn_keys"); }
void update_values(Exec&, const UpdateValuesArgs&) { not_built("update_values"); }
void convert_pages(Exec&, const ConvertPagesArgs&) { not_built("convert_pages"); }
void linears(Exec&, std::span<const LinearArgs>) { not_built("linear"); }
void normed_linears(Exec&, const RmsNormArgs&, std::span<const LinearArgs>) {
  not_built("linear");
}
void merge_parts(Exec&, const MergePartsArgs&) { not_built("merge_parts"); }
void sum_parts(Exec&, const SumPartsArgs&) { not_built("sum_parts"); }
void merge_states(Exec&, const MergeStatesArgs&) { not_built("merge_states"); }
void summarize_pages(Exec&, const SummarizePagesArgs&) { not_built("summarize_pages"); }
void page_bounds(Exec&, const PageBoundsArgs&) { not_built("page_bounds"); }
void rms_norm(Exec&, const RmsNormArgs&) { not_built("rms_norm"); }
void rope_table(Exec&, const RopeTableArgs&) { not_built("rope_table"); }
void ropes(Exec&, std::span<const RopeArgs>) { not_built("rope"); }
void rotate_and_write(Exec&, const RotateAndWriteArgs&) { not_built("rotate_and_write"); }
void softmax(Exec&, const SoftmaxArgs&) { not_built("softmax"); }
void gather_rows(Exec&, const GatherRowsArgs&) { not_built("gather_rows"); }
void combine_rows(Exec&, const CombineRowsArgs&) { not_built("combine_rows"); }

}  // namespace kernels::cuda

namespace kernels {

struct PeerWindows::State {};
PeerWindows::PeerWindows(Exec&, int, int, std::chrono::milliseconds) { not_built("peer_rows"); }
PeerWindows::~PeerWindows() = default;
PeerWindows::Handle PeerWindows::handle() const { not_built("peer_rows"); }
void PeerWindows::open(std::span<const Handle>) { not_built("peer_rows"); }
void PeerWindows::close() noexcept {}
void PeerWindows::move(const PeerMove&) { not_built("peer_rows"); }
std::optional<PeerWindows::Failure> PeerWindows::failure() const { not_built("peer_rows"); }

}  // namespace kernels
}  // namespace pikv
