// The plainest grid of a width: rows of any length hold it.
#pragma once

#include "lieq/tensor/qmatrix.h"

namespace lieq {

inline Grid RowGrid(int bits) {
  return {.bits = bits, .group_size = 0};
}

}  // namespace lieq
