// What stands behind the last token of windows that are not full.
//
// Attention is causal and windows do not see one another, so that rows behind a window's last token
// change nothing before them. All that is left is to keep them out of what is added up over rows:
// rows of zeros add nothing to xᵀx, and nothing to any product that has x as a factor.
#pragma once

#include <vector>

#include "lieq/base/no_token.h"
#include "lieq/device/device.h"
#include "lieq/model/forward.h"
#include "lieq/tensor/view.h"

namespace lieq {

/// Which rows of windows hold no token.
class Padding {
 public:
  Padding() = default;  // none of them
  /// windows [windows, length]; kNoToken (base/no_token.h) may fill the end of each, and stands in
  /// no other place.
  explicit Padding(View<const TokenId, 2> windows);

  [[nodiscard]] bool empty() const noexcept { return runs_.empty(); }
  /// All of them.
  [[nodiscard]] Index rows() const noexcept { return rows_; }
  /// x [rows, cols]: rows first, first + 1, ... of the windows. Those without a token become 0.
  void Clear(Device& device, DeviceView<float> x, Index first) const;

 private:
  struct Run {
    Index begin = 0, end = 0;  // rows of all windows, one below another
  };
  std::vector<Run> runs_;  // rising
  Index rows_ = 0;
};

/// As forward.Embed, of windows that kNoToken may end: rows of 0 there.
[[nodiscard]] Hidden EmbedPadded(Forward& forward, Device& device, View<const TokenId, 2> windows);

}  // namespace lieq
