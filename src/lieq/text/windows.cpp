#include "lieq/text/windows.h"

#include <algorithm>
#include <utility>

#include "lieq/base/error.h"

namespace lieq {

Windows CutWindows(std::vector<TokenId> ids, Index length, Index limit, const std::string& where) {
  if (length < 2) {  // one token predicts nothing
    throw Error({.what = "window is too short",
                 .where = where,
                 .expected = "at least 2 tokens",
                 .found = std::to_string(length)});
  }
  if (limit < 0) {
    throw Error({.what = "number of windows is negative",
                 .where = where,
                 .expected = "0 for all, or more",
                 .found = std::to_string(limit)});
  }
  Windows windows{.length = length, .tokens_in_text = static_cast<Index>(ids.size())};
  windows.count = windows.tokens_in_text / length;
  if (windows.count == 0) {
    throw Error({.what = "text is shorter than one window",
                 .where = where,
                 .expected = "at least " + std::to_string(length) + " tokens",
                 .found = std::to_string(windows.tokens_in_text)});
  }
  if (limit > 0) windows.count = std::min(windows.count, limit);
  ids.resize(Size(windows.count * length));
  windows.tokens = std::move(ids);
  return windows;
}

}  // namespace lieq
