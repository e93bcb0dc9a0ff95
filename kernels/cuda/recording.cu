// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/cuda/recording.cuh"

namespace pikv::cuda {
namespace {

/// Segments double: the GPU begins after a few launches, has work for longer than the host needs to
/// list the next segment, and seldom waits between two graphs.
constexpr std::size_t kFirstLaunches = 32;
constexpr std::size_t kMostLaunches = 256;

/// A graph of fewer would take the host as long.
constexpr std::size_t kFewestOfGraph = 8;

/// A step of a few hundred launches has about four.
constexpr std::size_t kMaxSegments = 64;

/// The one that is on. Who frees memory knows no Exec, so it is found by the thread.
thread_local Recorder* recorder_of_thread = nullptr;

std::size_t room_of(const LaunchShape& shape) { return (shape.params_bytes + 15u) / 16u * 16u; }

dim3 grid_of(const LaunchShape& shape) {
  return {shape.num_blocks[0], shape.num_blocks[1], shape.num_blocks[2]};
}

/// As check(), with the kernel's name. Later checks do not report the fault again.
void check_kernel(cudaError_t status, const LaunchShape& shape) {
  if (status == cudaSuccess) [[likely]] {
    return;
  }
  const char* name = "a kernel";
  if (cudaFuncGetName(&name, shape.kernel) != cudaSuccess) name = "a kernel";
  static_cast<void>(cudaGetLastError());
  check(status, concat("launch of ", name).c_str());
}

void enqueue(const CudaContext& context, const LaunchShape& shape, const void* argument) {
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid_of(shape);
  config.blockDim = dim3(shape.num_threads);
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = context.stream.get();
  config.attrs = &early;
  config.numAttrs = shape.early ? 1 : 0;
  void* arguments[] = {const_cast<void*>(argument)};
  check_kernel(cudaLaunchKernelExC(&config, shape.kernel, arguments), shape);
}

/// Calls f(i, shape, place of its argument) for all launches in their order.
template <class F>
void for_each(const LaunchList& launches, const F& f) {
  std::size_t place = 0;
  for (std::size_t i = 0; i < launches.shapes.size(); ++i) {
    f(i, launches.shapes[i], place);
    place += room_of(launches.shapes[i]);
  }
}

}  // namespace

void LaunchList::push(const LaunchShape& shape, const void* argument) {
  const std::size_t place = params.size();
  params.resize(place + room_of(shape));
  std::memcpy(params.data() + place, argument, shape.params_bytes);
  shapes.push_back(shape);
}

void Recorder::begin() {
  context_.activate();
  UploadRing& ring = context_.uploads;
  check(cudaEventSynchronize(ring.step_copied.get()), "upload ring");
  ring.step_used = ring.step_sent = UploadRing::kStepBegin;
  num_segments_ = 0;
  is_on_ = true;
  recorder_of_thread = this;
}

void Recorder::end() {
  is_on_ = false;
  recorder_of_thread = nullptr;
  flush();
}

std::size_t Recorder::most_launches() const {
  return num_segments_ < 3 ? kFirstLaunches << num_segments_ : kMostLaunches;
}

void Recorder::flush() {
  if (fault_) {
    list_.clear();
    std::rethrow_exception(std::exchange(fault_, nullptr));
  }
  if (list_.shapes.empty()) return;
  std::swap(list_, taken_);
  list_.clear();
  context_.activate();
  send_uploads(context_);
  const std::size_t place = num_segments_++;
  if (taken_.shapes.size() < kFewestOfGraph) {
    enqueue_one_by_one(taken_);
    return;
  }
  Segment* segment = find(place, taken_);
  if (segment == nullptr) {
    enqueue_one_by_one(taken_);
    keep(place, taken_);
    return;
  }
  segment->used_at = ++num_flushes_;
  if (segment->executable.get() == nullptr) {
    segment->launches.params = taken_.params;
    make_graph(*segment);
  } else {
    set_params(*segment, taken_);
  }
  check(cudaGraphLaunch(segment->executable.get(), context_.stream.get()), "launch of a graph");
  counts_.num_launches += taken_.shapes.size();
}

void Recorder::flush_that_of_thread() noexcept {
  if (recorder_of_thread == nullptr) return;
  try {
    recorder_of_thread->flush();
  } catch (...) {
    recorder_of_thread->fault_ = std::current_exception();
  }
}

void Recorder::enqueue_one_by_one(const LaunchList& launches) const {
  for_each(launches, [&](std::size_t, const LaunchShape& shape, std::size_t place) {
    enqueue(context_, shape, launches.params.data() + place);
  });
}

Recorder::Segment* Recorder::find(std::size_t place, const LaunchList& launches) {
  const auto found = std::ranges::find_if(segments_, [&](const Segment& segment) {
    return segment.place == place && segment.launches.shapes == launches.shapes;
  });
  return found == segments_.end() ? nullptr : &*found;
}

/// Without a graph, instead of the one that was not used for longest.
void Recorder::keep(std::size_t place, const LaunchList& launches) {
  if (segments_.size() == kMaxSegments) {
    const auto oldest = std::ranges::min_element(segments_, {}, &Segment::used_at);
    // Its graph may still run.
    if (oldest->executable.get() != nullptr) {
      check(cudaStreamSynchronize(context_.stream.get()), "synchronize");
    }
    segments_.erase(oldest);
  }
  segments_.push_back({.place = place,
                       .used_at = ++num_flushes_,
                       .launches = {.shapes = launches.shapes, .params = {}}});
}

void Recorder::make_graph(Segment& segment) {
  cudaGraph_t made = nullptr;
  check(cudaGraphCreate(&made, 0), "graph");
  decltype(segment.graph) graph(made);
  std::vector<cudaGraphNode_t> nodes;
  for_each(segment.launches, [&](std::size_t i, const LaunchShape& shape, std::size_t place) {
    void* arguments[] = {segment.launches.params.data() + place};
    cudaGraphNodeParams params{};
    params.type = cudaGraphNodeTypeKernel;
    params.kernel.func = const_cast<void*>(shape.kernel);
    params.kernel.gridDim = grid_of(shape);
    params.kernel.blockDim = dim3(shape.num_threads);
    params.kernel.sharedMemBytes = shape.shared_bytes;
    params.kernel.kernelParams = arguments;
    // What a capture makes of programmatic serialisation on a stream.
    cudaGraphEdgeData edge{};
    if (shape.early) {
      edge.from_port = cudaGraphKernelNodePortProgrammatic;
      edge.type = cudaGraphDependencyTypeProgrammatic;
    }
    const cudaGraphNode_t before = i == 0 ? nullptr : nodes.back();
    cudaGraphNode_t node = nullptr;
    check_kernel(cudaGraphAddNode(&node, graph.get(), i == 0 ? nullptr : &before,
                                  i == 0 ? nullptr : &edge, i == 0 ? 0 : 1, &params),
                 shape);
    nodes.push_back(node);
  });
  cudaGraphExec_t executable = nullptr;
  check(cudaGraphInstantiate(&executable, graph.get(), 0), "graph");
  segment.executable = decltype(segment.executable)(executable);
  segment.graph = std::move(graph);
  segment.nodes = std::move(nodes);
  ++counts_.num_graphs;
}

void Recorder::set_params(Segment& segment, const LaunchList& launches) {
  for_each(launches, [&](std::size_t i, const LaunchShape& shape, std::size_t place) {
    std::byte* const old = segment.launches.params.data() + place;
    const std::byte* const now = launches.params.data() + place;
    if (std::memcmp(old, now, shape.params_bytes) == 0) return;
    void* arguments[] = {const_cast<std::byte*>(now)};
    cudaKernelNodeParams params{};
    params.func = const_cast<void*>(shape.kernel);
    params.gridDim = grid_of(shape);
    params.blockDim = dim3(shape.num_threads);
    params.sharedMemBytes = shape.shared_bytes;
    params.kernelParams = arguments;
    check_kernel(
        cudaGraphExecKernelNodeSetParams(segment.executable.get(), segment.nodes[i], &params),
        shape);
    std::memcpy(old, now, shape.params_bytes);
    ++counts_.num_params_set;
  });
}

void flush_launches(CudaContext& context) { context.recorder->flush(); }

void launch(CudaContext& context, const LaunchShape& shape, const void* argument) {
  if (context.recorder->is_on()) {
    context.recorder->push(shape, argument);
    return;
  }
  context.activate();
  send_uploads(context);
  enqueue(context, shape, argument);
}

}  // namespace pikv::cuda
