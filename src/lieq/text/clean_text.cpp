#include "lieq/text/clean_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "lieq/base/error.h"
#include "lieq/text/foreign.h"
#include "lieq/text/utf8.h"

namespace lieq {
namespace {

constexpr std::string_view kMark = "\xEF\xBB\xBF";

/// "byte 120 (E9), in line 3"
std::string Place(std::string_view bytes, std::size_t at) {
  const auto line = 1 + std::ranges::count(bytes.substr(0, at), '\n');
  return fmt::format("byte {} ({:02X}), in line {}", Grouped(at),
                     static_cast<unsigned char>(bytes[at]), line);
}

/// "0.031 %": two digits that say something.
std::string Share(std::size_t part, std::size_t whole) {
  return fmt::format("{:.2g} %", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

[[noreturn]] void Refuse(const std::string& path, const ForeignFormat& format,
                         const std::string& place) {
  throw Error({.what = "not UTF-8 text",
               .where = path,
               .expected = "UTF-8: plain text, rows of JSON (.jsonl, .json), or gzip of either",
               .found = format.name + ", " + place,
               .hint = format.hint});
}

}  // namespace

std::string_view Name(LineEnds ends) noexcept {
  return ends == LineEnds::kLf ? "lf" : "keep";
}

std::string Grouped(std::size_t count) {
  std::string text = std::to_string(count);
  for (std::size_t at = text.size(); at > 3;) text.insert(at -= 3, ",");
  return text;
}

std::string FileName(const std::string& path) {
  return std::filesystem::path(path).filename().string();
}

std::string CleanText(std::string bytes, const std::string& path, std::vector<TextNote>& notes) {
  const Utf8Faults faults = FindFaults(bytes);
  const auto zeros = static_cast<std::size_t>(std::ranges::count(bytes, '\0'));
  const bool utf8 = faults.bytes == 0 && zeros == 0;
  if (const ForeignFormat known = FormatOfFirstBytes(bytes, utf8, path); !known.name.empty()) {
    Refuse(path, known, "by its first bytes");
  }
  const std::string name = FileName(path);
  if (!utf8) {
    const std::size_t first_zero = bytes.find('\0');
    const std::size_t first = faults.bytes == 0 ? first_zero : std::min(faults.first, first_zero);
    const std::size_t all = faults.bytes + zeros;
    const std::string place = "the first at " + Place(bytes, first);
    // A character that `head -c` cut off says nothing about the rest.
    const std::size_t counted = faults.cut ? all - (bytes.size() - WholeCharacters(bytes)) : all;
    if (counted * kBytesPerFault > bytes.size()) {
      Refuse(path, GuessFormat(bytes, path),
             fmt::format("by its bytes; {} of it {} no text, {}", Share(all, bytes.size()),
                         all == 1 ? "is" : "are", place));
    }
    if (faults.bytes > 0) {
      notes.push_back(
          {fmt::format("{}: {} byte{} that {} no UTF-8 ({} of it) became U+FFFD, {}", name,
                       Grouped(faults.bytes), faults.bytes == 1 ? "" : "s",
                       faults.bytes == 1 ? "is" : "are", Share(faults.bytes, bytes.size()),
                       "the first at " + Place(bytes, faults.first)),
           true});
    }
    if (zeros > 0) {
      notes.push_back({fmt::format("{}: {} zero byte{} ({} of it) in the text, the first at {}",
                                   name, Grouped(zeros), zeros == 1 ? "" : "s",
                                   Share(zeros, bytes.size()), Place(bytes, first_zero)),
                       true});
    }
    std::string repaired;
    if (ToValidUtf8(bytes, repaired).data() != bytes.data()) bytes = std::move(repaired);
  }
  if (bytes.starts_with(kMark)) {
    bytes.erase(0, kMark.size());
    notes.push_back({name + ": the byte order mark at its start is left out"});
  }
  return bytes;
}

std::size_t ToLf(std::string& text) {
  std::size_t to = text.find('\r');
  if (to == std::string::npos) return 0;
  std::size_t count = 0;
  for (std::size_t from = to; from < text.size(); ++from) {
    char c = text[from];
    if (c == '\r') {
      ++count;
      if (from + 1 < text.size() && text[from + 1] == '\n') ++from;
      c = '\n';
    }
    text[to++] = c;
  }
  text.resize(to);
  return count;
}

std::size_t TreatLineEnds(std::string& text, LineEnds ends) {
  if (ends == LineEnds::kLf) return ToLf(text);
  return static_cast<std::size_t>(std::ranges::count(text, '\r'));
}

void NoteLineEnds(std::size_t count, LineEnds ends, const std::string& name,
                  std::vector<TextNote>& notes) {
  if (count == 0) return;
  const std::string_view done = ends == LineEnds::kLf ? "read as LF (--line-ends keep leaves them)"
                                                      : "kept (--line-ends lf reads them as LF)";
  notes.push_back({fmt::format("{}: {} line end{} of CRLF or CR {} {}", name, Grouped(count),
                               count == 1 ? "" : "s", count == 1 ? "is" : "are", done)});
}

}  // namespace lieq
