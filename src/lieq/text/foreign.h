// What a file that is no text looks like, so that its owner is told how to make one of it.
#pragma once

#include <string>
#include <string_view>

namespace lieq {

struct ForeignFormat {
  std::string name;  // "a zip archive"; "binary data" where nothing is known
  std::string hint;  // the command that makes a text of the file, or what else to do
};

/// By the bytes that files of a format begin with; an empty name where none is known by them. utf8:
/// whether all of the file is UTF-8 without zeros: then it is of the few formats that are text by
/// their bytes and no prose (PDF, pointers of Git LFS), or of none. path: for the hint.
[[nodiscard]] ForeignFormat FormatOfFirstBytes(std::string_view bytes, bool utf8,
                                               const std::string& path);

/// What bytes look like that are no UTF-8 and begin like nothing known: other encodings by where
/// their zeros stand and by how many control characters there are.
[[nodiscard]] ForeignFormat GuessFormat(std::string_view bytes, const std::string& path);

}  // namespace lieq
