// A template of Jinja, as far as chat templates use it, with the settings of transformers: white
// space of blocks trimmed, nothing can be changed, break and continue, {% generation %}, and
// tojson, raise_exception and strftime_now as transformers defines them. docs/chat.md has what is
// different.
#pragma once

#include <ctime>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lieq/chat/jinja_run.h"
#include "lieq/chat/jinja_text.h"
#include "lieq/io/json.h"

namespace lieq::jinja {

/// A variable of a template.
struct Variable {
  std::string name;
  Record value;
  /// The origin of a string at a place of the value ("/0/content"); none: Mark::kTemplate for all.
  std::function<std::int32_t(std::string_view place)> origin;
};

struct RenderOptions {
  Limits limits;
  std::optional<std::tm> now;  // for strftime_now; none: the time that it is
};

/// Immutable, so that threads share it.
class Template {
 public:
  /// name: of the template in messages. Throws Error with line and column: what jinja2 does not
  /// take either, tags that are not supported, more than a megabyte.
  Template(std::string_view source, std::string name);

  /// Throws Error with line and column: what raises in jinja2, and where a limit is reached.
  [[nodiscard]] Text Render(const std::vector<Variable>& variables,
                            const RenderOptions& options = {}) const;

 private:
  [[noreturn]] void Throw(const Fault& fault, std::size_t at) const;

  std::string name_;
  std::string source_;
  std::shared_ptr<Tree> tree_;
};

}  // namespace lieq::jinja
