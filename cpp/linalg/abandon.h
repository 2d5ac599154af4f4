// Long operations of the table that nothing can stop, such as an eigen-decomposition: their callers need not wait.
#pragma once

#include <functional>

#include "gramian/core/exec.hpp"

namespace gramian::linalg {

// Runs work() and returns after it, rethrowing what it throws. Where exec can be cancelled, work() runs on a thread of
// its own while this one asks; on a cancellation this throws at once, and the thread goes on to its end with nobody
// waiting. So work must own all that it reads and writes (shared pointers, an Exec::uninterrupted() and numbers); what
// it owns is given back when it has ended. The end of the process waits for such threads, lest they compute while it
// is being taken down. A child of fork knows nothing of them.
// Which thread runs work() is all that differs, so the bits are the same. Starting the thread takes some 50 us.
void run_abandonable(const Exec& exec, std::function<void()> work);

}  // namespace gramian::linalg
