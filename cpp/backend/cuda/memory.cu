// Device memory, copies between it and the host, and the scratch of a state.
#include "cuda_common.h"

namespace gramian_cuda {
namespace {

/* `rows` runs of row_bytes bytes; cudaMemcpyDefault reads the direction from the pointers, so device to device works
 * too. */
int copy_rows(State& state, int64_t rows, size_t row_bytes, const void* src, int64_t src_stride, void* dst,
              int64_t dst_stride) {
  const int64_t width = static_cast<int64_t>(row_bytes);
  const int64_t max_pitch = INT32_MAX;  // the limit of pitched copies
  if (rows == 1 || (src_stride == width && dst_stride == width)) {
    return check(cudaMemcpyAsync(dst, src, static_cast<size_t>(rows) * row_bytes, cudaMemcpyDefault, state.stream),
                 "cudaMemcpyAsync");
  }
  if (src_stride >= width && dst_stride >= width && src_stride <= max_pitch && dst_stride <= max_pitch) {
    return check(cudaMemcpy2DAsync(dst, static_cast<size_t>(dst_stride), src, static_cast<size_t>(src_stride),
                                   row_bytes, static_cast<size_t>(rows), cudaMemcpyDefault, state.stream),
                 "cudaMemcpy2DAsync");
  }
  // Strides that are negative, repeat a row or exceed the pitch: a copy a row, slow and correct.
  for (int64_t r = 0; r < rows; ++r) {
    GRAMIAN_CUDA_TRY(
        check(cudaMemcpyAsync(static_cast<char*>(dst) + r * dst_stride, static_cast<const char*>(src) + r * src_stride,
                              row_bytes, cudaMemcpyDefault, state.stream),
              "cudaMemcpyAsync"));
  }
  return kOk;
}

int copy_and_wait(gramian_context* context, int64_t rows, size_t row_bytes, const void* src, int64_t src_stride,
                  void* dst, int64_t dst_stride) {
  return guarded(context, [&](State& state) {
    if (rows < 0) return invalid("rows is negative");
    if (rows == 0 || row_bytes == 0) return kOk;
    const int status = copy_rows(state, rows, row_bytes, src, src_stride, dst, dst_stride);
    // Wait in any case: rows already queued may still read or write the caller's memory.
    const int waited = check(cudaStreamSynchronize(state.stream), "waiting for a copy");
    return status != 0 ? status : waited;
  });
}

__global__ void set_word_kernel(int64_t* word, int64_t value) {
  *word = value;
}

}  // namespace

int alloc(gramian_context* context, size_t bytes, void** out) {
  return guarded(context, [&](State&) {
    if (out == nullptr) return invalid("out is NULL");
    *out = nullptr;
    // cudaMalloc aligns to 256 bytes. Zero bytes still give a pointer that free() takes back.
    GRAMIAN_CUDA_TRY(check(cudaMalloc(out, bytes > 0 ? bytes : 1), "cudaMalloc"));
    count_allocation();
    return kOk;
  });
}

void free(gramian_context* context, void* pointer) {
  if (pointer == nullptr) return;
  // cudaFree waits for the work that may still use the memory.
  guarded(context, [&](State&) { return check(cudaFree(pointer), "cudaFree"); });
}

int upload(gramian_context* context, int64_t rows, size_t row_bytes, const void* host, int64_t host_stride, void* dst,
           int64_t dst_stride) {
  return copy_and_wait(context, rows, row_bytes, host, host_stride, dst, dst_stride);
}

int download(gramian_context* context, int64_t rows, size_t row_bytes, const void* src, int64_t src_stride, void* host,
             int64_t host_stride) {
  return copy_and_wait(context, rows, row_bytes, src, src_stride, host, host_stride);
}

int sync(gramian_context* context) {
  return guarded(context,
                 [](State& state) { return check(cudaStreamSynchronize(state.stream), "waiting for the stream"); });
}

int workspace(State& state, size_t bytes, void** out) {
  if (bytes > state.workspace_bytes) {
    GRAMIAN_CUDA_TRY(check(cudaFree(state.workspace), "cudaFree"));
    state.workspace = nullptr;
    state.workspace_bytes = 0;
    GRAMIAN_CUDA_TRY(check(cudaMalloc(&state.workspace, bytes), "cudaMalloc of a workspace"));
    count_allocation();
    state.workspace_bytes = bytes;
  }
  *out = state.workspace;
  return kOk;
}

int read_word(State& state, const void* device, void* host, size_t bytes) {
  GRAMIAN_CUDA_TRY(
      check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, state.stream), "reading an answer"));
  return check(cudaStreamSynchronize(state.stream), "waiting for an answer");
}

int reset_answer(State& state) {
  set_word_kernel<<<1, 1, 0, state.stream>>>(state.answer, kNone);
  return launched("set_word");
}

int read_first_bad(State& state, int64_t* first_bad) {
  if (first_bad == nullptr) return kOk;
  int64_t found = kNone;
  GRAMIAN_CUDA_TRY(read_word(state, state.answer, &found, sizeof found));
  *first_bad = found == kNone ? -1 : found;
  return kOk;
}

}  // namespace gramian_cuda
