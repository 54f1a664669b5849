// Bytes of a file to text: UTF-8 or refused, and a word about everything that is changed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lieq {

/// What was changed, repaired or left aside in a text: for the log and for records.
struct TextNote {
  std::string text;      // "a.txt: ...", without folders
  bool warning = false;  // the text may not be what its owner thinks it is

  friend bool operator==(const TextNote&, const TextNote&) = default;
};

/// What becomes of CRLF and CR: LF, as Python's open() has it and with it the loaders of data sets,
/// or what they are.
enum class LineEnds : std::uint8_t { kLf, kKeep };
[[nodiscard]] std::string_view Name(LineEnds ends) noexcept;

/// Zeros and bytes that are no UTF-8 that a text may hold, as a share of its bytes: one in so many.
inline constexpr std::size_t kBytesPerFault = 1000;

/// The text that the bytes are. A byte order mark is dropped; up to one byte in kBytesPerFault that
/// is no UTF-8 becomes U+FFFD as Python's errors="replace" does, and so does a character that the
/// end cuts off; zeros, counted among them, stay. `notes` gets a line for each.
///
/// path  of the file, in messages
///
/// Throws Error with the first place, what the bytes look like, and how to make text of them: more
/// such bytes, or bytes that files of a known other format begin with.
[[nodiscard]] std::string CleanText(std::string bytes, const std::string& path,
                                    std::vector<TextNote>& notes);

/// Turns CRLF and lone CR to LF in place; how many there were.
std::size_t ToLf(std::string& text);

/// ToLf or nothing; how many CRLF and lone CR there were.
std::size_t TreatLineEnds(std::string& text, LineEnds ends);
/// Adds the note about that many, none for 0. name: of the file.
void NoteLineEnds(std::size_t count, LineEnds ends, const std::string& name,
                  std::vector<TextNote>& notes);

/// "6,108": a count with commas.
[[nodiscard]] std::string Grouped(std::size_t count);

/// The last part of a path.
[[nodiscard]] std::string FileName(const std::string& path);

}  // namespace lieq
