// Every row of kernels that this processor runs.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "lieq/device/cpu/kernels.h"

namespace lieq {

/// Calls check(row) for each; what fails names the row.
template <class Function>
void ForKernelRows(const Function& check) {
  for (const KernelSet* row : KernelSets()) {
    if (!row->supported()) continue;
    SCOPED_TRACE(std::string(row->name));
    check(*row);
  }
}

}  // namespace lieq
