#include "lieq/io/json.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <unordered_set>
#include <utility>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/io/lfs_pointer.h"

namespace lieq {
namespace {

constexpr int kMaxDepth = 64;
constexpr std::size_t kMostOrderedKeys = 1 << 13;  // of an object: each is sought among the others

/// What a download that needed a login, or had the wrong address, leaves under the file's name.
void RefuseWebPage(std::string_view text, std::string_view where) {
  const std::size_t begin = std::min(text.find_first_not_of(" \t\r\n"), text.size());
  std::string head(text.substr(begin, 14));
  std::ranges::transform(head, head.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c; });
  if (head != "<!doctype html" && !head.starts_with("<html")) return;
  throw Error({.what = "a web page, not the file itself",
               .where = std::string(where),
               .expected = "JSON",
               .found = "HTML",
               .hint = "download the file again, logged in where the model asks for it"});
}

/// Names the first key that an object of the text has twice.
[[noreturn]] void NameKeyGivenTwice(std::string_view text, std::string_view where) {
  std::vector<std::unordered_set<std::string>> keys;  // of the objects now open
  const auto check = [&](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key &&
        !keys.back().insert(parsed.get<std::string>()).second) {
      throw Error({.what = "the key '" + parsed.get<std::string>() + "' is given twice",
                   .where = std::string(where)});
    }
    return true;
  };
  [[maybe_unused]] const Json parsed = Json::parse(text, check);
  throw Error({.what = "a key is given twice", .where = std::string(where)});
}

template <class J>
J Parse(std::string_view text, std::string_view where) {
  std::vector<std::size_t> keys;  // how many the objects now open were given
  const auto check = [&](int depth, nlohmann::json::parse_event_t event, J& parsed) {
    using Event = nlohmann::json::parse_event_t;
    if (depth > kMaxDepth) {
      throw Error({.what = "JSON is nested too deeply",
                   .where = std::string(where),
                   .expected = "at most " + std::to_string(kMaxDepth) + " levels"});
    }
    if (event == Event::object_start) keys.push_back(0);
    if (event == Event::key && ++keys.back() > kMostOrderedKeys && std::is_same_v<J, Record>) {
      throw Error({.what = "an object has too many keys",
                   .where = std::string(where),
                   .expected = "at most " + std::to_string(kMostOrderedKeys)});
    }
    if (event == Event::object_end) {
      // Fewer than it was given: it has only the last of those that were the same.
      if (parsed.size() != keys.back()) NameKeyGivenTwice(text, where);
      keys.pop_back();
    }
    return true;
  };
  RefuseLfsPointer(text, std::string(where));
  RefuseWebPage(text, where);
  // The library takes a NUL for the end of its input and would let anything follow.
  if (const auto nul = text.find('\0'); nul != std::string_view::npos) {
    throw Error({.what = "not valid JSON: NUL byte at position " + std::to_string(nul),
                 .where = std::string(where)});
  }
  try {
    return J::parse(text, check);
  } catch (const nlohmann::json::exception& error) {
    std::string reason = error.what();
    // "[json.exception.parse_error.101] parse error at line 1, column 5: ..." less the prefix
    if (const auto end = reason.find("] "); end != std::string::npos) reason.erase(0, end + 2);
    throw Error({.what = "not valid JSON: " + reason, .where = std::string(where)});
  }
}

[[noreturn]] void WrongType(const JsonObject& object, std::string_view key, std::string expected) {
  const bool present = object.Has(key);
  std::string found = "nothing";
  if (present) {
    found = object.At(key).dump(-1, ' ', false, Json::error_handler_t::replace);
    if (found.size() > 60) found = found.substr(0, 57) + "...";
  }
  throw Error({.what = present ? "wrong type of value" : "key is missing",
               .where = object.Where(key),
               .expected = std::move(expected),
               .found = std::move(found)});
}

}  // namespace

Json ParseJson(std::string_view text, std::string_view where) {
  return Parse<Json>(text, where);
}
Record ParseRecord(std::string_view text, std::string_view where) {
  return Parse<Record>(text, where);
}
Json ReadJson(const std::filesystem::path& path) {
  return ParseJson(ReadText(path), path.string());
}
Record ReadRecord(const std::filesystem::path& path) {
  return ParseRecord(ReadText(path), path.string());
}

JsonObject::JsonObject(const Json& value, std::string where)
    : value_(&value), where_(std::move(where)) {
  if (!value.is_object()) {
    throw Error({.what = "not a JSON object", .where = where_, .found = value.type_name()});
  }
}

bool JsonObject::Has(std::string_view key) const {
  const auto found = value_->find(key);
  return found != value_->end() && !found->is_null();
}

const Json& JsonObject::At(std::string_view key) const {
  const auto found = value_->find(key);
  if (found == value_->end()) throw Error({.what = "key is missing", .where = Where(key)});
  return *found;
}

JsonObject JsonObject::Object(std::string_view key) const {
  std::string inner = Where(key);
  return JsonObject(At(key), std::move(inner));
}

std::string JsonObject::Where(std::string_view key) const {
  return where_ + (where_.find(": /") == std::string::npos ? ": /" : "/") + std::string(key);
}

std::int64_t JsonObject::Integer(std::string_view key) const {
  if (Has(key)) {
    const Json& value = At(key);
    if (value.is_number_unsigned()) {
      if (value.get<std::uint64_t>() <= INT64_MAX) return value.get<std::int64_t>();
    } else if (value.is_number_integer()) {
      return value.get<std::int64_t>();
    } else if (value.is_number_float()) {  // some writers say 4096.0
      const double number = value.get<double>();
      if (number == std::floor(number) && std::fabs(number) < 0x1p53) {
        return static_cast<std::int64_t>(number);
      }
    }
  }
  WrongType(*this, key, "a whole number");
}

double JsonObject::Number(std::string_view key) const {
  if (Has(key) && At(key).is_number()) return At(key).get<double>();
  WrongType(*this, key, "a number");
}

bool JsonObject::Boolean(std::string_view key) const {
  if (Has(key) && At(key).is_boolean()) return At(key).get<bool>();
  WrongType(*this, key, "true or false");
}

std::string JsonObject::String(std::string_view key) const {
  if (Has(key) && At(key).is_string()) return At(key).get<std::string>();
  WrongType(*this, key, "a string");
}

std::int64_t JsonObject::Integer(std::string_view key, std::int64_t missing) const {
  return Has(key) ? Integer(key) : missing;
}
double JsonObject::Number(std::string_view key, double missing) const {
  return Has(key) ? Number(key) : missing;
}
bool JsonObject::Boolean(std::string_view key, bool missing) const {
  return Has(key) ? Boolean(key) : missing;
}
std::string JsonObject::String(std::string_view key, std::string_view missing) const {
  return Has(key) ? String(key) : std::string(missing);
}

void RefuseUnknownKeys(const JsonObject& object, std::span<const std::string_view> known) {
  for (const auto& [key, value] : object.value().items()) {
    if (std::ranges::find(known, key) != known.end()) continue;
    std::string names;
    for (const std::string_view name : known)
      names += (names.empty() ? "" : ", ") + std::string(name);
    throw Error({.what = "unknown key", .where = object.Where(key), .expected = names});
  }
}

}  // namespace lieq
