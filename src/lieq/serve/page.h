// The page at /.
#pragma once

#include <string_view>

namespace lieq {

/// One self-contained file of HTML.
[[nodiscard]] std::string_view ChatPage() noexcept;

}  // namespace lieq
