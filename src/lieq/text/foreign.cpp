#include "lieq/text/foreign.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include "lieq/base/shell.h"

namespace lieq {
namespace {

/// A format by the bytes at one place. `hint`: FILE stands for the path, TEXT for the new file.
struct Magic {
  std::string_view name;
  std::size_t offset;
  std::string_view bytes;
  std::string_view hint;
  bool text_alone = false;  // told by these bytes even where all of the file is UTF-8
};

using namespace std::string_view_literals;

constexpr std::string_view kTable =
    "python3 -c \"import pandas, sys; pandas.read_ROWS('FILE')[['text']].to_json('rows.jsonl', "
    "orient='records', lines=True)\", with the name of its column for text";
constexpr std::string_view kWeights = "give the text itself here; a model is a word of its own";
constexpr std::string_view kUnknown =
    "give UTF-8 text, rows of JSON, or gzip of either (docs/texts.md)";

// The longer of two that begin alike comes first.
constexpr std::array kMagics{
    Magic{"UTF-32, little-endian", 0, "\xFF\xFE\0\0"sv, "iconv -f UTF-32 -t UTF-8 FILE > TEXT"},
    Magic{"UTF-32, big-endian", 0, "\0\0\xFE\xFF"sv, "iconv -f UTF-32 -t UTF-8 FILE > TEXT"},
    Magic{"UTF-16, little-endian", 0, "\xFF\xFE"sv, "iconv -f UTF-16 -t UTF-8 FILE > TEXT"},
    Magic{"UTF-16, big-endian", 0, "\xFE\xFF"sv, "iconv -f UTF-16 -t UTF-8 FILE > TEXT"},
    Magic{"GB 18030", 0, "\x84\x31\x95\x33"sv, "iconv -f GB18030 -t UTF-8 FILE > TEXT"},
    Magic{"a zip archive (or docx, xlsx, epub, npz, a file of torch.save)", 0, "PK\x03\x04"sv,
          "unzip -p FILE NAME > TEXT, with the name of the text in it"},
    Magic{"an empty zip archive", 0, "PK\x05\x06"sv, "give the text itself"},
    Magic{"a 7z archive", 0, "7z\xBC\xAF\x27\x1C"sv, "7z x -so FILE > TEXT"},
    Magic{"a RAR archive", 0, "Rar!\x1A\x07"sv, "unrar p -inul FILE > TEXT"},
    Magic{"xz-compressed data", 0,
          "\xFD"
          "7zXZ\0"sv,
          "xz -dc FILE > TEXT"},
    Magic{"LZMA-compressed data", 0, "\x5D\0\0"sv, "xz -dc FILE > TEXT"},
    Magic{"lzip-compressed data", 0, "LZIP\x01"sv, "lzip -dc FILE > TEXT"},
    Magic{"Zstandard-compressed data", 0, "\x28\xB5\x2F\xFD"sv, "zstd -dc FILE > TEXT"},
    Magic{"LZ4-compressed data", 0, "\x04\x22\x4D\x18"sv, "lz4 -dc FILE > TEXT"},
    Magic{"bzip2-compressed data", 0, "BZh"sv, "bzip2 -dc FILE > TEXT"},
    Magic{"data of `compress`", 0, "\x1F\x9D"sv, "uncompress -c FILE > TEXT"},
    Magic{"gzip within gzip", 0, "\x1F\x8B"sv, "zcat FILE > TEXT.gz"},
    Magic{"Snappy-compressed data", 0, "\xFF\x06\0\0sNaPpY"sv, "unpack it to a text"},
    Magic{"a tar archive", 257, "ustar"sv,
          "tar -xOf FILE NAME > TEXT, with the name of the text in it"},
    Magic{"a Parquet table", 0, "PAR1"sv, "ROWS parquet"},
    Magic{"an Arrow or Feather table", 0, "ARROW1"sv, "ROWS feather"},
    Magic{"an Arrow stream", 0, "\xFF\xFF\xFF\xFF"sv,
          "python3 -c \"from datasets import Dataset; Dataset.from_file('FILE')"
          ".to_json('rows.jsonl')\""},
    Magic{"a Feather table", 0, "FEA1"sv, "ROWS feather"},
    Magic{"an ORC table", 0, "ORC"sv, "ROWS orc"},
    Magic{"an Avro file", 0, "Obj\x01"sv, "write its texts as rows of JSON (.jsonl)"},
    Magic{"an HDF5 file", 0, "\x89HDF\r\n\x1A\n"sv, "ROWS hdf"},
    Magic{"an SQLite data base", 0, "SQLite format 3\0"sv,
          "sqlite3 FILE 'SELECT column FROM table' > TEXT"},
    Magic{"a DuckDB data base", 8, "DUCK"sv, "write its texts as rows of JSON (.jsonl)"},
    Magic{"a NumPy array", 0, "\x93NUMPY"sv, "write the text that its tokens were made from"},
    Magic{"a GGUF file", 0, "GGUF"sv, kWeights},
    Magic{"a Python pickle", 0, "\x80\x02"sv, "write its texts as rows of JSON (.jsonl)"},
    Magic{"a Python pickle", 0, "\x80\x03"sv, "write its texts as rows of JSON (.jsonl)"},
    Magic{"a Python pickle", 0, "\x80\x04"sv, "write its texts as rows of JSON (.jsonl)"},
    Magic{"a Python pickle", 0, "\x80\x05"sv, "write its texts as rows of JSON (.jsonl)"},
    Magic{"a document of an older Microsoft Office", 0, "\xD0\xCF\x11\xE0"sv,
          "save it as plain text in UTF-8"},
    Magic{"a program (ELF)", 0,
          "\x7F"
          "ELF"sv,
          kUnknown},
    Magic{"a picture (PNG)", 0, "\x89PNG"sv, kUnknown},
    Magic{"a picture (JPEG)", 0, "\xFF\xD8\xFF"sv, kUnknown},
    Magic{"a picture (GIF)", 0, "GIF8"sv, kUnknown},
    Magic{"a PDF document", 0, "%PDF-"sv, "pdftotext FILE TEXT", true},
    Magic{"a PostScript document", 0, "%!PS-"sv, "ps2ascii FILE TEXT", true},
    Magic{"an RTF document", 0, "{\\rtf1"sv, "save it as plain text in UTF-8", true},
    Magic{"a pointer of Git LFS, not the file itself", 0,
          "version https://git-lfs.github.com/spec/"sv, "git lfs pull, in the folder of FILE",
          true},
};

void Replace(std::string& text, std::string_view what, const std::string& with) {
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += with.size()) {
    text.replace(at, what.size(), with);
  }
}

std::string Hint(std::string_view hint, const std::string& path) {
  std::string text(hint);
  if (hint.starts_with("ROWS ")) {
    text = kTable;
    Replace(text, "ROWS", std::string(hint.substr(5)));
  }
  const bool in_python = text.find("('FILE')") != std::string::npos;
  Replace(text, "TEXT", "text.txt");
  Replace(text, "FILE", in_python ? path : ShellQuoted(path));
  return text;
}

/// A header of JSON behind its length in eight bytes.
bool IsSafetensors(std::string_view bytes) {
  if (bytes.size() < 16 || bytes[8] != '{') return false;
  std::uint64_t length = 0;
  for (std::size_t i = 8; i-- > 0;) length = length << 8 | static_cast<std::uint8_t>(bytes[i]);
  return length >= 2 && length <= std::uint64_t{1} << 32;
}

/// UTF-16 or UTF-32 without a byte order mark: most texts hold ASCII, at least spaces and newlines,
/// and with it zeros that stand at some of four places alone.
std::optional<std::string_view> WideText(std::string_view bytes) {
  std::array<std::size_t, 4> zeros{};
  const std::string_view head = bytes.substr(0, std::size_t{1} << 16);
  for (std::size_t i = 0; i < head.size(); ++i) zeros[i % 4] += head[i] == '\0' ? 1 : 0;
  const auto [a, b, c, d] = zeros;
  const std::size_t quarter = head.size() / 4;
  if (quarter == 0) return std::nullopt;
  if (10 * c >= 9 * quarter && 10 * d >= 9 * quarter && a == 0) return "UTF-32LE";
  if (10 * a >= 9 * quarter && 10 * b >= 9 * quarter && d == 0) return "UTF-32BE";
  if (a + c == 0 && 20 * (b + d) >= head.size()) return "UTF-16LE";
  if (b + d == 0 && 20 * (a + c) >= head.size()) return "UTF-16BE";
  return std::nullopt;
}

/// Whether the bytes beyond ASCII may be letters of an encoding of one byte, or two, a character.
bool IsOldText(std::string_view bytes) {
  const std::string_view head = bytes.substr(0, std::size_t{1} << 16);
  const auto controls = std::ranges::count_if(head, [](char c) {
    const auto byte = static_cast<std::uint8_t>(c);
    return byte < 0x20 && c != '\n' && c != '\r' && c != '\t' && c != '\f';
  });
  return 200 * static_cast<std::size_t>(controls) <= head.size();
}

}  // namespace

ForeignFormat FormatOfFirstBytes(std::string_view bytes, bool utf8, const std::string& path) {
  const auto* row = std::ranges::find_if(kMagics, [&](const Magic& magic) {
    return (magic.text_alone || !utf8) && bytes.size() >= magic.offset + magic.bytes.size() &&
           bytes.substr(magic.offset, magic.bytes.size()) == magic.bytes;
  });
  if (row != kMagics.end()) return {std::string(row->name), Hint(row->hint, path)};
  if (IsSafetensors(bytes)) return {"a safetensors file", Hint(kWeights, path)};
  return {};
}

ForeignFormat GuessFormat(std::string_view bytes, const std::string& path) {
  if (const auto wide = WideText(bytes)) {
    return {std::string(*wide) + " without a byte order mark",
            Hint("iconv -f " + std::string(*wide) + " -t UTF-8 FILE > TEXT", path)};
  }
  if (!IsOldText(bytes)) return {"binary data", Hint(kUnknown, path)};
  const auto high = static_cast<std::size_t>(
      std::ranges::count_if(bytes, [](char c) { return static_cast<std::uint8_t>(c) >= 0x80; }));
  if (5 * high < bytes.size()) {
    return {"text in Windows-1252 or Latin-1",
            Hint("iconv -f WINDOWS-1252 -t UTF-8 FILE > TEXT", path)};
  }
  return {"text in another encoding (Windows-1251, GB 18030, Shift-JIS, ...)",
          Hint("iconv -f ENCODING -t UTF-8 FILE > TEXT", path)};
}

}  // namespace lieq
