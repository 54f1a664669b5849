// Normalization form C, as the reference does it.
#pragma once

#include <string>
#include <string_view>

namespace lieq {

/// NFC of valid UTF-8; `text` itself where it is in that form, else a view of `storage`. Only the
/// few characters that could change are looked at closely.
[[nodiscard]] std::string_view ToNfc(std::string_view text, std::string& storage);

}  // namespace lieq
