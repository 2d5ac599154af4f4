// What the binding files share: one bind_<area> function each, and how a compute call is made.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <type_traits>
#include <utility>

#include "gramian/core/exec.hpp"
#include "gramian/linalg/solve.hpp"

namespace gramian::python {

namespace py = pybind11;

void bind_errors(py::module_& module);
void bind_broad(py::module_& module);
void bind_core(py::module_& module);
void bind_diagonal_steps(py::module_& module);
void bind_composite(py::module_& module);
void bind_conformal(py::module_& module);
void bind_features(py::module_& module);
void bind_fixed_point(py::module_& module);
void bind_flow(py::module_& module);
void bind_gram(py::module_& module);
void bind_iterate(py::module_& module);
void bind_kernels(py::module_& module);
void bind_logistic_head(py::module_& module);
void bind_low_rank(py::module_& module);
void bind_regression(py::module_& module);
void bind_risk(py::module_& module);
void bind_sketch(py::module_& module);
void bind_softmax_regression(py::module_& module);
void bind_analytic(py::module_& module);
void bind_dual_stream(py::module_& module);
void bind_transforms(py::module_& module);
void bind_truncated(py::module_& module);
void bind_leave_one_out(py::module_& module);
void bind_influence(py::module_& module);
void bind_quantiles(py::module_& module);
void bind_r_factor(py::module_& module);
void bind_heads(py::module_& module);
void bind_second_order(py::module_& module);
void bind_targets(py::module_& module);

// A Python warning where a solve with a ridge had to leave directions out. Call with the GIL.
void warn_of_rank(const SolveReport& report);

// An Exec whose cancel hook lets Python handle signals, at most ten times a second.
Exec make_exec(const std::string& device, int threads);

// Runs `body` without the GIL. A signal handler that raised inside it (Ctrl-C) wins over what `body` did.
template <class Body>
void without_gil(const Body& body) {
  {
    py::gil_scoped_release release;
    body();
  }
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();
}

// A model and the lock that Python threads need around it: one writer, or any number of readers. Locks are always
// taken without the GIL, so a thread that waits for one never blocks the interpreter.
template <class Model>
class Guarded {
 public:
  explicit Guarded(Model model) : model_(std::move(model)) {}

  template <class Body>
  void write(const Body& body) {
    without_gil([&] {
      std::unique_lock lock(mutex_);
      const Change change(*this);
      body(model_);
    });
  }

  // Grows with every change, one that failed half way among them. Read without the lock, and before the model is: what
  // was derived from the model at one count holds while the count is the same.
  std::uint64_t changes() const { return changes_.load(std::memory_order_acquire); }

  template <class Body>
  void read(const Body& body) const {
    without_gil([&] {
      std::shared_lock lock(mutex_);
      body(model_);
    });
  }

  // Weights are solved when they are first needed, which writes inside a const model: `solve` runs alone, once after
  // each change, and the readers then share.
  // It gives the report of the solve, and what that has to warn of is said here, once.
  template <class Solve, class Body>
  void read_solved(const Solve& solve, const Body& body) const {
    SolveReport fresh;
    without_gil([&] {
      for (;;) {
        {
          std::shared_lock lock(mutex_);
          if (solved_) return body(model_);
        }
        std::unique_lock lock(mutex_);
        fresh = solve(model_);
        solved_ = true;
      }
    });
    warn_of_rank(fresh);
  }

  // this.write with `other` held for reading; it may be the same one.
  template <class Body>
  void write_with(const Guarded& other, const Body& body) {
    if (this == &other) return write([&](Model& model) { body(model, model); });
    without_gil([&] {
      std::unique_lock mine(mutex_, std::defer_lock);
      std::shared_lock theirs(other.mutex_, std::defer_lock);
      std::lock(mine, theirs);
      const Change change(*this);
      body(model_, other.model_);
    });
  }

  // Two models for reading; they may be the same one.
  template <class Body>
  void read_with(const Guarded& other, const Body& body) const {
    if (this == &other) return read([&](const Model& model) { body(model, model); });
    without_gil([&] {
      std::shared_lock mine(mutex_, std::defer_lock);
      std::shared_lock theirs(other.mutex_, std::defer_lock);
      std::lock(mine, theirs);
      body(model_, other.model_);
    });
  }

  // Alone, but the model's value does not change: saving may touch what const methods cache.
  template <class Body>
  void alone(const Body& body) const {
    without_gil([&] {
      std::unique_lock lock(mutex_);
      body(model_);
    });
  }

 private:
  struct Change {
    explicit Change(Guarded& of_) : of(of_) { of.solved_ = false; }
    ~Change() { of.changes_.fetch_add(1, std::memory_order_release); }
    Change(const Change&) = delete;
    Change& operator=(const Change&) = delete;
    Guarded& of;
  };

  Model model_;
  mutable std::shared_mutex mutex_;
  mutable bool solved_ = false;
  std::atomic<std::uint64_t> changes_{0};
};

// A method without arguments, or a property: what get(model) is, read under the lock.
template <class Model, class Get>
auto getter(Get get) {
  return [get](const Guarded<Model>& self) {
    std::decay_t<std::invoke_result_t<Get, const Model&>> value{};
    self.read([&](const Model& model) { value = get(model); });
    return value;
  };
}

}  // namespace gramian::python
