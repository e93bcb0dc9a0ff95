// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Kernel launches, and how those of a step that comes again are enqueued as CUDA graphs. Plain C++:
// the host compiler may include it.
//
// While a recorder is on (Exec::record), launches become a list. flush() enqueues it: whoever uses
// the stream by other means calls it first, so that the order of the stream is that of the calls.
// What lies between two flushes is a segment. A segment that came at the same place of an earlier
// step, with the same kernels and grids, is kept as an executable graph: a chain of nodes, in which
// parameters that changed are set anew. Segments that never came before are enqueued one launch
// after the other, as are short ones.
//
// Invariants: launches that are listed are younger than all that is on the stream; what they read
// of the upload ring is not overwritten before they are enqueued; a node holds the parameters that
// its segment says.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <vector>

#include "kernels/common/exec.hpp"
#include "kernels/cuda/context.cuh"

namespace pikv::cuda {

/// What of a launch is the same from step to step.
struct LaunchShape {
  const void* kernel;  // takes one argument
  std::array<unsigned, 3> num_blocks;
  unsigned num_threads;
  unsigned shared_bytes;
  unsigned params_bytes;  // of the argument
  bool early;             // may take its places while the launch before still runs

  bool operator==(const LaunchShape&) const = default;
};

/// Launches and their arguments, these one after another, each from a multiple of 16 bytes.
struct LaunchList {
  std::vector<LaunchShape> shapes;
  std::vector<std::byte> params;

  void push(const LaunchShape& shape, const void* argument);
  void clear() {
    shapes.clear();
    params.clear();
  }
};

class Recorder {
 public:
  /// `context` owns the recorder.
  explicit Recorder(CudaContext& context) : context_(context) {}

  [[nodiscard]] bool is_on() const { return is_on_; }

  /// Begins a step; waits until the GPU has copied what the step before uploaded. One recorder of
  /// a thread is on at a time.
  void begin();

  /// Enqueues what is left and is off, also where it throws.
  void end();

  void push(const LaunchShape& shape, const void* argument) {
    list_.push(shape, argument);
    if (list_.shapes.size() >= most_launches()) flush();
  }

  /// Enqueues what was listed, after the uploads. Throws CudaError; none of it is listed then.
  void flush();

  /// For who frees memory that listed launches may use: flushes the calling thread's recorder that
  /// is on. What this throws, the next flush or the end does.
  static void flush_that_of_thread() noexcept;

  [[nodiscard]] const GraphCounts& counts() const { return counts_; }

 private:
  /// Lists of launches that were enqueued before.
  struct Segment {
    std::size_t place;      // in its step
    std::uint64_t used_at;  // ascends
    LaunchList launches;    // parameters are those of the nodes
    // From the second time on:
    UniqueHandle<cudaGraph_t, &cudaGraphDestroy> graph{};
    UniqueHandle<cudaGraphExec_t, &cudaGraphExecDestroy> executable{};
    std::vector<cudaGraphNode_t> nodes{};
  };

  [[nodiscard]] std::size_t most_launches() const;
  void enqueue_one_by_one(const LaunchList& launches) const;
  [[nodiscard]] Segment* find(std::size_t place, const LaunchList& launches);
  void keep(std::size_t place, const LaunchList& launches);
  void make_graph(Segment& segment);
  void set_params(Segment& segment, const LaunchList& launches);

  CudaContext& context_;
  bool is_on_ = false;
  LaunchList list_;
  LaunchList taken_;              // what flush() took from the list
  std::size_t num_segments_ = 0;  // of this step
  std::uint64_t num_flushes_ = 0;
  std::vector<Segment> segments_;
  std::exception_ptr fault_;  // of a flush that could not throw
  GraphCounts counts_;
};

/// Enqueues a launch with its uploads, or lists it. Throws CudaError naming the kernel where the
/// configuration is refused: now, or when the list is flushed.
void launch(CudaContext& context, const LaunchShape& shape, const void* argument);

}  // namespace pikv::cuda
