/* Host memory, the same for every CPU table: compiled once, for the ABI floor. */
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "kernels.h"

namespace {

constexpr size_t kAlignment = 64;

int open_host(int, void** device_state) {
  *device_state = nullptr;
  return GRAMIAN_STATUS_OK;
}

void close_host(void*) {}

/* The status says all there is to say about a host failure. */
const char* error_text() {
  return "";
}

int alloc(gramian_context*, size_t bytes, void** out) {
  *out = nullptr;
  if (bytes > SIZE_MAX - kAlignment) return GRAMIAN_STATUS_NO_MEMORY;
  const size_t padded = bytes == 0 ? kAlignment : (bytes + kAlignment - 1) / kAlignment * kAlignment;
  *out = std::aligned_alloc(kAlignment, padded);
  return *out ? GRAMIAN_STATUS_OK : GRAMIAN_STATUS_NO_MEMORY;
}

void release(gramian_context*, void* pointer) {
  std::free(pointer);
}

int copy(gramian_context*, int64_t rows, size_t row_bytes, const void* src, int64_t src_stride, void* dst,
         int64_t dst_stride) {
  if (rows <= 0 || row_bytes == 0) return GRAMIAN_STATUS_OK;
  const int64_t width = static_cast<int64_t>(row_bytes);
  if (src_stride == width && dst_stride == width) {
    std::memcpy(dst, src, static_cast<size_t>(rows) * row_bytes);
    return GRAMIAN_STATUS_OK;
  }
  for (int64_t r = 0; r < rows; ++r) {
    std::memcpy(static_cast<char*>(dst) + r * dst_stride, static_cast<const char*>(src) + r * src_stride, row_bytes);
  }
  return GRAMIAN_STATUS_OK;
}

int sync(gramian_context*) {
  return GRAMIAN_STATUS_OK;
}

}  // namespace

extern "C" void gramian_fill_memory_cpu(gramian_op_table* table) {
  table->open = open_host;
  table->close = close_host;
  table->error_text = error_text;
  table->alloc = alloc;
  table->free = release;
  table->upload = copy;
  table->download = copy;
  table->sync = sync;
}
