// Files of rows: JSON Lines (one object a line) and CSV, plain or in gzip.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/io/json.h"

namespace lieq {

/// Whether the name ends in .jsonl or .ndjson, perhaps with .gz behind it. By name, not content:
/// prose may begin with a brace.
[[nodiscard]] bool IsJsonLines(const std::filesystem::path& path);

/// The file, unpacked where its first bytes say gzip. Throws Error: see ReadText and Gunzip.
[[nodiscard]] std::string ReadPlain(const std::filesystem::path& path,
                                    std::uint64_t limit = std::uint64_t{1} << 32);

/// The next line without its end; `rest` begins behind it. A carriage return before the newline is
/// not part of a line.
[[nodiscard]] std::string_view TakeLine(std::string_view& rest);

/// Shows each line's value with its place ("file:3"). Lines of white space are left out, and so is
/// a byte order mark. Throws Error naming `where` and the line from 1.
void ForJsonRows(std::string_view content, const std::string& where,
                 const std::function<void(const Json& row, const std::string& place)>& see);

/// Records of comma-separated values (RFC 4180): fields in double quotes may hold commas, newlines
/// and doubled quotes. Throws Error naming `where` and the line: text behind a closing quote, a
/// quote that is never closed.
[[nodiscard]] std::vector<std::vector<std::string>> ParseCsv(std::string_view content,
                                                             const std::string& where);

/// A row of a file and its place ("file:3").
struct TableRow {
  Json fields;  // an object
  std::string place;
};

/// Rows of a JSON Lines file, or of a CSV file as objects of strings: `columns` names its fields,
/// or its first record does where that is empty. At most `limit`; 0 for all. Throws Error.
[[nodiscard]] std::vector<TableRow> ReadRows(const std::filesystem::path& path,
                                             const std::vector<std::string>& columns = {},
                                             std::size_t limit = 0);

}  // namespace lieq
