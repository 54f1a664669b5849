// Texts of strangers: rows of JSON and gzip. The first byte picks what the rest is:
//   0  rows of JSON, by their layout or by named fields
//   1  a gzip file as it stands
//   2  a text, packed, and changed in one place, or cut off
//   3  bytes that may be text
//   4  as 0, of an array
#include <zlib.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/fuzz_input.h"
#include "fuzz/promises.h"
#include "lieq/base/error.h"
#include "lieq/text/clean_text.h"
#include "lieq/text/gzip.h"
#include "lieq/text/text_file.h"
#include "lieq/text/utf8.h"

namespace lieq {
namespace {

constexpr std::uint64_t kLimit = std::uint64_t{1} << 20;

void CheckRows(FuzzInput& input, bool array) {
  const std::vector<std::vector<std::string>> choices{{}, {"text"}, {"a", "b"}};
  const std::vector<std::string>& fields = choices[input.Below(3)];
  const TextOptions options{.fields = fields};
  const std::string text = (array ? JoinArray(input.Text(), options, "fuzz.json")
                                  : JoinRows(input.Text(), options, "fuzz.jsonl"))
                               .text;
  Require(!text.empty(), "rows without text are refused");
  Require(text.size() <= input.Text().size() + 2, "the text is no longer than the rows");
  Require(text.find('\r') == std::string::npos, "line ends are LF");
}

void CheckBytes(FuzzInput& input) {
  std::vector<TextNote> notes;
  std::string text = CleanText(std::string(input.Text()), "fuzz.txt", notes);
  Require(FindFaults(text).bytes == 0, "what is taken is UTF-8 then");
  Require(!notes.empty() || text == input.Text(), "what is changed is said");
  const std::size_t before = text.size(), ends = ToLf(text);
  Require(text.find('\r') == std::string::npos, "line ends are LF");
  Require(text.size() <= before && before <= text.size() + ends, "an end is a byte or two");
}

std::string Pack(std::string_view text) {
  z_stream stream{};
  Require(deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK,
          "zlib begins");
  std::string out(deflateBound(&stream, static_cast<uLong>(text.size())), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  Require(deflate(&stream, Z_FINISH) == Z_STREAM_END, "zlib ends");
  out.resize(out.size() - stream.avail_out);
  deflateEnd(&stream);
  return out;
}

void CheckPacked(FuzzInput& input) {
  const std::uint32_t change = input.Below(3);
  const std::uint64_t place = input.Number();
  const std::uint8_t value = input.Byte();
  const std::string text(input.Text());
  std::string packed = Pack(text);
  if (change == 1) packed[place % packed.size()] = static_cast<char>(value);
  if (change == 2) packed.resize(place % packed.size());
  const std::string again = Gunzip(packed, kLimit, "fuzz.gz");
  Require(change != 0 || again == text, "what was packed comes back");
  Require(change != 2, "what is cut off is refused");
}

}  // namespace
}  // namespace lieq

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  lieq::FuzzInput input(data, size);
  const std::uint32_t mode = input.Below(5);
  try {
    if (mode == 0 || mode == 4) {
      lieq::CheckRows(input, mode == 4);
    } else if (mode == 1) {
      lieq::Require(lieq::Gunzip(input.Text(), lieq::kLimit, "fuzz.gz").size() <= lieq::kLimit,
                    "the limit holds");
    } else if (mode == 2) {
      lieq::CheckPacked(input);
    } else {
      lieq::CheckBytes(input);
    }
  } catch (const lieq::Error&) {
    return 0;  // what a hostile input is meant to give
  }
  return 0;
}
