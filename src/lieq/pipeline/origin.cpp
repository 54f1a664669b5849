#include "lieq/pipeline/origin.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/container/checkpoint_files.h"
#include "lieq/pipeline/front_matter.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMostCardBytes = 1 << 20;
constexpr std::uint64_t kMostRecordBytes = 1 << 28;

/// The file's text, empty where it cannot be had: a card is of use, and never worth a failure.
std::string TextOf(const fs::path& file, std::uint64_t most) {
  std::error_code error;
  if (!fs::is_regular_file(file, error)) return {};
  try {
    return ReadText(file, most);
  } catch (const Error&) {
    return {};
  }
}

/// "ORG/NAME" of a path through a hub cache; empty elsewhere.
std::string HubCacheName(const fs::path& path) {
  constexpr std::string_view kPrefix = "models--", kBetween = "--";
  for (const fs::path& each : path) {
    const std::string part = each.string();
    if (!part.starts_with(kPrefix)) continue;
    std::string name = part.substr(kPrefix.size());
    const auto between = name.find(kBetween);
    if (between != std::string::npos) name.replace(between, kBetween.size(), "/");
    if (!name.empty()) return name;
  }
  return {};
}

std::string NameOf(const ModelFolder& model) {
  const fs::path path = fs::weakly_canonical(model.path);
  if (std::string name = HubCacheName(path); !name.empty()) return name;
  const auto said = model.config.find("_name_or_path");
  if (said != model.config.end() && said->is_string() && IsHubName(said->get<std::string>())) {
    return said->get<std::string>();
  }
  return (fs::is_directory(path) ? path.filename() : path.stem()).string();
}

struct KnownLicense {
  std::string_view phrase;  // that its text has near the start
  std::string_view id;      // the Hub's
};
constexpr std::array kLicenses{KnownLicense{"Apache License", "apache-2.0"},
                               KnownLicense{"MIT License", "mit"},
                               KnownLicense{"LLAMA 3.3 COMMUNITY", "llama3.3"},
                               KnownLicense{"LLAMA 3.2 COMMUNITY", "llama3.2"},
                               KnownLicense{"LLAMA 3.1 COMMUNITY", "llama3.1"},
                               KnownLicense{"META LLAMA 3 COMMUNITY", "llama3"},
                               KnownLicense{"LLAMA 2 COMMUNITY", "llama2"}};

/// By the text of a licence file, which goes along with the model.
void AddLicenseOfFile(const fs::path& folder, Origin& origin) {
  constexpr std::size_t kStart = 2000;  // characters that the title is looked for in
  for (const fs::path& file : SidecarFiles(folder)) {
    const std::string name = file.filename().string();
    if (!name.starts_with("LICENSE") && !name.starts_with("LICENCE")) continue;
    const std::string text = TextOf(file, kMostCardBytes).substr(0, kStart);
    for (const KnownLicense& row : kLicenses) {
      if (text.find(row.phrase) == std::string::npos) continue;
      origin.license = row.id;
      return;
    }
    origin.license = "other";
    origin.license_name = "see-" + name;
    origin.license_link = name;
    return;
  }
}

std::string Text(const Record& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>() : "";
}

}  // namespace

bool IsHubName(std::string_view text) {
  const auto slash = text.find('/');
  if (slash == std::string_view::npos || slash == 0 || slash + 1 == text.size()) return false;
  if (text.front() == '.' || text.find("..") != std::string_view::npos) return false;
  return std::ranges::count(text, '/') == 1 && std::ranges::all_of(text, [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-' || c == '/';
         });
}

Record RecordOf(const ModelFolder& model) {
  std::string text = model.record;
  if (text.empty() && fs::is_directory(model.path)) {
    text = TextOf(model.path / "lieq.json", kMostRecordBytes);
  }
  if (text.empty()) return Record::object();
  try {
    Record record = ParseRecord(text, (model.path / "lieq.json").string());
    const std::string kind = record.is_object() ? Text(record, "kind") : "";
    if (kind == "quantized model" || kind == "exported model") return record;
  } catch (const Error&) {  // no record of ours
  }
  return Record::object();
}

Origin OriginOf(const ModelFolder& model) {
  const Record record = RecordOf(model);
  if (record.contains("origin")) return OriginFromJson(record["origin"]);
  Origin origin{.name = NameOf(model)};
  if (std::string name = Text(record, "base_model"); !name.empty()) origin.name = std::move(name);
  if (!fs::is_directory(model.path)) return origin;
  for (const auto& [key, values] : FrontMatter(TextOf(model.path / "README.md", kMostCardBytes))) {
    if (values.empty()) continue;
    if (key == "base_model" && model.quantized && IsHubName(values.front())) {
      origin.name = values.front();
    }
    if (key == "license") origin.license = values.front();
    if (key == "license_name") origin.license_name = values.front();
    if (key == "license_link") origin.license_link = values.front();
    if (key == "pipeline_tag") origin.pipeline_tag = values.front();
    if (key == "language") origin.languages = values;
  }
  if (origin.license.empty()) AddLicenseOfFile(model.path, origin);
  return origin;
}

Record ToJson(const Origin& origin) {
  Record json{{"name", origin.name}};
  const auto add = [&](const char* key, const std::string& value) {
    if (!value.empty()) json[key] = value;
  };
  add("license", origin.license);
  add("license_name", origin.license_name);
  add("license_link", origin.license_link);
  if (!origin.languages.empty()) json["languages"] = origin.languages;
  add("pipeline_tag", origin.pipeline_tag);
  return json;
}

Origin OriginFromJson(const Record& json) {
  if (!json.is_object()) return {};
  Origin origin{.name = Text(json, "name"),
                .license = Text(json, "license"),
                .license_name = Text(json, "license_name"),
                .license_link = Text(json, "license_link"),
                .pipeline_tag = Text(json, "pipeline_tag")};
  if (json.contains("languages") && json["languages"].is_array()) {
    for (const Record& language : json["languages"]) {
      if (language.is_string()) origin.languages.push_back(language.get<std::string>());
    }
  }
  return origin;
}

}  // namespace lieq
