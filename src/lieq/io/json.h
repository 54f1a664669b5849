// JSON: the one place that knows which library reads and writes it.
//
// Json sorts keys and finds them fast; Record keeps the order of insertion and is for the small
// documents we write. Both come from untrusted files through ParseJson alone.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

namespace lieq {

using Json = nlohmann::json;
using Record = nlohmann::ordered_json;

/// Parses text; `where` names it in errors. Throws Error with the byte position; a key given twice
/// in one object, text that is not UTF-8, and more than 64 levels of nesting are errors; of a
/// Record more than 8192 keys in one object too, since it finds a key by going through all of
/// them.
[[nodiscard]] Json ParseJson(std::string_view text, std::string_view where);
[[nodiscard]] Record ParseRecord(std::string_view text, std::string_view where);
/// ReadText + ParseJson.
[[nodiscard]] Json ReadJson(const std::filesystem::path& path);
[[nodiscard]] Record ReadRecord(const std::filesystem::path& path);

/// An object in a document with the path that leads to it, so that a wrong value is named by place.
class JsonObject {
 public:
  /// Throws Error unless `value` is an object. `value` must outlive this.
  JsonObject(const Json& value, std::string where);

  [[nodiscard]] bool Has(std::string_view key) const;  // present and not null
  [[nodiscard]] const Json& At(std::string_view key) const;
  [[nodiscard]] JsonObject Object(std::string_view key) const;

  /// Throw Error naming file and key where the key is missing or of another type.
  [[nodiscard]] std::int64_t Integer(std::string_view key) const;
  [[nodiscard]] double Number(std::string_view key) const;
  [[nodiscard]] bool Boolean(std::string_view key) const;
  [[nodiscard]] std::string String(std::string_view key) const;
  /// The same with a value for a missing or null key.
  [[nodiscard]] std::int64_t Integer(std::string_view key, std::int64_t missing) const;
  [[nodiscard]] double Number(std::string_view key, double missing) const;
  [[nodiscard]] bool Boolean(std::string_view key, bool missing) const;
  [[nodiscard]] std::string String(std::string_view key, std::string_view missing) const;

  [[nodiscard]] const Json& value() const noexcept { return *value_; }
  /// "config.json: /rope_scaling/factor"
  [[nodiscard]] std::string Where(std::string_view key) const;

 private:
  const Json* value_;
  std::string where_;
};

/// Throws Error naming the first key that is none of these.
void RefuseUnknownKeys(const JsonObject& object, std::span<const std::string_view> known);

}  // namespace lieq
