// Where every thread of this process stands, written by the process itself: there is no debugger
// where it runs.
//
// Names of functions are those of the dynamic symbol table (programs are linked with exports), as
// the compiler wrote them: `c++filt` makes them readable, `addr2line` finds the lines.
// Thread: prepare_stacks() before other threads start, write_stacks() from any, one at a time.
#pragma once

#include <string>

namespace farside::reactor {

// Claims the signal that threads are asked by.  Idempotent.
void prepare_stacks();

// The stacks of all threads but the caller's, each under its thread's number and name.  A thread
// that does not answer within half a second (it waits in the kernel and cannot be woken) is named
// without its stack.
std::string stacks_of_all_threads();

// To standard error, past the log (whose lock may be held by the thread that hangs); gives up when
// nobody reads it.
void write_past_the_log(const std::string& text);

}  // namespace farside::reactor
