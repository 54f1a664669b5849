// What a call has to say for itself.
#pragma once

#include <string>

#include "lieq/base/error.h"

namespace lieq {

/// The message of the Error that `call` throws; empty where it throws none.
template <class F>
[[nodiscard]] std::string ErrorOf(F&& call) {
  try {
    (void)call();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

/// What it is made of, to check one part; all empty where it throws none.
template <class F>
[[nodiscard]] Problem ProblemOf(F&& call) {
  try {
    (void)call();
  } catch (const Error& error) {
    return error.problem();
  }
  return {};
}

}  // namespace lieq
