// Windows that are not full, between those who cut them and those who run them.
#pragma once

#include "lieq/base/types.h"

namespace lieq {

/// In the place of a token behind the last one of a window that is not full (model/padding.h).
inline constexpr TokenId kNoToken = -1;

}  // namespace lieq
