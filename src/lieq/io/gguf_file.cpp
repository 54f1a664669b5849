#include "lieq/io/gguf_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/base/types.h"
#include "lieq/io/gathered_file.h"
#include "lieq/io/lfs_pointer.h"
#include "lieq/io/printable.h"
#include "lieq/io/unique_names.h"

namespace lieq {
namespace {

static_assert(std::endian::native == std::endian::little, "files are little-endian, views alias");

constexpr std::string_view kMagic = "GGUF";
constexpr std::uint32_t kVersion = 3;
constexpr std::string_view kAlignmentKey = "general.alignment";
constexpr std::uint64_t kAlignment = 32;           // where the key is not there
constexpr std::uint64_t kMostAlignment = 1 << 16;  // a hostile one would make padding of anything
constexpr std::size_t kMostExtents = 4;
constexpr std::size_t kMostNameBytes = 63;  // ggml keeps 64 with the terminator
constexpr std::uint64_t kMostKeyBytes = 65535;

// ggml.h and ggml-common.h of llama.cpp, October 2026; numbers that were given up are left out.
constexpr std::array kTypes{
    GgmlType{0, "F32", 1, 4},         GgmlType{1, "F16", 1, 2},
    GgmlType{2, "Q4_0", 32, 18},      GgmlType{3, "Q4_1", 32, 20},
    GgmlType{6, "Q5_0", 32, 22},      GgmlType{7, "Q5_1", 32, 24},
    GgmlType{8, "Q8_0", 32, 34},      GgmlType{9, "Q8_1", 32, 36},
    GgmlType{10, "Q2_K", 256, 84},    GgmlType{11, "Q3_K", 256, 110},
    GgmlType{12, "Q4_K", 256, 144},   GgmlType{13, "Q5_K", 256, 176},
    GgmlType{14, "Q6_K", 256, 210},   GgmlType{15, "Q8_K", 256, 292},
    GgmlType{16, "IQ2_XXS", 256, 66}, GgmlType{17, "IQ2_XS", 256, 74},
    GgmlType{18, "IQ3_XXS", 256, 98}, GgmlType{19, "IQ1_S", 256, 50},
    GgmlType{20, "IQ4_NL", 32, 18},   GgmlType{21, "IQ3_S", 256, 110},
    GgmlType{22, "IQ2_S", 256, 82},   GgmlType{23, "IQ4_XS", 256, 136},
    GgmlType{24, "I8", 1, 1},         GgmlType{25, "I16", 1, 2},
    GgmlType{26, "I32", 1, 4},        GgmlType{27, "I64", 1, 8},
    GgmlType{28, "F64", 1, 8},        GgmlType{29, "IQ1_M", 256, 56},
    GgmlType{30, "BF16", 1, 2},       GgmlType{34, "TQ1_0", 256, 54},
    GgmlType{35, "TQ2_0", 256, 66},   GgmlType{39, "MXFP4", 32, 17},
    GgmlType{42, "Q2_0", 64, 18},
};

struct ValueType {
  std::string_view name;
  std::uint32_t bytes;  // 0: of no fixed size
};
constexpr std::array kValueTypes{ValueType{"u8", 1},    ValueType{"i8", 1},   ValueType{"u16", 2},
                                 ValueType{"i16", 2},   ValueType{"u32", 4},  ValueType{"i32", 4},
                                 ValueType{"f32", 4},   ValueType{"bool", 1}, ValueType{"str", 0},
                                 ValueType{"array", 0}, ValueType{"u64", 8},  ValueType{"i64", 8},
                                 ValueType{"f64", 8}};

std::uint32_t ItemBytes(GgufType type) noexcept {
  return kValueTypes[static_cast<std::size_t>(type)].bytes;
}

/// Takes a file apart from front to back; nothing is read that is not there.
class Cursor {
 public:
  Cursor(std::span<const std::byte> file, const std::string& where) : file_(file), where_(where) {}

  [[noreturn]] void Fail(std::string what, std::string place, std::string expected,
                         std::string found) const {
    throw Error({.what = std::move(what),
                 .where = where_ + (place.empty() ? "" : ": " + place),
                 .expected = std::move(expected),
                 .found = std::move(found)});
  }

  [[nodiscard]] std::uint64_t position() const noexcept { return position_; }
  [[nodiscard]] std::uint64_t left() const noexcept { return file_.size() - position_; }

  /// place: what is being read, for the message.
  std::span<const std::byte> Take(std::uint64_t bytes, const std::string& place) {
    if (bytes > left()) {
      Fail("file ends inside its header", place, std::to_string(bytes) + " bytes more",
           std::to_string(left()));
    }
    const auto taken = file_.subspan(position_, bytes);
    position_ += bytes;
    return taken;
  }

  template <class T>
  T Number(const std::string& place) {
    T value{};
    std::memcpy(&value, Take(sizeof(T), place).data(), sizeof(T));
    return value;
  }

  std::string_view String(const std::string& place) {
    const auto bytes = Take(Number<std::uint64_t>(place), place);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

 private:
  std::span<const std::byte> file_;
  const std::string& where_;
  std::uint64_t position_ = 0;
};

GgufType ReadType(Cursor& cursor, const std::string& place) {
  const auto type = cursor.Number<std::uint32_t>(place);
  if (type >= kValueTypes.size()) {
    cursor.Fail("type of value is not known", place,
                "0 to " + std::to_string(kValueTypes.size() - 1), std::to_string(type));
  }
  return static_cast<GgufType>(type);
}

GgufValue ReadValue(Cursor& cursor, std::span<const std::byte> file, const std::string& place) {
  GgufValue value{.type = ReadType(cursor, place)};
  if (value.type == GgufType::kArray) {
    value.array = true;
    value.type = ReadType(cursor, place);
    if (value.type == GgufType::kArray)
      cursor.Fail("an array of arrays", place, "one level", "two");
    value.count = cursor.Number<std::uint64_t>(place);
  }
  const std::uint64_t begin = cursor.position();
  if (value.type == GgufType::kString) {
    for (std::uint64_t i = 0; i < value.count; ++i) (void)cursor.String(place);
  } else {
    std::uint64_t bytes = 0;
    if (!CheckedMultiply(value.count, ItemBytes(value.type), bytes)) {
      cursor.Fail("array is larger than any file", place, std::to_string(cursor.left()) + " bytes",
                  std::to_string(value.count) + " items");
    }
    (void)cursor.Take(bytes, place);
  }
  value.bytes = file.subspan(begin, cursor.position() - begin);
  if (value.type == GgufType::kBool) {
    const auto odd =
        std::ranges::find_if(value.bytes, [](std::byte b) { return b > std::byte{1}; });
    if (odd != value.bytes.end()) {
      cursor.Fail("not a truth value", place, "0 or 1", std::to_string(std::to_integer<int>(*odd)));
    }
  }
  return value;
}

std::string PlaceOfKey(std::string_view key) {
  return "key '" + Printable(key) + "'";
}

GgufKeys ReadKeys(Cursor& cursor, std::span<const std::byte> file, std::uint64_t count,
                  const std::string& where) {
  std::map<std::string, GgufValue, std::less<>> values;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::string place = "key " + std::to_string(i);
    const std::string_view key = cursor.String(place);
    if (key.empty() || key.size() > kMostKeyBytes) {
      cursor.Fail(key.empty() ? "key is empty" : "key is too long", place,
                  "1 to " + std::to_string(kMostKeyBytes) + " bytes", std::to_string(key.size()));
    }
    const GgufValue value = ReadValue(cursor, file, PlaceOfKey(key));
    if (!values.emplace(key, value).second) {
      cursor.Fail("key is given twice", PlaceOfKey(key), "once", "twice");
    }
  }
  return {std::move(values), where};
}

std::uint64_t ReadAlignment(const Cursor& cursor, const GgufKeys& keys) {
  const auto found = keys.values().find(kAlignmentKey);
  if (found == keys.values().end()) return kAlignment;
  const GgufValue& value = found->second;
  std::uint32_t alignment = 0;
  if (value.type == GgufType::kU32 && !value.array) {
    std::memcpy(&alignment, value.bytes.data(), sizeof(alignment));
  }
  if (!std::has_single_bit(alignment) || alignment > kMostAlignment) {
    cursor.Fail("alignment is not possible", PlaceOfKey(kAlignmentKey),
                "u32, a power of two, at most " + std::to_string(kMostAlignment),
                alignment == 0 ? Describe(value) : std::to_string(alignment));
  }
  return alignment;
}

struct Entry {
  GgufTensor tensor;
  std::uint64_t bytes = 0, offset = 0;
};

Entry ReadEntry(Cursor& cursor, std::uint64_t number) {
  const std::string name(cursor.String("tensor " + std::to_string(number)));
  const std::string place = "tensor '" + Printable(name) + "'";
  if (name.empty() || name.size() > kMostNameBytes) {
    cursor.Fail(name.empty() ? "name of a tensor is empty" : "name of a tensor is too long",
                name.empty() ? "tensor " + std::to_string(number) : place,
                "1 to " + std::to_string(kMostNameBytes) + " bytes", std::to_string(name.size()));
  }
  const auto extents = cursor.Number<std::uint32_t>(place);
  if (extents < 1 || extents > kMostExtents) {
    cursor.Fail("number of extents is not possible", place, "1 to " + std::to_string(kMostExtents),
                std::to_string(extents));
  }
  Entry entry{.tensor = {.name = name}};
  for (std::uint32_t i = 0; i < extents; ++i) {
    const auto extent = cursor.Number<std::uint64_t>(place);
    if (extent < 1 || extent > std::uint64_t{INT64_MAX}) {
      cursor.Fail("extent out of range", place, "1 to " + std::to_string(INT64_MAX),
                  std::to_string(extent));
    }
    entry.tensor.shape.insert(entry.tensor.shape.begin(), static_cast<std::int64_t>(extent));
  }
  const auto id = cursor.Number<std::uint32_t>(place);
  const GgmlType* type = FindGgmlType(id);
  if (type == nullptr) {
    cursor.Fail("type of tensor is not known", place, "a type of ggml", std::to_string(id));
  }
  entry.tensor.type = type;
  const auto columns = static_cast<std::uint64_t>(entry.tensor.shape.back());
  if (columns % type->columns != 0) {
    cursor.Fail("rows are not whole blocks", place,
                std::string(type->name) + " in blocks of " + std::to_string(type->columns),
                std::to_string(columns) + " columns");
  }
  bool fits = CheckedMultiply(columns / type->columns, type->bytes, entry.bytes);
  for (std::size_t i = 0; i + 1 < entry.tensor.shape.size(); ++i) {
    fits = fits && CheckedMultiply(entry.bytes, static_cast<std::uint64_t>(entry.tensor.shape[i]),
                                   entry.bytes);
  }
  if (!fits) cursor.Fail("tensor is larger than any file", place, "less than 2^64 bytes", "more");
  entry.offset = cursor.Number<std::uint64_t>(place);
  return entry;
}

/// Up to the next multiple; nothing where that is past 2^64.
std::optional<std::uint64_t> Padded(std::uint64_t bytes, std::uint64_t alignment) noexcept {
  std::uint64_t sum = 0;
  if (!CheckedAdd(bytes, alignment - 1, sum)) return std::nullopt;
  return sum / alignment * alignment;
}

/// Where the data of each lie, which must be where the ones before it end.
void PlaceTensors(const Cursor& cursor, std::span<const std::byte> file, std::uint64_t alignment,
                  std::vector<Entry>& entries) {
  const std::optional<std::uint64_t> begin = Padded(cursor.position(), alignment);
  const std::uint64_t start = std::min<std::uint64_t>(begin.value_or(file.size()), file.size());
  const auto data = file.subspan(start);
  std::uint64_t next = 0, end = 0;
  for (Entry& entry : entries) {
    const std::string place = "tensor '" + Printable(entry.tensor.name) + "'";
    if (entry.offset != next) {
      cursor.Fail("tensor does not lie behind the one before it", place,
                  "offset " + std::to_string(next), std::to_string(entry.offset));
    }
    if (!CheckedAdd(entry.offset, entry.bytes, end) || end > data.size()) {
      cursor.Fail("tensor reaches past the end of the file", place,
                  std::to_string(entry.bytes) + " bytes at " + std::to_string(entry.offset),
                  std::to_string(data.size()) + " bytes of data");
    }
    entry.tensor.bytes = data.subspan(entry.offset, entry.bytes);
    next = Padded(end, alignment).value_or(end);
  }
  // Some writers leave out what pads the last tensor.
  if (data.size() > std::max(next, end)) {
    cursor.Fail("bytes behind the last tensor", "", std::to_string(next) + " bytes of data",
                std::to_string(data.size()));
  }
}

}  // namespace

std::span<const GgmlType> GgmlTypes() noexcept {
  return kTypes;
}

const GgmlType* FindGgmlType(std::uint32_t id) noexcept {
  const auto found = std::ranges::find(kTypes, id, &GgmlType::id);
  return found == kTypes.end() ? nullptr : &*found;
}

const GgmlType* FindGgmlType(std::string_view name) noexcept {
  const auto found = std::ranges::find(kTypes, name, &GgmlType::name);
  return found == kTypes.end() ? nullptr : &*found;
}

std::string_view Name(GgufType type) noexcept {
  return kValueTypes[static_cast<std::size_t>(type)].name;
}

std::string Describe(const GgufValue& value) {
  const std::string name(Name(value.type));
  return value.array ? "array of " + std::to_string(value.count) + " " + name : name;
}

GgufHeader ParseGguf(std::span<const std::byte> file, const std::string& where) {
  RefuseLfsPointer({reinterpret_cast<const char*>(file.data()), file.size()}, where);
  Cursor cursor(file, where);
  const auto magic = cursor.Take(std::min<std::uint64_t>(file.size(), kMagic.size()), "");
  const std::string_view found(reinterpret_cast<const char*>(magic.data()), magic.size());
  if (found != kMagic) cursor.Fail("not a GGUF file", "", "'GGUF' at its begin", Printable(found));
  const auto version = cursor.Number<std::uint32_t>("version");
  if (version != kVersion && version != 2) {  // 2 differs in its number alone
    const bool swapped = version != 0 && version % 65536 == 0;
    cursor.Fail(swapped ? "file is big-endian" : "version is not read", "version", "3, or 2",
                std::to_string(swapped ? version >> 24 : version));
  }
  const auto tensors = cursor.Number<std::uint64_t>("number of tensors");
  const auto keys = cursor.Number<std::uint64_t>("number of keys");
  // A name's length and its first byte, extents, one extent, type, offset; a key, type and a value.
  constexpr std::uint64_t kLeastTensor = 8 + 1 + 4 + 8 + 4 + 8, kLeastKey = 8 + 1 + 4 + 1;
  if (tensors > cursor.left() / kLeastTensor || keys > cursor.left() / kLeastKey) {
    cursor.Fail("more keys and tensors than the file can hold", "",
                std::to_string(file.size()) + " bytes of them",
                std::to_string(keys) + " keys and " + std::to_string(tensors) + " tensors");
  }

  GgufHeader header{.keys = ReadKeys(cursor, file, keys, where)};
  const std::uint64_t alignment = ReadAlignment(cursor, header.keys);
  std::vector<Entry> entries;
  std::set<std::string, std::less<>> names;
  for (std::uint64_t i = 0; i < tensors; ++i) {
    entries.push_back(ReadEntry(cursor, i));
    if (!names.insert(entries.back().tensor.name).second) {
      cursor.Fail("two tensors have one name",
                  "tensor '" + Printable(entries.back().tensor.name) + "'", "one", "two");
    }
  }
  PlaceTensors(cursor, file, alignment, entries);
  for (Entry& entry : entries) header.tensors.push_back(std::move(entry.tensor));
  return header;
}

GgufFile GgufFile::Open(const std::filesystem::path& path) {
  GgufFile file;
  file.map_ = std::make_shared<const FileMap>(path);
  file.header_ = ParseGguf(file.map_->bytes(), path.string());
  return file;
}

// ---- values of keys ----------------------------------------------------------------------------

namespace {

template <class T>
T ItemAt(const GgufValue& value, std::uint64_t index) {
  T item{};
  std::memcpy(&item, value.bytes.data() + index * sizeof(T), sizeof(T));
  return item;
}

bool IsString(GgufType type) {
  return type == GgufType::kString;
}

bool IsNumber(GgufType type) {
  return type != GgufType::kString && type != GgufType::kBool;
}

bool IsInteger(GgufType type) {
  return IsNumber(type) && type != GgufType::kF32 && type != GgufType::kF64;
}

[[noreturn]] void TooLarge(std::string where) {
  throw Error({.what = "value out of range",
               .where = std::move(where),
               .expected = "an integer below 2^63",
               .found = "a larger one"});
}

/// Of a value of an integer type; nothing where it is too large for an int64.
std::optional<std::int64_t> IntegerAt(const GgufValue& value, std::uint64_t index) {
  switch (value.type) {
    case GgufType::kU8:
      return ItemAt<std::uint8_t>(value, index);
    case GgufType::kI8:
      return ItemAt<std::int8_t>(value, index);
    case GgufType::kU16:
      return ItemAt<std::uint16_t>(value, index);
    case GgufType::kI16:
      return ItemAt<std::int16_t>(value, index);
    case GgufType::kU32:
      return ItemAt<std::uint32_t>(value, index);
    case GgufType::kI32:
      return ItemAt<std::int32_t>(value, index);
    case GgufType::kI64:
      return ItemAt<std::int64_t>(value, index);
    default: {
      LIEQ_ASSERT(value.type == GgufType::kU64);
      const auto item = ItemAt<std::uint64_t>(value, index);
      if (item > std::uint64_t{INT64_MAX}) return std::nullopt;
      return static_cast<std::int64_t>(item);
    }
  }
}

/// Of a value of any type but strings; an integer of 2^63 or more as the nearest double.
double NumberAt(const GgufValue& value, std::uint64_t index) {
  if (value.type == GgufType::kF32) return static_cast<double>(ItemAt<float>(value, index));
  if (value.type == GgufType::kF64) return ItemAt<double>(value, index);
  if (value.type == GgufType::kBool) return value.bytes[index] != std::byte{0} ? 1 : 0;
  if (const auto integer = IntegerAt(value, index)) return static_cast<double>(*integer);
  return static_cast<double>(ItemAt<std::uint64_t>(value, index));
}

}  // namespace

std::string GgufKeys::Where(std::string_view key) const {
  return where_ + ": " + PlaceOfKey(key);
}

const GgufValue& GgufKeys::At(std::string_view key, bool array, std::string_view wants,
                              bool (*accepts)(GgufType)) const {
  const auto found = values_.find(key);
  if (found == values_.end()) {
    throw Error({.what = "key is missing", .where = Where(key), .expected = std::string(wants)});
  }
  const GgufValue& value = found->second;
  if (value.array == array && accepts(value.type)) return value;
  throw Error({.what = "wrong type of value",
               .where = Where(key),
               .expected = std::string(wants),
               .found = Describe(value)});
}

std::int64_t GgufKeys::Integer(std::string_view key) const {
  const GgufValue& value = At(key, false, "an integer", IsInteger);
  if (const auto integer = IntegerAt(value, 0)) return *integer;
  TooLarge(Where(key));
}

double GgufKeys::Number(std::string_view key) const {
  const GgufValue& value = At(key, false, "a number", IsNumber);
  return IsInteger(value.type) ? static_cast<double>(Integer(key)) : NumberAt(value, 0);
}

bool GgufKeys::Boolean(std::string_view key) const {
  const GgufValue& value =
      At(key, false, "a truth value", [](GgufType type) { return type == GgufType::kBool; });
  return value.bytes[0] != std::byte{0};
}

std::string GgufKeys::String(std::string_view key) const {
  const auto bytes = At(key, false, "a string", IsString).bytes.subspan(sizeof(std::uint64_t));
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::vector<std::string_view> GgufKeys::Strings(std::string_view key) const {
  const GgufValue& value = At(key, true, "an array of strings", IsString);
  std::vector<std::string_view> strings;
  const auto* next = reinterpret_cast<const char*>(value.bytes.data());
  for (std::uint64_t i = 0; i < value.count; ++i) {
    std::uint64_t length = 0;  // checked when the file was read
    std::memcpy(&length, next, sizeof(length));
    strings.emplace_back(next + sizeof(length), length);
    next += sizeof(length) + length;
  }
  return strings;
}

std::vector<std::int64_t> GgufKeys::Integers(std::string_view key) const {
  const GgufValue& value = At(key, true, "an array of integers", IsInteger);
  std::vector<std::int64_t> integers;
  for (std::uint64_t i = 0; i < value.count; ++i) {
    const auto integer = IntegerAt(value, i);
    if (!integer) TooLarge(Where(key));
    integers.push_back(*integer);
  }
  return integers;
}

std::vector<double> GgufKeys::Numbers(std::string_view key) const {
  const auto found = values_.find(key);
  std::vector<double> numbers;
  if (found == values_.end() || IsString(found->second.type)) return numbers;
  for (std::uint64_t i = 0; i < found->second.count; ++i) {
    numbers.push_back(NumberAt(found->second, i));
  }
  return numbers;
}

// ---- writing -----------------------------------------------------------------------------------

namespace {

template <class T>
void Append(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void AppendString(std::string& bytes, std::string_view text) {
  Append(bytes, std::uint64_t{text.size()});
  bytes += text;
}

std::uint64_t Padding(std::uint64_t bytes) noexcept {
  return (kAlignment - bytes % kAlignment) % kAlignment;
}

std::string RenderGguf(const GgufKeyWriter& keys, std::span<const GgufSpec> specs) {
  std::string header(kMagic);
  Append(header, kVersion);
  Append(header, std::uint64_t{specs.size()});
  Append(header, keys.count());
  header += keys.bytes();
  std::uint64_t offset = 0;
  for (const GgufSpec& spec : specs) {
    AppendString(header, spec.name);
    Append(header, static_cast<std::uint32_t>(spec.shape.size()));
    for (auto extent = spec.shape.rbegin(); extent != spec.shape.rend(); ++extent) {
      Append(header, static_cast<std::uint64_t>(*extent));
    }
    Append(header, spec.type->id);
    Append(header, offset);
    offset += spec.DataBytes() + Padding(spec.DataBytes());
  }
  header.append(Padding(header.size()), '\0');
  return header;
}

}  // namespace

void GgufKeyWriter::Begin(std::string_view key, GgufType type) {
  ++count_;
  AppendString(bytes_, key);
  Append(bytes_, static_cast<std::uint32_t>(type));
}

void GgufKeyWriter::String(std::string_view key, std::string_view value) {
  Begin(key, GgufType::kString);
  AppendString(bytes_, value);
}

void GgufKeyWriter::U32(std::string_view key, std::uint32_t value) {
  Begin(key, GgufType::kU32);
  Append(bytes_, value);
}

void GgufKeyWriter::F32(std::string_view key, float value) {
  Begin(key, GgufType::kF32);
  Append(bytes_, value);
}

void GgufKeyWriter::Bool(std::string_view key, bool value) {
  Begin(key, GgufType::kBool);
  Append(bytes_, static_cast<std::uint8_t>(value ? 1 : 0));
}

void GgufKeyWriter::Strings(std::string_view key, std::span<const std::string> values) {
  Begin(key, GgufType::kArray);
  Append(bytes_, static_cast<std::uint32_t>(GgufType::kString));
  Append(bytes_, std::uint64_t{values.size()});
  for (const std::string& value : values) AppendString(bytes_, value);
}

namespace {

template <typename T>
void AppendArray(std::string& bytes, GgufType type, std::span<const T> values) {
  Append(bytes, static_cast<std::uint32_t>(type));
  Append(bytes, std::uint64_t{values.size()});
  for (const T value : values) Append(bytes, value);
}

}  // namespace

void GgufKeyWriter::I32s(std::string_view key, std::span<const std::int32_t> values) {
  Begin(key, GgufType::kArray);
  AppendArray(bytes_, GgufType::kI32, values);
}

void GgufKeyWriter::F32s(std::string_view key, std::span<const float> values) {
  Begin(key, GgufType::kArray);
  AppendArray(bytes_, GgufType::kF32, values);
}

void GgufKeyWriter::Bools(std::string_view key, const std::vector<bool>& values) {
  Begin(key, GgufType::kArray);
  Append(bytes_, static_cast<std::uint32_t>(GgufType::kBool));
  Append(bytes_, std::uint64_t{values.size()});
  for (const bool value : values) Append(bytes_, static_cast<std::uint8_t>(value ? 1 : 0));
}

std::uint64_t GgufSpec::DataBytes() const noexcept {
  std::uint64_t bytes = type->bytes;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const Index step = i + 1 == shape.size() ? Index{type->columns} : 1;
    LIEQ_ASSERT(shape[i] >= 1 && shape[i] % step == 0);
    const bool fits = CheckedMultiply(bytes, static_cast<std::uint64_t>(shape[i] / step), bytes);
    LIEQ_ASSERT(fits);
  }
  return bytes;
}

struct GgufWriter::State {
  State(const std::filesystem::path& path, std::vector<GgufSpec> to_write)
      : file(path), specs(std::move(to_write)) {}

  GatheredFile file;
  std::vector<GgufSpec> specs;
  std::size_t current = 0;    // the tensor being written
  std::uint64_t missing = 0;  // bytes it still lacks
};

std::uint64_t GgufWriter::FileBytes(const GgufKeyWriter& keys, std::span<const GgufSpec> specs) {
  std::uint64_t bytes = RenderGguf(keys, specs).size();
  for (const GgufSpec& spec : specs) bytes += PaddedBytes(spec);
  return bytes;
}

std::uint64_t GgufWriter::PaddedBytes(const GgufSpec& spec) noexcept {
  return spec.DataBytes() + Padding(spec.DataBytes());
}

GgufWriter::GgufWriter(const std::filesystem::path& path, const GgufKeyWriter& keys,
                       std::vector<GgufSpec> specs)
    : state_(std::make_unique<State>(path, std::move(specs))) {
  std::vector<std::string_view> names;
  for (const GgufSpec& spec : state_->specs) {
    LIEQ_ASSERT(!spec.name.empty() && spec.name.size() <= kMostNameBytes);
    LIEQ_ASSERT(!spec.shape.empty() && spec.shape.size() <= kMostExtents);
    names.push_back(spec.name);
  }
  RequireUniqueNames(std::move(names), path);
  const std::string header = RenderGguf(keys, state_->specs);
  state_->file.Write(std::as_bytes(std::span(header)));
  if (!state_->specs.empty()) state_->missing = state_->specs[0].DataBytes();
}

GgufWriter::~GgufWriter() = default;

void GgufWriter::Write(std::string_view name, std::span<const std::byte> bytes) {
  constexpr std::array<std::byte, kAlignment> kZeros{};
  State& state = *state_;
  LIEQ_ASSERT(state.current < state.specs.size() && state.specs[state.current].name == name);
  LIEQ_ASSERT(bytes.size() <= state.missing);
  state.file.Write(bytes);
  state.missing -= bytes.size();
  if (state.missing > 0) return;
  state.file.Write(std::span(kZeros).first(Padding(state.specs[state.current].DataBytes())));
  if (++state.current < state.specs.size()) {
    state.missing = state.specs[state.current].DataBytes();
  }
}

void GgufWriter::Commit() {
  LIEQ_ASSERT(state_->current == state_->specs.size());
  state_->file.Commit();
}

}  // namespace lieq
