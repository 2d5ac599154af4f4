/* Device and memory entries. */
#include <numeric>
#include <set>

#include "case.h"

namespace conformance {

namespace {

/* A recognisable pattern of bytes. */
std::vector<unsigned char> pattern(size_t count, unsigned char first) {
  std::vector<unsigned char> bytes(count);
  std::iota(bytes.begin(), bytes.end(), first);
  return bytes;
}

/* Memory of the table for the length of a case, outside the guarded buffers: the entries under test are used bare. */
class Bare {
 public:
  Bare(Case& c, size_t bytes) : case_(c) {
    if (c.table().alloc(c.ctx(), bytes, &data_) != 0 || data_ == nullptr) throw CaseFailed{};
  }
  ~Bare() { case_.table().free(case_.ctx(), data_); }
  Bare(const Bare&) = delete;
  Bare& operator=(const Bare&) = delete;
  void* data() const { return data_; }

 private:
  Case& case_;
  void* data_ = nullptr;
};

}  // namespace

void cases_open(Harness& harness) {
  harness.run("device 0 opens, and opens again", [&](Case& c) {
    char sentinel = 0;
    for (int turn = 0; turn < 2; ++turn) {
      void* state = &sentinel;
      c.expect_status(c.table().open(0, &state));
      c.expect(state != &sentinel, "open left the state pointer as it was");
      c.expect(harness.on_device() == (state != nullptr), "a device has a state, a CPU table has none");
      if (state != &sentinel) c.table().close(state);
    }
  });
  if (!harness.on_device()) return;
  harness.run("a device that does not exist", [&](Case& c) {
    void* state = nullptr;
    const int status = c.table().open(1 << 20, &state);
    c.expect(status < 0, "open(2^20) returned %d", status);
    const char* reason = c.table().error_text();
    c.expect(reason != nullptr && *reason != 0, "a failed open left no error text");
  });
}

void cases_close(Harness& harness) {
  harness.run("close leaves the other states and the error text alone", [&](Case& c) {
    const char* before = c.table().error_text();
    const std::string text_before = before != nullptr ? before : "";
    void* state = nullptr;
    c.expect_status(c.table().open(0, &state));
    c.table().close(state);
    const char* after = c.table().error_text();
    c.expect(after != nullptr && text_before == after, "close reported a failure");
    const std::vector<unsigned char> bytes = pattern(64, 3);  // the harness's own state still works
    c.expect(c.fetch_array<unsigned char>(c.array(bytes)) == bytes, "memory was lost with another state");
  });
}

/* Of a host failure the status says all; a device has reasons of its own and must name them. */
void cases_error_text(Harness& harness) {
  harness.run("a failed allocation is explained", [&](Case& c) {
    void* memory = nullptr;
    const int status = c.table().alloc(c.ctx(), size_t{1} << 62, &memory);
    c.expect(status == GRAMIAN_STATUS_NO_MEMORY || status == GRAMIAN_STATUS_BACKEND,
             "an allocation of 2^62 bytes returned %d", status);
    const char* reason = c.table().error_text();
    c.expect(reason != nullptr, "the text is null");
    c.expect(reason == nullptr || !harness.on_device() || *reason != 0, "a failed call left no error text");
  });
}

void cases_alloc(Harness& harness) {
  for (size_t bytes : {size_t{0}, size_t{1}, size_t{63}, size_t{64}, size_t{65}, size_t{4097}, size_t{1} << 24}) {
    harness.run(text("%zu bytes", bytes), [&](Case& c) {
      void* memory = nullptr;
      c.expect_status(c.table().alloc(c.ctx(), bytes, &memory));
      c.expect(bytes == 0 || memory != nullptr, "success without memory");
      c.expect(reinterpret_cast<uintptr_t>(memory) % 64 == 0, "not 64-byte aligned");
      if (bytes > 0 && memory != nullptr) {
        const std::vector<unsigned char> sent = pattern(bytes, 1);
        std::vector<unsigned char> received(bytes);
        const auto stride = static_cast<int64_t>(bytes);
        c.expect_status(c.table().upload(c.ctx(), 1, bytes, sent.data(), stride, memory, stride));
        c.expect_status(c.table().download(c.ctx(), 1, bytes, memory, stride, received.data(), stride));
        c.expect(sent == received, "the memory does not hold what was put into it");
      }
      c.table().free(c.ctx(), memory);
    });
  }
  harness.run("live allocations do not overlap", [&](Case& c) {
    std::vector<std::unique_ptr<Bare>> blocks;
    for (int t = 0; t < 64; ++t) blocks.push_back(std::make_unique<Bare>(c, 1000));
    std::set<uintptr_t> starts;
    for (const auto& block : blocks) starts.insert(reinterpret_cast<uintptr_t>(block->data()));
    c.expect(starts.size() == blocks.size(), "one address was given out twice");
    uintptr_t last = 0;
    for (uintptr_t start : starts) {
      c.expect(last == 0 || start - last >= 1000, "two blocks overlap");
      last = start;
    }
  });
  harness.run("too much memory is refused", [&](Case& c) {
    void* memory = nullptr;
    const int status = c.table().alloc(c.ctx(), size_t{1} << 62, &memory);
    c.expect(status < 0, "an allocation of 2^62 bytes returned %d", status);
  });
}

void cases_free(Harness& harness) {
  harness.run("null", [&](Case& c) { c.table().free(c.ctx(), nullptr); });
  // An address is given out twice only if it came back: a free that keeps its memory never repeats one.
  harness.run("memory comes back", [&](Case& c) {
    std::set<void*> seen;
    bool repeated = false;
    for (int turn = 0; turn < 256 && !repeated; ++turn) {
      void* memory = nullptr;
      c.expect_status(c.table().alloc(c.ctx(), size_t{1} << 24, &memory));
      repeated = !seen.insert(memory).second;
      c.table().free(c.ctx(), memory);
    }
    c.expect(repeated, "256 blocks of 16 MiB were freed and none was reused");
  });
}

namespace {

/* Rows of `row_bytes` between pitches `from` and `to`; bytes outside the rows must survive on the receiving side. */
void upload_case(Harness& harness, int64_t rows, size_t row_bytes, size_t from, size_t to) {
  harness.run(text("%lld rows of %zu, pitch %zu to %zu", static_cast<long long>(rows), row_bytes, from, to),
              [&](Case& c) {
                const size_t count = static_cast<size_t>(rows);
                const std::vector<unsigned char> host = pattern(count * from + 1, 7);
                const std::vector<unsigned char> old = pattern(count * to + 1, 100);
                Buffer& target = c.array(old, false);
                c.expect_status(c.table().upload(c.ctx(), rows, row_bytes, host.data(), static_cast<int64_t>(from),
                                                 target.data(), static_cast<int64_t>(to)));
                std::vector<unsigned char> want = old;
                for (size_t r = 0; r < count && row_bytes > 0; ++r) {
                  std::memcpy(want.data() + r * to, host.data() + r * from, row_bytes);
                }
                c.expect(c.fetch_array<unsigned char>(target) == want, "the bytes did not arrive as they were sent");
              });
}

void download_case(Harness& harness, int64_t rows, size_t row_bytes, size_t from, size_t to) {
  harness.run(text("%lld rows of %zu, pitch %zu to %zu", static_cast<long long>(rows), row_bytes, from, to),
              [&](Case& c) {
                const size_t count = static_cast<size_t>(rows);
                const std::vector<unsigned char> sent = pattern(count * from + 1, 7);
                Buffer& source = c.array(sent);
                std::vector<unsigned char> host = pattern(count * to + 1, 100);
                std::vector<unsigned char> want = host;
                for (size_t r = 0; r < count && row_bytes > 0; ++r) {
                  std::memcpy(want.data() + r * to, sent.data() + r * from, row_bytes);
                }
                c.expect_status(c.table().download(c.ctx(), rows, row_bytes, source.data(), static_cast<int64_t>(from),
                                                   host.data(), static_cast<int64_t>(to)));
                c.expect(host == want, "the bytes did not arrive as they were sent");
              });
}

void transfer_cases(void (*one)(Harness&, int64_t, size_t, size_t, size_t), Harness& harness) {
  for (int64_t rows : {0, 1, 2, 9, 65}) {
    for (size_t row_bytes : {size_t{0}, size_t{1}, size_t{8}, size_t{65}, size_t{1000}}) {
      one(harness, rows, row_bytes, row_bytes, row_bytes);
      one(harness, rows, row_bytes, row_bytes + 3, row_bytes);
      one(harness, rows, row_bytes, row_bytes, row_bytes + 5);
      one(harness, rows, row_bytes, row_bytes + 24, row_bytes + 8);
    }
  }
  one(harness, 3, size_t{1} << 20, size_t{1} << 20, size_t{1} << 20);
}

}  // namespace

void cases_upload(Harness& harness) {
  transfer_cases(&upload_case, harness);
  harness.run("inside table memory", [&](Case& c) {
    const std::vector<unsigned char> sent = pattern(9 * 40, 1);
    std::vector<unsigned char> want = pattern(9 * 24, 90);
    Buffer& source = c.array(sent);
    Buffer& target = c.array(want, false);
    for (size_t r = 0; r < 9; ++r) std::memcpy(want.data() + r * 24, sent.data() + r * 40, 17);
    c.expect_status(c.table().upload(c.ctx(), 9, 17, source.data(), 40, target.data(), 24));
    c.expect(c.fetch_array<unsigned char>(target) == want, "the bytes did not arrive as they were sent");
  });
}

void cases_download(Harness& harness) {
  transfer_cases(&download_case, harness);
}

void cases_sync(Harness& harness) {
  harness.run("with nothing under way", [&](Case& c) { c.expect_status(c.table().sync(c.ctx())); });
  harness.run("after work", [&](Case& c) {
    Buffer& x = c.output(Matrix(GRAMIAN_F64, 100, 10, 1.0));
    c.expect_status(
        c.table().axpby(c.ctx(), GRAMIAN_F64, 100, 10, 2.0, x.data(), x.ld, 0.0, GRAMIAN_F64, x.data(), x.ld));
    c.expect_status(c.table().sync(c.ctx()));
    c.same(c.fetch(x), Matrix(GRAMIAN_F64, 100, 10, 2.0));
  });
}

}  // namespace conformance
