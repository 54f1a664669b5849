#include "lieq/text/gzip.h"

#include <zlib.h>

#include <algorithm>
#include <limits>
#include <new>

#include "lieq/base/error.h"

namespace lieq {
namespace {

constexpr int kGzipOnly = 16 + MAX_WBITS;             // zlib's word for: no zlib or raw streams
constexpr std::size_t kBlock = std::size_t{1} << 16;  // bytes the result grows by

class Inflater {
 public:
  Inflater() {
    if (::inflateInit2(&stream_, kGzipOnly) != Z_OK) throw std::bad_alloc();
  }
  ~Inflater() { ::inflateEnd(&stream_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  /// Adds the next `room` bytes to `out`, or what there is; the result is zlib's code.
  int Next(std::string_view& in, std::string& out, std::size_t room) {
    constexpr std::size_t kMost = std::numeric_limits<uInt>::max();
    const std::size_t before = out.size(), offered = std::min(in.size(), kMost);
    out.resize(before + room);
    // zlib reads through a pointer to non-const and leaves the bytes alone.
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
    stream_.avail_in = static_cast<uInt>(offered);
    stream_.next_out = reinterpret_cast<Bytef*>(out.data() + before);
    stream_.avail_out = static_cast<uInt>(out.size() - before);
    const int code = ::inflate(&stream_, Z_NO_FLUSH);
    out.resize(out.size() - stream_.avail_out);
    in.remove_prefix(offered - stream_.avail_in);
    return code;
  }
  void Restart() { ::inflateReset(&stream_); }  // fails for streams never begun alone

 private:
  z_stream stream_{};
};

[[noreturn]] void Damaged(const std::string& what, const std::string& where) {
  throw Error({.what = what, .where = where, .hint = "fetch the file again"});
}

}  // namespace

bool IsGzip(std::string_view bytes) noexcept {
  return bytes.starts_with("\x1F\x8B");
}

std::string Gunzip(std::string_view bytes, std::uint64_t limit, const std::string& where) {
  std::string out;
  Inflater inflater;
  do {
    if (!IsGzip(bytes)) Damaged("bytes that are not gzip data", where);
    int code = Z_OK;
    while (code != Z_STREAM_END) {
      // One byte more than allowed, so that too much shows.
      const std::uint64_t room = std::min<std::uint64_t>(limit - out.size(), kBlock) + 1;
      code = inflater.Next(bytes, out, static_cast<std::size_t>(room));
      if (out.size() > limit) {
        throw Error({.what = "file is too large when it is unpacked",
                     .where = where,
                     .expected = "at most " + std::to_string(limit) + " bytes",
                     .found = "more"});
      }
      if (code == Z_MEM_ERROR) throw std::bad_alloc();
      // No progress: zlib waits for bytes that are not there.
      if (code == Z_BUF_ERROR) Damaged("gzip data is cut off", where);
      if (code != Z_OK && code != Z_STREAM_END) Damaged("gzip data is damaged", where);
    }
    inflater.Restart();
    while (!bytes.empty() && bytes.front() == '\0') bytes.remove_prefix(1);
  } while (!bytes.empty());
  return out;
}

}  // namespace lieq
