#include "lieq/text/windows.h"

#include <algorithm>
#include <utility>

#include "lieq/base/error.h"

namespace lieq {

void RefuseShortText(Index tokens, Index length, Index shortest, const std::string& where,
                     std::string_view option) {
  const std::string fits = std::string(option) + " " + std::to_string(tokens);
  throw Error({.what = "text is shorter than one window",
               .where = where,
               .expected = "at least " + std::to_string(length) + " tokens",
               .found = std::to_string(tokens),
               .hint = tokens < shortest ? "a longer text" : fits + " or less, or a longer text"});
}

Windows CutWindows(std::vector<TokenId> ids, Index length, Index limit, const std::string& where,
                   std::string_view option) {
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
  if (windows.count == 0) RefuseShortText(windows.tokens_in_text, length, 2, where, option);
  if (limit > 0) windows.count = std::min(windows.count, limit);
  ids.resize(Size(windows.count * length));
  windows.tokens = std::move(ids);
  return windows;
}

}  // namespace lieq
