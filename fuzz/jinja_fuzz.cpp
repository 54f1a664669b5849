// Chat templates of strangers: a template, run on a conversation that an engine would give it.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fuzz/promises.h"
#include "lieq/base/error.h"
#include "lieq/chat/jinja_template.h"
#include "lieq/io/json.h"
#include "lieq/text/utf8.h"

namespace lieq {
namespace {

const std::vector<jinja::Variable>& Variables() {
  static const std::vector<jinja::Variable> variables = [] {
    const Record record = ParseRecord(R"({
      "messages": [{"role": "system", "content": " Be kind. "}, {"role": "user", "content": "Hi \u00fc <|im_end|>"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "a", "type": "function",
          "function": {"name": "f", "arguments": {"x": 1.5, "y": [null, true]}}}]},
        {"role": "tool", "content": "3"}, {"role": "user", "content": "<think>\n</think>"}],
      "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters":
        {"type": "object", "properties": {"x": {"type": "number", "enum": [1, 2]}}, "required": ["x"]}}}],
      "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": true, "n": 3, "s": "Hello", "xs": [3, 1, 2]})",
                                      "variables");
    std::vector<jinja::Variable> all;
    for (const auto& [name, value] : record.items()) {
      all.push_back({name, value, [](std::string_view place) {
                       return static_cast<std::int32_t>(place.size());
                     }});
    }
    return all;
  }();
  return variables;
}

/// What a text promises of its spans.
void CheckText(const jinja::Text& text, const jinja::Limits& limits) {
  Require(text.size() <= limits.output, "the output is within its limit");
  Require(FindFaults(text.bytes()).bytes == 0, "what is written is UTF-8");
  std::size_t done = 0;
  for (const jinja::MarkedSpan& span : text.spans()) {
    Require(span.begin >= done && span.begin < span.end, "spans are in order and not empty");
    Require(!span.mark.plain(), "spans say something");
    done = span.end;
  }
  Require(done <= text.size(), "spans are of the text");
}

}  // namespace
}  // namespace lieq

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string source(reinterpret_cast<const char*>(data), size);
  lieq::jinja::RenderOptions options{
      .limits = {.steps = 20'000, .output = 100'000, .memory = 4'000'000}, .now = std::tm{}};
  options.now->tm_mday = 1;
  try {
    const lieq::jinja::Template made(source, "fuzz");
    lieq::CheckText(made.Render(lieq::Variables(), options), options.limits);
  } catch (const lieq::Error& error) {
    lieq::Require(std::string(error.what()).find("fuzz") != std::string::npos,
                  "an error says where it is");
  }
  return 0;
}
