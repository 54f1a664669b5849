#include "lieq/io/tensor_header.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>
#include <string_view>
#include <utility>

#include "lieq/base/error.h"
#include "lieq/base/types.h"
#include "lieq/io/json.h"
#include "lieq/io/lfs_pointer.h"
#include "lieq/io/printable.h"

namespace lieq {
namespace {

static_assert(std::endian::native == std::endian::little, "files are little-endian, views alias");

constexpr std::size_t kMostExtents = 8;

/// A tensor as the header gives it; offsets count from the end of the header.
struct Entry {
  std::string name;
  std::string dtype;
  std::vector<std::uint64_t> shape;
  std::vector<std::uint64_t> offsets;
  bool has_dtype = false, has_shape = false, has_offsets = false;
};

std::string WhereTensor(const std::string& file, std::string_view name) {
  return file + ": tensor '" + Printable(name) + "'";
}

/// Accepts the one shape of document that a header may have, event by event: nothing else is ever
/// held in memory, whatever a hostile file says in its 100 MB.
class HeaderHandler final : public nlohmann::json_sax<Json> {
 public:
  explicit HeaderHandler(std::string where) : where_(std::move(where)) {}

  std::vector<Entry> entries;
  std::map<std::string, std::string> metadata;

  bool null() override {
    if (state_ == State::kMetadata) return Go(State::kName);
    return Unexpected("null");
  }
  bool boolean(bool value) override { return Unexpected(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { return Unexpected(std::to_string(value)); }
  bool number_float(number_float_t, const string_t& text) override {
    return Unexpected(Printable(text, 40));
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (state_ == State::kExtent) {
      if (entries.back().shape.size() == kMostExtents) {
        Fail("too many extents", "at most " + std::to_string(kMostExtents), "more");
      }
      entries.back().shape.push_back(value);
      return true;
    }
    if (state_ == State::kOffset && entries.back().offsets.size() < 2) {
      entries.back().offsets.push_back(value);
      return true;
    }
    return Unexpected(std::to_string(value));
  }
  bool string(string_t& text) override {
    if (state_ == State::kDtype) {
      entries.back().dtype = text;
      return Go(State::kField);
    }
    if (state_ == State::kMetadataValue) {
      metadata[key_] = text;
      return Go(State::kMetadataKey);
    }
    return Unexpected("the string '" + Printable(text, 40) + "'");
  }
  bool binary(binary_t&) override { return Unexpected("binary data"); }

  bool start_object(std::size_t) override {
    switch (state_) {
      case State::kTop:
        return Go(State::kName);
      case State::kTensor:
        return Go(State::kField);
      case State::kMetadata:
        return Go(State::kMetadataKey);
      default:
        return Unexpected("an object");
    }
  }
  bool key(string_t& text) override {
    switch (state_) {
      case State::kName:
        return Name(text);
      case State::kField:
        return Field(text);
      default:  // kMetadataKey: no other state has an open object that waits for a key
        if (metadata.contains(text)) Fail("the key is given twice", "", Printable(text));
        key_ = text;
        return Go(State::kMetadataValue);
    }
  }
  bool end_object() override {
    if (state_ == State::kField) {
      const Entry& entry = entries.back();
      if (!entry.has_dtype || !entry.has_shape || !entry.has_offsets) {
        Fail("incomplete description", "dtype, shape and data_offsets",
             !entry.has_dtype   ? "no dtype"
             : !entry.has_shape ? "no shape"
                                : "no data_offsets");
      }
      return Go(State::kName);
    }
    return Go(state_ == State::kMetadataKey ? State::kName : State::kDone);
  }
  bool start_array(std::size_t) override {
    if (state_ == State::kShape) return Go(State::kExtent);
    if (state_ == State::kOffsets) return Go(State::kOffset);
    return Unexpected("an array");
  }
  bool end_array() override {
    if (state_ == State::kOffset && entries.back().offsets.size() != 2) {
      Fail("wrong data_offsets", "[begin, end]",
           std::to_string(entries.back().offsets.size()) + " numbers");
    }
    return Go(State::kField);
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    std::string reason = error.what();
    if (const auto end = reason.find("] "); end != std::string::npos) reason.erase(0, end + 2);
    throw Error({.what = "header is not valid JSON: " + Printable(reason, 300),
                 .where = where_,
                 .found = "stopped at byte " + std::to_string(position) + " of the header"});
  }

 private:
  enum class State : std::uint8_t {
    kTop,
    kName,           // a tensor's name, "__metadata__", or the end
    kTensor,         // the value of a tensor
    kField,          // a key of a tensor, or its end
    kDtype,          // values of those keys
    kShape,          // ...
    kOffsets,        // ...
    kExtent,         // inside shape
    kOffset,         // inside data_offsets
    kMetadata,       // the value of "__metadata__"
    kMetadataKey,    // a key in it, or its end
    kMetadataValue,  // a value in it
    kDone
  };

  bool Go(State state) {
    state_ = state;
    return true;
  }

  bool Name(const std::string& name) {
    if (!names_.insert(name).second) {
      throw Error({.what = "the name is given twice", .where = WhereTensor(where_, name)});
    }
    in_tensor_ = name != "__metadata__";
    if (!in_tensor_) return Go(State::kMetadata);
    entries.emplace_back().name = name;
    return Go(State::kTensor);
  }

  bool Field(const std::string& text) {
    Entry& entry = entries.back();
    const bool dtype = text == "dtype", shape = text == "shape";
    if (!dtype && !shape && text != "data_offsets") {
      Fail("unknown key in a tensor's description", "dtype, shape or data_offsets",
           Printable(text));
    }
    bool& has = dtype ? entry.has_dtype : shape ? entry.has_shape : entry.has_offsets;
    if (std::exchange(has, true)) Fail("the key is given twice", "", text);
    return Go(dtype ? State::kDtype : shape ? State::kShape : State::kOffsets);
  }

  [[noreturn]] void Fail(std::string what, std::string expected, std::string found) const {
    throw Error({.what = std::move(what),
                 .where = in_tensor_ ? WhereTensor(where_, entries.back().name) : where_,
                 .expected = std::move(expected),
                 .found = std::move(found)});
  }

  [[noreturn]] bool Unexpected(std::string found) const {
    const auto expected = [&]() -> std::string {
      switch (state_) {
        case State::kDtype:
          return "dtype: a string";
        case State::kShape:
        case State::kExtent:
          return "shape: an array of whole numbers, none negative";
        case State::kOffsets:
        case State::kOffset:
          return "data_offsets: [begin, end], whole numbers, none negative";
        case State::kMetadata:
        case State::kMetadataValue:
          return "__metadata__: an object of strings";
        default:
          return "an object";
      }
    };
    Fail("wrong type of value in the header", expected(), std::move(found));
  }

  std::string where_;
  State state_ = State::kTop;
  bool in_tensor_ = false;
  std::set<std::string, std::less<>> names_;
  std::string key_;
};

[[noreturn]] void Refuse(const Entry& entry, const std::filesystem::path& path, std::string what,
                         std::string expected, std::string found, std::string hint = {}) {
  throw Error({.what = std::move(what),
               .where = WhereTensor(path.string(), entry.name),
               .expected = std::move(expected),
               .found = std::move(found),
               .hint = std::move(hint)});
}

/// Shape and range of one tensor, as far as it can be checked alone.
TensorRef CheckEntry(const Entry& entry, std::span<const std::byte> data,
                     const std::filesystem::path& path) {
  const auto dtype = DTypeFromName(entry.dtype);
  if (!dtype) {
    Refuse(entry, path, "element type is not supported", "F64, F32, F16, BF16, I64 ... U8 or BOOL",
           Printable(entry.dtype, 40));
  }
  TensorRef tensor{.name = entry.name, .dtype = *dtype, .file = path};
  std::uint64_t bytes = ItemSize(*dtype);
  for (const std::uint64_t extent : entry.shape) {
    if (extent == 0)
      Refuse(entry, path, "extent of zero in the shape", "every extent at least 1", "0");
    if (extent > INT64_MAX || !CheckedMultiply(bytes, extent, bytes)) {
      Refuse(entry, path, "shape is too large", "less than 2^64 bytes",
             std::to_string(extent) + " as an extent");
    }
    tensor.shape.push_back(static_cast<std::int64_t>(extent));
  }
  const std::uint64_t begin = entry.offsets[0], end = entry.offsets[1];
  const std::string range = std::to_string(begin) + " .. " + std::to_string(end);
  if (begin > end)
    Refuse(entry, path, "data ends before it begins", "begin <= end", "offsets " + range);
  if (end - begin != bytes) {
    Refuse(entry, path, "data does not fill the shape",
           std::to_string(bytes) + " bytes (" + Describe(*dtype, tensor.shape) + ")",
           std::to_string(end - begin) + " bytes (offsets " + range + ")");
  }
  if (end > data.size()) {
    Refuse(entry, path, "data lies outside the file",
           "offsets within 0 .. " + std::to_string(data.size()), range,
           "the file may be incomplete: copy or download it again");
  }
  tensor.bytes = data.subspan(begin, bytes);
  return tensor;
}

/// The tensors must follow one another without overlap or hole, from the first byte to the last.
void CheckCoverage(const std::vector<TensorRef>& tensors, std::span<const std::byte> data,
                   const std::filesystem::path& path) {
  std::size_t covered = 0;
  for (const TensorRef& tensor : tensors) {
    const auto begin = static_cast<std::size_t>(tensor.bytes.data() - data.data());
    if (begin != covered) {
      throw Error({.what = begin < covered ? "data overlaps another tensor's"
                                           : "unused bytes before the data",
                   .where = WhereTensor(path.string(), tensor.name),
                   .expected = "data at offset " + std::to_string(covered),
                   .found = "data at offset " + std::to_string(begin)});
    }
    covered += tensor.bytes.size();
  }
  if (covered != data.size()) {
    throw Error({.what = "unused bytes after the last tensor",
                 .where = path.string(),
                 .expected = std::to_string(covered) + " bytes of data",
                 .found = std::to_string(data.size()) + " bytes of data"});
  }
}

/// The JSON text between the length and the data.
std::string_view HeaderText(std::span<const std::byte> file, const std::filesystem::path& path) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  RefuseLfsPointer(text, path.string());
  std::uint64_t length = 0;
  if (file.size() < sizeof(length)) {
    throw Error({.what = "not a safetensors file",
                 .where = path.string(),
                 .expected = "at least 8 bytes",
                 .found = std::to_string(file.size()) + " bytes"});
  }
  std::memcpy(&length, file.data(), sizeof(length));
  const std::uint64_t rest = file.size() - sizeof(length);
  if (length > kMostHeaderBytes || length > rest) {
    throw Error({.what = length > kMostHeaderBytes ? "not a safetensors file, or a damaged one"
                                                   : "header does not fit the file",
                 .where = path.string(),
                 .expected = "a header of at most " +
                             std::to_string(std::min(kMostHeaderBytes, rest)) + " bytes",
                 .found = std::to_string(length) + " bytes"});
  }
  const std::string_view header = text.substr(sizeof(length), length);
  if (!header.starts_with('{')) {
    throw Error({.what = "header does not begin with '{'", .where = path.string()});
  }
  // The JSON library takes a NUL for the end of its input and would let anything follow.
  if (header.find('\0') != std::string_view::npos) {
    throw Error({.what = "NUL byte in the header", .where = path.string()});
  }
  return header;
}

}  // namespace

TensorHeader ParseTensorHeader(std::span<const std::byte> file, const std::filesystem::path& path) {
  const std::string_view text = HeaderText(file, path);
  const auto data = file.subspan(sizeof(std::uint64_t) + text.size());

  HeaderHandler handler(path.string());
  Json::sax_parse(text, &handler);

  TensorHeader header{.metadata = std::move(handler.metadata)};
  header.tensors.reserve(handler.entries.size());
  for (const Entry& entry : handler.entries) {
    header.tensors.push_back(CheckEntry(entry, data, path));
  }
  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const TensorRef& a, const TensorRef& b) { return a.bytes.data() < b.bytes.data(); });
  CheckCoverage(header.tensors, data, path);
  return header;
}

}  // namespace lieq
