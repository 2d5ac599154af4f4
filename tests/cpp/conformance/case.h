/* The harness of the op conformance list: one list of cases, run over every table.
 *
 * How to add an op
 *   1. Write its cases: `void cases_<entry>(Harness&)` in the cases_*.cc file it belongs to, NaN cases among them.
 *   2. Add one line to GRAMIAN_CONFORMANCE_OPS below, in the order of the struct: X(<entry>, why, old).
 *   The run then fails until faults.cc holds at least one wrong variant of the entry that the new cases catch, and
 *   (for an op that computes) until bench.cc holds a size.
 *
 * What a case is. `Harness::run` opens a case, hands its body a Case and closes it. The body allocates its operands
 * through the table (so the same case runs on a device), calls the entry once or more and compares. When the body
 * ends, the harness checks by itself that
 *   - the entry under test of *this* table was called (every entry is wrapped in a counting thunk that forwards to
 *     the table's own pointer; a body that computed elsewhere leaves the count at zero and fails),
 *   - every input still holds its bytes,
 *   - the guard zones before and after each output, and the gap between cols and ld of its rows, hold their pattern.
 *
 * Tolerances are elementwise error bounds computed beside the reference (reference.h); a case never names a number
 * that does not follow from the unit roundoff, the length of a sum and the magnitude of its terms.
 */
#ifndef GRAMIAN_CONFORMANCE_CASE_H
#define GRAMIAN_CONFORMANCE_CASE_H

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "backend/op_table.h"
#include "reference.h"

/* Every function pointer of gramian_op_table, in order. A slot of the struct that is missing here fails the run.
 *   why: empty for an entry that reads numbers. Its list then has, in each of float32 and float64 that its cases use, a
 *     case with a NaN in an operand (Case::poison) that expects NaN in what depends on it and numbers elsewhere, or a
 *     status that is not success. Otherwise the reason why there is no such case.
 *   old: kOverwrites for an entry with an output that it does not read, where beta is 0 if there is a beta. A case then
 *     begins with nothing but NaN there, and expects numbers. kUpdates otherwise.
 * A NaN that is lost hides bad data; one that spreads destroys good data. */
#define GRAMIAN_CONFORMANCE_OPS(X)                 \
  X(open, "no numbers", kUpdates)                  \
  X(close, "no numbers", kUpdates)                 \
  X(error_text, "no numbers", kUpdates)            \
  X(alloc, "no numbers", kUpdates)                 \
  X(free, "no numbers", kUpdates)                  \
  X(upload, "moves bytes", kUpdates)               \
  X(download, "moves bytes", kUpdates)             \
  X(sync, "no numbers", kUpdates)                  \
  X(load_rows, "", kOverwrites)                    \
  X(load_csr, "", kOverwrites)                     \
  X(axpby, "", kOverwrites)                        \
  X(add_diagonal, "", kUpdates)                    \
  X(symmetrize, "", kUpdates)                      \
  X(scale_columns, "", kUpdates)                   \
  X(scale_rows, "", kUpdates)                      \
  X(gemm, "", kOverwrites)                         \
  X(gram, "", kOverwrites)                         \
  X(csr_gemm, "", kOverwrites)                     \
  X(normal_sweep, "", kOverwrites)                 \
  X(rotate_rows, "", kUpdates)                     \
  X(potrf, "", kUpdates)                           \
  X(trsm, "", kUpdates)                            \
  X(syevd, "", kOverwrites)                        \
  X(geqrf, "", kOverwrites)                        \
  X(ormqr, "", kUpdates)                           \
  X(gesvd, "", kOverwrites)                        \
  X(map, "", kUpdates)                             \
  X(rbf, "", kUpdates)                             \
  X(row_sumsq, "", kOverwrites)                    \
  X(column_sums, "", kUpdates)                     \
  X(class_sums, "", kUpdates)                      \
  X(fill_random, "reads no operand", kOverwrites)  \
  X(fill_signs, "reads no operand", kOverwrites)   \
  X(fill_uniform, "reads no operand", kOverwrites) \
  X(fwht, "", kOverwrites)                         \
  X(fwht_columns, "", kUpdates)                    \
  X(hadamard_rows, "", kOverwrites)                \
  X(softmax, "", kOverwrites)                      \
  X(softmax_columns, "", kOverwrites)              \
  X(exp_sums, "", kOverwrites)                     \
  X(exp_write, "", kOverwrites)                    \
  X(fill_row_hash, "whole numbers only", kUpdates) \
  X(sparse_sketch, "", kUpdates)                   \
  X(sparse_sketch_csr, "", kUpdates)               \
  X(gather_columns, "", kOverwrites)               \
  X(circular_convolve, "", kOverwrites)

namespace conformance {

using Table = gramian_op_table;

/* Sizes that straddle every register, vector and block edge in use. */
std::vector<int64_t> edge_sizes(int64_t largest);

/* Reproducible test data, unrelated to the random law under test. */
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t bits();
  double uniform(double low, double high);
  int64_t index(int64_t count);

 private:
  uint64_t state_;
};

/* Entries uniform in [-1, 1), already rounded to dtype. */
Matrix random_matrix(Random& random, int dtype, int64_t rows, int64_t cols);

/* The device state and the table calls a buffer needs. */
struct Machine {
  const Table* table = nullptr;
  gramian_context context{nullptr};
  gramian_context* ctx() { return &context; }
};

/* One guarded block of rows in table memory. The image on the host remembers what was uploaded, guards included. */
class Buffer {
 public:
  Buffer(Machine& machine, bool is_input, int64_t rows, size_t row_bytes, size_t stride, size_t offset,
         const void* packed_rows);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  void* data() const { return base_ + before_; }
  bool is_input() const { return is_input_; }
  /* Bytes of row r as they are in table memory now, and as they were uploaded. */
  const unsigned char* now(int64_t r);
  const unsigned char* was(int64_t r) const { return original_.data() + before_ + stride_ * static_cast<size_t>(r); }
  /* Empty when the guards (and for an input the content) are intact, else what was overwritten. */
  std::string damage();
  int64_t rows() const { return rows_; }
  size_t row_bytes() const { return row_bytes_; }

  int dtype = -1; /* set for matrices */
  int64_t ld = 0;
  int64_t cols = 0;

 private:
  void refresh();
  Machine& machine_;
  bool is_input_;
  int64_t rows_;
  size_t row_bytes_, stride_, before_;
  std::vector<unsigned char> original_, current_;
  unsigned char* base_ = nullptr;
  bool fresh_ = false;
};

struct CaseFailed {}; /* thrown to leave a case that cannot go on */
/* Thrown by a harness that was asked to stop at the first failure; holds what failed. */
struct RunStopped {
  std::string why;
};

/* What the cases of an op showed of NaN; sets of dtypes are masks. */
struct Record {
  unsigned used = 0;     /* float types of the operands */
  unsigned read = 0;     /* those of pure inputs */
  unsigned poisoned = 0; /* those in which a NaN was put and its trace was looked at */
  bool overwrote = false;
};
inline unsigned mask_of(int dtype) {
  return 1u << dtype;
}

/* One running case: owns its buffers, collects its failures. */
class Case {
 public:
  Case(Machine& machine, uint64_t number) : machine_(machine), number_(number) {}

  const Table& table() const { return *machine_.table; }
  gramian_context* ctx() { return machine_.ctx(); }

  /* Matrices with a row pitch of cols plus 0, 1, 3 or 16 elements, by turns; outputs are also the in-place operands. */
  Buffer& input(const Matrix& matrix) { return place(matrix, true); }
  Buffer& output(const Matrix& matrix) { return place(matrix, false); }
  /* Plain arrays. */
  template <class T>
  Buffer& array(const std::vector<T>& values, bool is_input = true) {
    return raw(is_input, values.data(), values.size() * sizeof(T), 0);
  }
  /* Bytes at `offset` from a 64-byte boundary. */
  Buffer& raw(bool is_input, const void* bytes, size_t count, size_t offset);

  /* What the table left behind. */
  Matrix fetch(Buffer& buffer);
  template <class T>
  std::vector<T> fetch_array(Buffer& buffer) {
    std::vector<T> values(buffer.row_bytes() / sizeof(T));
    if (!values.empty()) std::memcpy(values.data(), buffer.now(0), values.size() * sizeof(T));
    return values;
  }

  /* `matrix`, not yet placed, gets a NaN that leaves its trace (see GRAMIAN_CONFORMANCE_OPS), or an infinity. */
  void poison(Matrix& matrix, int64_t row, int64_t col, double value = std::numeric_limits<double>::quiet_NaN());
  /* The same for values of this dtype that are placed as plain arrays and hold a NaN already. */
  void poisoned(int dtype) { record_.poisoned |= mask_of(dtype); }

  void expect_status(int got, int want = GRAMIAN_STATUS_OK);
  void expect(bool holds, const char* format, ...) __attribute__((format(printf, 3, 4)));
  void fail(const char* format, ...) __attribute__((format(printf, 2, 3)));
  /* |got - want| <= bound for every element; a NaN must be a NaN, an infinity the same infinity. */
  void close(const Matrix& got, const Estimate& want);
  /* The same values, signs of zero included; any NaN equals any NaN. */
  void same(const Matrix& got, const Matrix& want);
  /* NaN exactly where `nan` says so, and any number elsewhere: for what is compared in other ways, or not at all. */
  void pattern(const Matrix& got, const std::vector<bool>& nan);
  /* No NaN anywhere. */
  void numbers(const Matrix& got) { pattern(got, std::vector<bool>(got.v.size(), false)); }
  /* The strict upper triangle holds the bytes it was given. */
  void upper_untouched(Buffer& buffer);

  void check_guards();
  /* A case that puts a NaN in expects to see what became of it. */
  void check_trace();
  bool failed() const { return !failure_.empty(); }
  const std::string& failure() const { return failure_; }
  const Record& record() const { return record_; }

 private:
  Buffer& place(const Matrix& matrix, bool is_input);
  /* What a comparison with `got` expects: numbers, NaN or both. */
  void note_expected(const Matrix& got, bool nan, bool number);
  Machine& machine_;
  uint64_t number_;
  uint64_t placed_ = 0;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::string failure_;
  Record record_;
  bool expects_nan_ = false, expects_number_ = false, expects_refusal_ = false;
};

struct Tally {
  int64_t passed = 0;
  int64_t failed = 0;
};

class Harness;

enum Old { kUpdates, kOverwrites };

/* One entry of the table as the list knows it. */
struct Op {
  const char* name;
  const char* without_nan; /* why it has no NaN case; empty: it has */
  Old old;
  size_t offset; /* of its slot in gramian_op_table */
  bool (*present)(const Table&);
  void (*clear)(Table&); /* makes the entry null */
  void (*wrap)(Table&);  /* puts the counting thunk in front of the entry */
  int64_t (*calls)();    /* through the thunk since wrap */
  void (*cases)(Harness&);
};

const std::vector<Op>& all_ops();
const Op* find_op(const std::string& name);
/* Empty when the list covers every function-pointer slot of the struct exactly once, else what is wrong. */
std::string list_defect(const std::vector<Op>& ops);
/* What the cases of `op` left out of NaN, or empty. */
std::string nan_defect(const Op& op, const Record& record);

enum class OnFailure {
  print, /* and go on */
  count, /* and go on */
  stop   /* throw RunStopped */
};

/* Runs the cases of one table. One harness at a time: the counting thunks are per process. */
class Harness {
 public:
  /* elsewhere: what the cases are handed in place of `table`, to prove that this is noticed. */
  Harness(const Table& table, OnFailure on_failure, const Table* elsewhere = nullptr);
  ~Harness();

  /* All cases of one op. A null entry and an op that ran no case are failures. */
  Tally run_op(const Op& op);
  void run(const std::string& what, const std::function<void(Case&)>& body);
  /* The fields before the entries. */
  Tally check_header();

  const Table& table() const { return *machine_.table; }
  bool on_device() const { return counted_.memory == GRAMIAN_DEVICE_MEMORY; }
  Random& random() { return random_; }

 private:
  void note(const std::string& what, const std::string& why);
  Table counted_;
  Machine machine_;
  OnFailure on_failure_;
  bool open_ = false;
  const Op* op_ = nullptr;
  Tally tally_;
  Record record_;
  uint64_t number_ = 0;
  Random random_;
};

/* All ops on the harness's table, after the table's header; adds up in total. */
std::vector<Tally> check_table(Harness& harness, const std::vector<Op>& ops, Tally* total);
/* The verdict on a run: nothing failed, and something was run. */
bool passes(const Tally& total);

std::string text(const char* format, ...) __attribute__((format(printf, 1, 2)));
/* An int64_t as the %lld of `text` takes it. */
inline long long ll(int64_t value) {
  return value;
}
const char* dtype_name(int dtype);
bool holds_nan(const std::vector<double>& values);

/* Every case list; generated from the one list above. */
#define GRAMIAN_DECLARE_CASES(entry, why, old) void cases_##entry(Harness& harness);
GRAMIAN_CONFORMANCE_OPS(GRAMIAN_DECLARE_CASES)
#undef GRAMIAN_DECLARE_CASES

}  // namespace conformance

#endif
