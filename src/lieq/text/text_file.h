// Texts in files: plain UTF-8, rows of JSON (one a line, or an array), and gzip of either.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lieq/text/clean_text.h"

namespace lieq {

struct TextOptions {
  std::vector<std::string> fields;  // of a row of JSON; empty: those of its layout
  /// Of a row that is a chat: who speaks, and the field that holds what is said, turn by turn.
  std::vector<std::pair<std::string, std::string>> turns;
  LineEnds line_ends = LineEnds::kLf;
  std::uint64_t limit = std::uint64_t{1} << 32;  // bytes of the file, packed and unpacked
};

/// A text as it is used, and what was done to it on the way.
struct FileText {
  std::string text;
  std::vector<TextNote> notes;
};

/// Whether the name says rows of JSON: .jsonl, .ndjson or .json, perhaps with .gz behind it.
[[nodiscard]] bool HoldsRows(const std::filesystem::path& path);

/// The text of a file. Compression is told by the first bytes, rows of JSON by the name
/// (HoldsRows). Throws Error naming file, line and key: see Gunzip, CleanText, JoinRows and
/// JoinArray; a text that is white space alone.
[[nodiscard]] FileText ReadTextFile(const std::filesystem::path& path,
                                    const TextOptions& options = {});

/// The same for a file that is plain whatever its name is, and may be empty.
[[nodiscard]] FileText ReadPlainText(const std::filesystem::path& path,
                                     const TextOptions& options = {});

/// The texts of rows of JSON, one object a line, joined by a blank line. A text is the values of
/// the fields that are not empty, joined by a newline; fields that are null or missing are counted
/// and left out, and so are rows without any text. Lines of white space are passed over. A carriage
/// return before the newline, and a byte order mark, are not part of a row. Without
/// options.fields: "text" where the first row has it; else those of a layout that it has:
/// instruction, context, response (Dolly), or chosen (HH-RLHF).
///
/// Throws Error naming `where`, the line from 1 and the key: not JSON, not an object, a field that
/// is no string, a first row of no known layout, rows of chats, no text at all.
[[nodiscard]] FileText JoinRows(std::string_view content, const TextOptions& options,
                                const std::string& where);

/// The same for one document of JSON: an array of texts, or of objects as in JoinRows. Content that
/// is rows of JSON after all, one a line, is read as such. Throws Error, also for an object.
[[nodiscard]] FileText JoinArray(std::string_view content, const TextOptions& options,
                                 const std::string& where);

}  // namespace lieq
