// Texts in files: plain UTF-8, rows of JSON ("JSON Lines"), and gzip of either.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lieq {

struct TextOptions {
  std::vector<std::string> fields;               // of a row of JSON; empty: those of its layout
  std::uint64_t limit = std::uint64_t{1} << 32;  // bytes of the file, packed and unpacked
};

/// The text of a file. Compression is told by the first bytes, rows of JSON by the name
/// (IsJsonLines). Throws Error naming file, line and key: see Gunzip and JoinRows.
[[nodiscard]] std::string ReadTextFile(const std::filesystem::path& path,
                                       const TextOptions& options = {});

/// The texts of rows of JSON, one object a line, joined by a blank line. A text is the values of
/// `fields` that are not empty, joined by a newline; rows without any text are left out, and so are
/// lines of white space. A carriage return before the newline, and a byte order mark, are not part
/// of a row.
///
/// fields  empty: "text" where the first row has it; else those of a layout that it has:
///         instruction, context, response (Dolly), or chosen (HH-RLHF)
///
/// Throws Error naming `where`, the line from 1 and the key: not JSON, not an object, a field that
/// is missing or no string, a first row of no known layout, no text at all.
[[nodiscard]] std::string JoinRows(std::string_view content, std::span<const std::string> fields,
                                   const std::string& where);

}  // namespace lieq
