// Looks at HTML the way a browser's tokenizer does, as far as tests need it.
#pragma once

#include <algorithm>
#include <cctype>
#include <string>
#include <string_view>
#include <vector>

namespace lieq {

struct MarkupTag {
  std::string name;                     // "/p" for an end tag
  std::vector<std::string> attributes;  // names
  std::string values;                   // all values, one a line
};

/// The tags of a page, in order. What stands between <script> or <style> and their end is passed
/// over.
inline std::vector<MarkupTag> TagsOf(std::string_view html) {
  std::vector<MarkupTag> tags;
  for (std::size_t i = 0; i < html.size(); ++i) {
    if (html[i] != '<') continue;
    MarkupTag tag;
    for (++i; i < html.size() && html[i] != '>' && !std::isspace(html[i]); ++i) tag.name += html[i];
    while (i < html.size() && html[i] != '>') {
      if (std::isspace(html[i])) {
        ++i;
        continue;
      }
      std::string name;
      while (i < html.size() && html[i] != '=' && html[i] != '>' && !std::isspace(html[i])) {
        name += html[i++];
      }
      tag.attributes.push_back(name);
      if (i + 1 < html.size() && html[i] == '=' && html[i + 1] == '"') {
        const std::size_t end = std::min(html.find('"', i + 2), html.size());
        tag.values += std::string(html.substr(i + 2, end - i - 2)) + "\n";
        i = end + 1;
      }
    }
    for (const char* raw : {"script", "style"}) {
      if (tag.name == raw) i = html.find(std::string("</") + raw, i) - 1;
    }
    tags.push_back(std::move(tag));
  }
  return tags;
}

/// Names of tags and of their attributes alone: what text must not change.
inline std::string StructureOf(std::string_view html) {
  std::string structure;
  for (const MarkupTag& tag : TagsOf(html)) {
    structure += tag.name;
    for (const std::string& attribute : tag.attributes) structure += " " + attribute;
    structure += "\n";
  }
  return structure;
}

/// The first tag that does not fit, or nothing: every element is closed, in order.
inline std::string Unbalanced(std::string_view html) {
  std::vector<std::string> open;
  for (const MarkupTag& tag : TagsOf(html)) {
    if (tag.name == "!doctype" || tag.name == "meta" || tag.name == "br") continue;
    if (!tag.name.starts_with('/')) {
      open.push_back(tag.name);
    } else if (open.empty() || "/" + open.back() != tag.name) {
      return tag.name;
    } else {
      open.pop_back();
    }
  }
  return open.empty() ? "" : open.back();
}

inline std::size_t CountOf(std::string_view text, std::string_view part) {
  std::size_t count = 0;
  for (auto at = text.find(part); at != text.npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

/// The first coordinate that is not made of numbers, or nothing.
inline std::string BadCoordinate(std::string_view html) {
  for (const char* name : {"x", "y", "cx", "cy", "r", "d", "width", "height", "viewBox"}) {
    const std::string start = std::string(" ") + name + "=\"";
    for (auto at = html.find(start); at != html.npos; at = html.find(start, at + 1)) {
      const auto begin = at + start.size();
      const std::string value(html.substr(begin, html.find('"', begin) - begin));
      // Path commands are single letters; "nan" and "inf" have others.
      if (value.empty() || value.find_first_not_of("0123456789.-% MLHhVvaz") != value.npos) {
        if (value != "device-width, initial-scale=1") return name + ("=" + value);
      }
    }
  }
  return {};
}

}  // namespace lieq
