#include "gaps.h"

#include "backend/registry.h"

namespace conformance {

namespace {

void no_cases(Harness&) {}

/* One case of add_diagonal on a matrix of ones. */
void diagonal_case(Harness& harness, int dtype, int64_t n, bool poison, bool look) {
  harness.run("a case of its own", [&](Case& c) {
    Matrix a(dtype, n, n, 1.0);
    if (poison) c.poison(a, 0, 0);
    Buffer& da = c.output(a);
    c.expect_status(c.table().add_diagonal(c.ctx(), dtype, n, 0.0, da.data(), da.ld));
    if (look) c.same(c.fetch(da), a);
  });
}
void without_nan(Harness& harness) {
  diagonal_case(harness, GRAMIAN_F64, 3, false, true);
}
void without_a_look(Harness& harness) {
  diagonal_case(harness, GRAMIAN_F64, 3, true, false);
}
void with_nothing_but_nan(Harness& harness) {
  diagonal_case(harness, GRAMIAN_F64, 1, true, true);
}
void with_one_type(Harness& harness) {
  diagonal_case(harness, GRAMIAN_F64, 3, true, true);
  diagonal_case(harness, GRAMIAN_F32, 3, false, true);
}
void with_both_types(Harness& harness) {
  diagonal_case(harness, GRAMIAN_F64, 3, true, true);
  diagonal_case(harness, GRAMIAN_F32, 3, true, true);
}

/* Counts what was provoked and prints what went unnoticed. */
class Proof {
 public:
  /* The op must fail, with `part` in the reason. */
  void expect(const Table& table, const Op& op, const char* part, const Table* elsewhere = nullptr) {
    std::string why = "it passed";
    try {
      Harness harness(table, OnFailure::stop, elsewhere);
      harness.run_op(op);
    } catch (const RunStopped& stopped) {
      why = stopped.why;
    }
    note(why.find(part) != std::string::npos,
         text("%s %s: wanted \"%s\", but %s", table.name, op.name, part, why.c_str()));
  }
  /* The whole run must fail. */
  void expect_run_fails(const char* what, const Table& table, const std::vector<Op>& ops,
                        const Table* elsewhere = nullptr) {
    Harness harness(table, OnFailure::count, elsewhere);
    Tally total;
    check_table(harness, ops, &total);
    note(!passes(total), text("%s: the run passes with %s", table.name, what));
  }
  void expect_list_fails(const char* what, const std::vector<Op>& ops) {
    note(!list_defect(ops).empty(), text("the list passes with %s", what));
  }
  void note(bool caught, const std::string& otherwise) {
    ++total_;
    if (caught) {
      ++caught_;
    } else {
      std::printf("NOT CAUGHT %s\n", otherwise.c_str());
    }
  }
  bool holds() const {
    std::printf("gaps: caught %d of %d\n", caught_, total_);
    return caught_ == total_ && total_ > 0;
  }

 private:
  int total_ = 0, caught_ = 0;
};

Op with_cases(Op op, void (*cases)(Harness&)) {
  op.cases = cases;
  return op;
}
Op without_cases(const Op& op) {
  return with_cases(op, &no_cases);
}

/* What is asked of every op about NaN, on records of cases that were left out. */
void prove_nan_law(Proof& proof, const Op& op) {
  const unsigned floats = mask_of(GRAMIAN_F32) | mask_of(GRAMIAN_F64);
  const bool excused = *op.without_nan != 0;
  const auto expect = [&](const Record& record, const char* part) {
    const std::string why = nan_defect(op, record);
    const bool right = *part == 0 ? why.empty() : why.find(part) != std::string::npos;
    proof.note(right, text("%s: wanted \"%s\", but \"%s\"", op.name, part, why.c_str()));
  };
  Record whole;
  whole.overwrote = op.old == kOverwrites;
  if (!excused) whole.used = whole.read = whole.poisoned = floats;
  expect(whole, "");
  Record record = whole;
  record.overwrote = !whole.overwrote;
  expect(record, op.old == kOverwrites ? "no case begins with NaN" : "overwrites its output");
  record = whole;
  if (excused) {
    record.read = floats;
    expect(record, "reads numbers");
    record = whole;
    record.poisoned = floats;
    expect(record, "a reason to have none");
  } else {
    record.poisoned = mask_of(GRAMIAN_F64);
    expect(record, "no NaN case in f32");
    record.poisoned = mask_of(GRAMIAN_F32);
    expect(record, "no NaN case in f64");
    record.poisoned = record.used = 0;
    expect(record, "no NaN case");
  }
}

/* And that a run does ask. */
void prove_nan_is_asked(Proof& proof, const Table& table) {
  const Op op = *find_op("add_diagonal");
  proof.expect(table, with_cases(op, &without_nan), "the op has no NaN case in f64");
  proof.expect(table, with_cases(op, &without_a_look), "a NaN went in, and nothing is expected of it");
  proof.expect(table, with_cases(op, &with_nothing_but_nan), "the op has no NaN case in f64");
  proof.expect(table, with_cases(op, &with_one_type), "the op has no NaN case in f32");
  proof.expect(table, with_cases(op, &with_both_types), "it passed");
}

/* Another table whose memory is of the same kind, else a second copy of the same one: its results are right, so only
 * the count of calls can tell. */
const Table& another(const Table& table) {
  for (const Table* other : gramian::backend::all_tables()) {
    if (other->memory == table.memory && std::string(other->name) != table.name) return *other;
  }
  return table;
}

void prove_list(Proof& proof) {
  for (size_t k = 0; k < all_ops().size(); ++k) {
    std::vector<Op> ops = all_ops();
    ops.erase(ops.begin() + static_cast<std::ptrdiff_t>(k));
    proof.expect_list_fails(text("no op `%s`", all_ops()[k].name).c_str(), ops);
    ops = all_ops();
    ops[k] = ops[(k + 1) % ops.size()];
    proof.expect_list_fails(text("another op in place of `%s`", all_ops()[k].name).c_str(), ops);
  }
}

void prove_table(Proof& proof, const Table& table, const Op& op) {
  Table empty = table;
  op.clear(empty);
  proof.expect(empty, op, text("entry `%s` is null", op.name).c_str());
  proof.expect_run_fails(text("a null `%s`", op.name).c_str(), empty, {op});

  proof.expect(table, without_cases(op), "the op has no case");
  proof.expect_run_fails(text("no case of `%s`", op.name).c_str(), table, {without_cases(op)});

  const char* const elsewhere = "the case did not call this table's entry";
  proof.expect(table, op, elsewhere, &table);
  proof.expect(table, op, elsewhere, &another(table));
}

}  // namespace

bool prove_gaps_fail(const std::vector<const Table*>& tables, const std::vector<Op>& ops) {
  Proof proof;
  prove_list(proof);
  for (const Op& op : all_ops()) prove_nan_law(proof, op);
  for (const Table* table : tables) {
    for (const Op& op : ops) prove_table(proof, *table, op);
    prove_nan_is_asked(proof, *table);
    /* One whole run in which every case ends well, but elsewhere; and the same run where it belongs. */
    const std::vector<Op> cheap = {*find_op("add_diagonal")};
    proof.expect_run_fails("cases that ran elsewhere", *table, cheap, table);
    Harness harness(*table, OnFailure::count);
    Tally total;
    check_table(harness, cheap, &total);
    proof.note(passes(total), text("%s: the untouched table fails", table->name));
    /* The header of the table. */
    Table old = *table, nameless = *table;
    old.api_version += 1;
    nameless.name = "";
    proof.expect_run_fails("another version", old, cheap);
    proof.expect_run_fails("no name", nameless, cheap);
  }
  return proof.holds();
}

}  // namespace conformance
