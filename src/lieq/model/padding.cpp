#include "lieq/model/padding.h"

#include <algorithm>

#include "lieq/base/assert.h"

namespace lieq {

Padding::Padding(View<const TokenId, 2> windows) {
  for (Index w = 0; w < windows.rows(); ++w) {
    const auto row = windows.Row(w);
    const auto none = std::ranges::find(row, kNoToken);
    if (none == row.end()) continue;
    LIEQ_ASSERT(std::all_of(none, row.end(), [](TokenId id) { return id == kNoToken; }));
    const Index begin = w * windows.cols() + (none - row.begin()), end = (w + 1) * windows.cols();
    if (!runs_.empty() && runs_.back().end == begin) {
      runs_.back().end = end;
    } else {
      runs_.push_back({begin, end});
    }
    rows_ += end - begin;
  }
}

void Padding::Clear(Device& device, DeviceView<float> x, Index first) const {
  if (empty()) return;
  constexpr Index kRowsAtOnce = 64;
  const Index end = first + x.rows();
  DeviceMatrix zeros;  // copied and not scaled by 0, which would keep what is not finite
  auto run = std::ranges::upper_bound(runs_, first, {}, &Run::end);
  for (; run != runs_.end() && run->begin < end; ++run) {
    if (zeros.rows() == 0) {
      const Matrix<float> none(kRowsAtOnce, x.cols());
      zeros = device.Alloc(kRowsAtOnce, x.cols());
      device.Upload(none.view(), zeros.view());
    }
    const Index stop = std::min(run->end, end);
    for (Index row = std::max(run->begin, first); row < stop; row += kRowsAtOnce) {
      const Index count = std::min(kRowsAtOnce, stop - row);
      device.Copy(zeros.view().Rows(0, count), x.Rows(row - first, count));
    }
  }
}

Hidden EmbedPadded(Forward& forward, Device& device, View<const TokenId, 2> windows) {
  const Padding padding(windows);
  if (padding.empty()) return forward.Embed(windows);
  Matrix<TokenId> filled(windows.rows(), windows.cols());
  for (Index w = 0; w < windows.rows(); ++w) {
    std::ranges::replace_copy(windows.Row(w), filled.view().Row(w).begin(), kNoToken, TokenId{0});
  }
  Hidden hidden = forward.Embed(filled.view());
  padding.Clear(device, hidden.x.view(), 0);
  return hidden;
}

}  // namespace lieq
