#include "starve.h"

#include <cstdlib>
#include <new>

/* The linker sends the allocations of every object of this program here (--wrap, see CMakeLists.txt), those of the
 * kernels among them; what shared libraries allocate for themselves goes its own way. */
namespace {

struct Ration {
  bool counts = false;
  int64_t refuse = 0; /* which allocation from now on; 0: none */
  int64_t asked = 0, live = 0;
  bool refused = false;
} ration;

bool is_refused() {
  if (!ration.counts) return false;
  ++ration.asked;
  const bool refused = ration.asked == ration.refuse;
  ration.refused |= refused;
  ration.live += refused ? 0 : 1;
  return refused;
}

}  // namespace

extern "C" {
void* __real_malloc(size_t bytes);
void* __real_calloc(size_t count, size_t bytes);
void __real_free(void* memory);
void* __real__ZnamRKSt9nothrow_t(size_t bytes, const std::nothrow_t& tag);
void __real__ZdaPv(void* memory);

void* __wrap_malloc(size_t bytes) {
  return is_refused() ? nullptr : __real_malloc(bytes);
}
void* __wrap_calloc(size_t count, size_t bytes) {
  return is_refused() ? nullptr : __real_calloc(count, bytes);
}
void __wrap_free(void* memory) {
  if (ration.counts && memory != nullptr) --ration.live;
  __real_free(memory);
}
/* new (std::nothrow) T[n] and delete[] of the BLAS provider. In a static program they end in malloc and free above, so
 * they are counted here only where those are not seen. */
void* __wrap__ZnamRKSt9nothrow_t(size_t bytes, const std::nothrow_t& tag) {
  const int64_t before = ration.asked;
  if (is_refused()) return nullptr;
  void* const memory = __real__ZnamRKSt9nothrow_t(bytes, tag);
  if (ration.counts && ration.asked > before + 1) --ration.live;
  return memory;
}
void __wrap__ZdaPv(void* memory) {
  const int64_t before = ration.live;
  __real__ZdaPv(memory);
  if (ration.counts && memory != nullptr && ration.live == before) --ration.live;
}
}

namespace conformance {

namespace {

/* What the calls of one op did. */
struct Account {
  int64_t refusals = 0;
  std::string fault; /* the first */
};
Account account;

void note(const char* op, const char* what) {
  if (account.fault.empty()) account.fault = text("%s %s", op, what);
}

template <auto Entry>
struct Starved;

/* Stands in front of an entry. The repeated calls leave garbage behind, so the case ends with its first call. */
template <class... Arguments, int (*gramian_op_table::*Entry)(Arguments...)>
struct Starved<Entry> {
  static inline int (*real)(Arguments...) = nullptr;
  static inline const char* name = "";

  static int forward(Arguments... arguments) {
    bool refused = true;
    for (int64_t k = 1; refused; ++k) {
      ration = Ration{true, k, 0, 0, false};
      bool escaped = false;
      int status = 0;
      try {
        status = real(arguments...);
      } catch (...) {
        escaped = true;
      }
      refused = ration.refused;
      const int64_t live = ration.live;
      ration = Ration{};
      if (escaped) note(name, "let an exception out");
      if (!escaped && live != 0) note(name, "kept memory");
      if (!escaped && refused && status != GRAMIAN_STATUS_NO_MEMORY) note(name, "did not say that memory ran out");
      if (refused) ++account.refusals;
    }
    throw CaseFailed{};
  }
  static void install(Table& table, const char* op) {
    real = table.*Entry;
    name = op;
    table.*Entry = &forward;
  }
};

using Install = void (*)(Table&, const char*);

template <class T>
struct Slot {
  static constexpr bool starves = false;
};
template <class... Arguments>
struct Slot<int (*gramian_op_table::*)(gramian_context*, Arguments...)> {
  static constexpr bool starves = true;
};

template <auto Entry>
Install installer() {
  if constexpr (Slot<decltype(Entry)>::starves) {
    return &Starved<Entry>::install;
  } else {
    return nullptr;
  }
}

/* By the name of the op: null for those that take no memory of their own, or hand it out. */
Install install_of(const Op& op) {
#define GRAMIAN_INSTALLER(entry, why, old) \
  if (op.offset == offsetof(gramian_op_table, entry)) return installer<&gramian_op_table::entry>();
  GRAMIAN_CONFORMANCE_OPS(GRAMIAN_INSTALLER)
#undef GRAMIAN_INSTALLER
  return nullptr;
}

/* The cases of `op` on a table whose entry is starved; the first fault, or empty. */
std::string starve(const Table& table, const Op& op, int64_t* refusals) {
  account = Account{};
  Table starved = table;
  install_of(op)(starved, op.name);
  Harness harness(starved, OnFailure::count);
  harness.run_op(op);
  *refusals += account.refusals;
  return account.fault;
}

/* --- entries that fail badly, to prove that it is noticed ------------------------------------------------------ */

enum Bad { kThrows, kHides, kKeeps };

template <Bad kBad>
int add_diagonal_bad(gramian_context*, int, int64_t, double, void*, int64_t) {
  static void* volatile memory; /* or the compiler sees that nobody wants the memory */
  memory = std::malloc(64);
  if (kBad == kKeeps) return memory == nullptr ? GRAMIAN_STATUS_NO_MEMORY : GRAMIAN_STATUS_OK;
  if (kBad == kThrows && memory == nullptr) throw std::bad_alloc();
  std::free(memory);
  return GRAMIAN_STATUS_OK;
}

template <Bad kBad>
bool is_noticed(const Table& table, const char* what) {
  Table bad = table;
  bad.add_diagonal = &add_diagonal_bad<kBad>;
  int64_t refusals = 0;
  const std::string fault = starve(bad, *find_op("add_diagonal"), &refusals);
  const bool noticed = fault.find(what) != std::string::npos;
  if (!noticed) std::printf("NOT NOTICED %s: an entry that %s\n", table.name, what);
  return noticed;
}

}  // namespace

bool prove_starved_fail_well(const std::vector<const Table*>& tables, const std::vector<Op>& ops) {
  bool good = true;
  int64_t all = 0;
  for (const Table* table : tables) {
    if (table->memory == GRAMIAN_DEVICE_MEMORY) continue;
    good = is_noticed<kThrows>(*table, "let an exception out") && good;
    good = is_noticed<kHides>(*table, "did not say that memory ran out") && good;
    good = is_noticed<kKeeps>(*table, "kept memory") && good;
    int64_t refusals = 0;
    for (const Op& op : ops) {
      if (op.offset <= offsetof(gramian_op_table, sync)) continue;
      const std::string fault = starve(*table, op, &refusals);
      if (!fault.empty()) std::printf("FAILED %s: %s\n", table->name, fault.c_str());
      good = good && fault.empty();
    }
    std::printf("starved %s: %lld allocations refused\n", table->name, static_cast<long long>(refusals));
    all += refusals;
  }
  return good && all > 0;
}

}  // namespace conformance
