// Gzip-compressed text (RFC 1952), read with suspicion.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace lieq {

/// Whether the bytes begin as a gzip file does. Text in UTF-8 never does.
[[nodiscard]] bool IsGzip(std::string_view bytes) noexcept;

/// What a gzip file holds: all its members, one after another, as `zcat` gives them; zeros behind
/// the last one are padding.
///
/// limit  bytes of the result: a file of a megabyte may say that it holds a gigabyte
/// where  names the file in errors
///
/// Throws Error: not gzip, damaged (the check sum of a member is compared), cut off, larger than
/// the limit, bytes behind the last member.
[[nodiscard]] std::string Gunzip(std::string_view bytes, std::uint64_t limit,
                                 const std::string& where);

}  // namespace lieq
