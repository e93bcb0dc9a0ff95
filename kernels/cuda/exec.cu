// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "kernels/cuda/backend.hpp"
#include "kernels/cuda/context.cuh"
#include "kernels/cuda/recording.cuh"

namespace pikv::cuda {
namespace {

cudaMemcpyKind copy_kind(Device to, Device from) {
  if (to == Device::kCuda) {
    return from == Device::kCuda ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice;
  }
  return from == Device::kCuda ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost;
}

void make_ring(UploadRing& ring) {
  void* memory = nullptr;
  check(cudaHostAlloc(&memory, UploadRing::kBytes, cudaHostAllocDefault), "upload ring");
  ring.pinned = decltype(ring.pinned)(memory);
  check(cudaMalloc(&memory, UploadRing::kBytes), "upload ring");
  ring.on_device = decltype(ring.on_device)(memory);
  for (auto* event : {&ring.left[0], &ring.left[1], &ring.step_copied}) {
    cudaEvent_t handle = nullptr;
    check(cudaEventCreateWithFlags(&handle, cudaEventDisableTiming), "upload ring");
    *event = std::remove_pointer_t<decltype(event)>(handle);
  }
}

void send(CudaContext& context, std::size_t begin, std::size_t end) {
  const UploadRing& ring = context.uploads;
  check(cudaMemcpyAsync(static_cast<std::byte*>(ring.on_device.get()) + begin,
                        static_cast<const std::byte*>(ring.pinned.get()) + begin, end - begin,
                        cudaMemcpyHostToDevice, context.stream.get()),
        "upload");
}

std::size_t aligned(std::size_t place) { return (place + 255) / 256 * 256; }

/// Where the next `bytes` go. Listed launches may read the half that is entered.
std::size_t next_place(CudaContext& context, std::size_t bytes) {
  constexpr std::size_t kHalf = UploadRing::kHalfBytes;
  UploadRing& ring = context.uploads;
  require(bytes <= kHalf, "upload", bytes, " bytes of arguments exceed ", kHalf);
  std::size_t place = aligned(ring.used);
  const std::size_t half = ring.used == 0 ? 0 : (ring.used - 1) / kHalf;  // it may be just full
  if (place + bytes > (half + 1) * kHalf) {
    flush_launches(context);
    send_uploads(context);
    check(cudaEventRecord(ring.left[half % 2].get(), context.stream.get()), "upload ring");
    place = (half + 1) % 2 * kHalf;
    check(cudaEventSynchronize(ring.left[place / kHalf].get()), "upload ring");
    ring.sent = place;
  }
  ring.used = place + bytes;
  return place;
}

/// The same for a step that is recorded.
std::size_t next_place_of_step(CudaContext& context, std::size_t bytes) {
  UploadRing& ring = context.uploads;
  const std::size_t place = aligned(ring.step_used);
  if (place + bytes > UploadRing::kBytes) return next_place(context, bytes);
  ring.step_used = place + bytes;
  return place;
}

/// Of the calling thread's current GPU.
GpuMemory current_memory() {
  GpuMemory memory{};
  check(cudaMemGetInfo(&memory.free_bytes, &memory.total_bytes), "cudaMemGetInfo");
  return memory;
}

/// Throws for `status`, that of an allocation, unless it is success: OutOfMemory with the numbers.
void check_allocation(cudaError_t status, std::size_t bytes, const char* what) {
  if (status == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());  // else the next launch check would report it again
    const GpuMemory memory = current_memory();
    throw OutOfMemory(concat("allocate: ", bytes, " bytes of GPU memory, ", memory.free_bytes,
                             " of ", memory.total_bytes, " are free"));
  }
  check(status, what);
}

void* allocate_managed(std::size_t bytes) {
  void* data = nullptr;
  int device_idx = 0;
  check(cudaGetDevice(&device_idx), "cudaGetDevice");
  check_allocation(cudaMallocManaged(&data, bytes), bytes, "cudaMallocManaged");
  const cudaMemLocation here{cudaMemLocationTypeDevice, device_idx};
  check(cudaMemAdvise(data, bytes, cudaMemAdviseSetPreferredLocation, here), "cudaMemAdvise");
  check(cudaMemPrefetchAsync(data, bytes, here, 0, nullptr), "cudaMemPrefetchAsync");
  check(cudaStreamSynchronize(nullptr), "cudaMemPrefetchAsync");
  return data;
}

}  // namespace

std::shared_ptr<CudaContext> make_context(int device_idx) {
  int num_devices = 0;
  check(cudaGetDeviceCount(&num_devices), "cudaGetDeviceCount");
  if (device_idx < 0 || device_idx >= num_devices) {
    throw CudaError(concat("make_context: GPU ", device_idx, " of ", num_devices));
  }
  auto context = std::make_shared<CudaContext>();
  context->device_idx = device_idx;
  context->activate();

  // Work on the legacy default stream, which libraries may use, must not serialise with ours.
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  context->stream = decltype(context->stream)(stream);

  cublasHandle_t blas = nullptr;
  check(cublasCreate(&blas), "cublasCreate");
  context->blas = decltype(context->blas)(blas);
  check(cublasSetStream(blas, stream), "cublasSetStream");

  void* workspace = nullptr;
  check(cudaMalloc(&workspace, static_cast<std::size_t>(kWorkspaceBytes)), "workspace");
  context->workspace = decltype(context->workspace)(workspace);
  void* counters = nullptr;
  constexpr std::size_t kCounterBytes = kNumCounters * sizeof(unsigned);
  check(cudaMalloc(&counters, kCounterBytes), "counters");
  context->counters = decltype(context->counters)(counters);
  check(cudaMemsetAsync(counters, 0, kCounterBytes, stream), "counters");
  check(cudaDeviceGetAttribute(&context->num_multiprocessors, cudaDevAttrMultiProcessorCount,
                               device_idx),
        "cudaDeviceGetAttribute");
  int capability = 0;
  check(cudaDeviceGetAttribute(&capability, cudaDevAttrComputeCapabilityMajor, device_idx),
        "cudaDeviceGetAttribute");
  context->launches_early = capability >= 9;
  make_ring(context->uploads);
  context->recorder = std::make_unique<Recorder>(*context);
  return context;
}

std::array<std::byte, 16> uuid(const CudaContext& context) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, context.device_idx), "cudaGetDeviceProperties");
  std::array<std::byte, 16> bytes{};
  static_assert(sizeof(properties.uuid) == sizeof(bytes));
  std::memcpy(bytes.data(), &properties.uuid, sizeof(bytes));
  return bytes;
}

void synchronize(CudaContext& context) {
  context.activate();
  flush_launches(context);
  check(cudaStreamSynchronize(context.stream.get()), "synchronize");
}

GpuMemory memory(const CudaContext& context) {
  context.activate();
  return current_memory();
}

// Managed memory would be moved out of the GPU where it does not fit, which nobody asks for.
void* allocate(std::size_t bytes, Access access) {
  void* data = nullptr;
  check_allocation(cudaMalloc(&data, bytes), bytes, "cudaMalloc");
  if (access == Access::kDevice) return data;
  check(cudaFree(data), "cudaFree");
  return allocate_managed(bytes);
}

void* room_for(CudaContext& context, std::size_t bytes) {
  ProductRoom& room = context.product_room;
  if (bytes > room.bytes) {
    synchronize(context);  // the last reader of the old room may still run
    room.memory.reset();
    room.bytes = 0;
    room.memory = decltype(room.memory)(allocate(bytes, Access::kDevice));
    room.bytes = bytes;
  }
  return room.memory.get();
}

void release(void* data) noexcept {
  Recorder::flush_that_of_thread();
  static_cast<void>(cudaFree(data));
}

void copy(CudaContext& context, void* to, Device to_device, const void* from, Device from_device,
          std::size_t bytes) {
  if (bytes == 0) return;
  context.activate();
  flush_launches(context);
  send_uploads(context);
  check(cudaMemcpyAsync(to, from, bytes, copy_kind(to_device, from_device), context.stream.get()),
        "copy");
  if (to_device == Device::kCpu) synchronize(context);
}

void clear(CudaContext& context, void* data, std::size_t bytes) {
  context.activate();
  flush_launches(context);
  check(cudaMemsetAsync(data, 0, bytes, context.stream.get()), "clear");
}

const void* upload(CudaContext& context, const void* items, std::size_t bytes) {
  context.activate();
  const std::size_t place =
      context.recorder->is_on() ? next_place_of_step(context, bytes) : next_place(context, bytes);
  auto* pinned = static_cast<std::byte*>(context.uploads.pinned.get()) + place;
  auto* on_device = static_cast<std::byte*>(context.uploads.on_device.get()) + place;
  std::memcpy(pinned, items, bytes);
  return on_device;
}

// Nothing is on its way to the room when it grows: each copy was waited for. It at least doubles,
// because pinning costs milliseconds.
const void* download(CudaContext& context, const void* items, std::size_t bytes) {
  DownloadRoom& room = context.downloads;
  if (bytes > room.bytes) {
    context.activate();
    const std::size_t size = std::max(bytes, 2 * room.bytes);
    room.pinned.reset();
    room.bytes = 0;
    void* memory = nullptr;
    const cudaError_t status = cudaHostAlloc(&memory, size, cudaHostAllocDefault);
    if (status == cudaErrorMemoryAllocation) {
      static_cast<void>(cudaGetLastError());
      throw OutOfMemory(concat("download: ", size, " bytes of pinned memory"));
    }
    check(status, "cudaHostAlloc");
    room.pinned = decltype(room.pinned)(memory);
    room.bytes = size;
  }
  copy(context, room.pinned.get(), Device::kCpu, items, Device::kCuda, bytes);
  return room.pinned.get();
}

void send_uploads(CudaContext& context) {
  UploadRing& ring = context.uploads;
  if (ring.sent != ring.used) {
    send(context, ring.sent, ring.used);
    ring.sent = ring.used;
  }
  if (ring.step_sent != ring.step_used) {
    send(context, ring.step_sent, ring.step_used);
    ring.step_sent = ring.step_used;
    check(cudaEventRecord(ring.step_copied.get(), context.stream.get()), "upload");
  }
}

void begin_recording(CudaContext& context) { context.recorder->begin(); }
void end_recording(CudaContext& context) { context.recorder->end(); }
bool is_recording(const CudaContext& context) { return context.recorder->is_on(); }
GraphCounts graph_counts(const CudaContext& context) { return context.recorder->counts(); }

std::vector<std::string> describe_devices() {
  int num_devices = 0;
  if (cudaGetDeviceCount(&num_devices) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    return {};
  }
  std::vector<std::string> lines;
  for (int i = 0; i < num_devices; ++i) {
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, i), "cudaGetDeviceProperties");
    lines.push_back(concat(properties.name, ", sm_", properties.major, properties.minor, ", ",
                           properties.totalGlobalMem >> 20, " MiB, ",
                           properties.multiProcessorCount, " multiprocessors"));
  }
  return lines;
}

bool is_built() { return true; }

}  // namespace pikv::cuda
