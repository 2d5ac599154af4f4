// The factor of a fitted model, for what works on it.
#pragma once

#include <memory>

#include "bindings.hpp"
#include "gramian/gram/influence.hpp"
#include "gramian/gram/ridge_head.hpp"

namespace gramian::python {

// At the ridge the model uses. Call with the GIL.
template <class Model>
std::unique_ptr<GroupInfluence> influence_of(const Guarded<Model>& self) {
  std::unique_ptr<GroupInfluence> out;
  self.read_solved([](const Model& model) { return model.head().solution().report; },
                   [&](const Model& model) {
                     const RidgeHead& head = model.head();
                     out = std::make_unique<GroupInfluence>(
                         RidgeFactor(head.state(), head.ridge_used(), head.config().standardize), head.map());
                   });
  return out;
}

}  // namespace gramian::python
