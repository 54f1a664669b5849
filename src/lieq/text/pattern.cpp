#include "lieq/text/pattern.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <new>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/io/printable.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace lieq {
namespace {

struct Free {
  void operator()(pcre2_code* code) const noexcept { pcre2_code_free(code); }
  void operator()(pcre2_match_data* data) const noexcept { pcre2_match_data_free(data); }
  void operator()(pcre2_match_context* context) const noexcept {
    pcre2_match_context_free(context);
  }
};
template <class T>
using Owned = std::unique_ptr<T, Free>;

// Steps back that one match may take. Going through a run of spaces for the line break behind it
// takes one for each; a pattern that doubles them with every character ends here.
constexpr std::uint64_t kFewestSteps = 10'000'000;
constexpr std::uint64_t kStepsPerByte = 8;

// The interpreter's heap, where one match needs more than the compiled pattern's machine stack.
constexpr std::uint32_t kHeapLimit = 1u << 20u;  // KiB

std::string MessageOf(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

PCRE2_SPTR Units(std::string_view text) {
  return reinterpret_cast<PCRE2_SPTR>(text.data());
}

Owned<pcre2_code> Compile(std::string_view pattern, const std::string& where) {
  int error = 0;
  std::size_t offset = 0;
  Owned<pcre2_code> code(pcre2_compile(Units(pattern), pattern.size(), PCRE2_UTF | PCRE2_UCP,
                                       &error, &offset, nullptr));
  if (code == nullptr) {
    throw Error({.what = "not a regular expression: " + MessageOf(error),
                 .where = where,
                 .found = "'" + Printable(pattern) + "', byte " + std::to_string(offset)});
  }
  std::uint32_t matches_nothing = 0;
  pcre2_pattern_info(code.get(), PCRE2_INFO_MATCHEMPTY, &matches_nothing);
  if (matches_nothing != 0) {
    throw Error({.what = "split pattern can match nothing",
                 .where = where,
                 .expected = "a pattern of at least one character",
                 .found = "'" + Printable(pattern) + "'"});
  }
  return code;
}

}  // namespace

struct Pattern::Impl {
  Owned<pcre2_code> code;
  bool compiled = false;  // to machine code: not on every processor, nor under every policy
  std::string where;
};

Pattern::Pattern(std::string_view pattern, const std::string& where) {
  CheckPatternSyntax(pattern, where);
  auto impl = std::make_unique<Impl>();
  impl->code = Compile(pattern, where);
  impl->compiled = pcre2_jit_compile(impl->code.get(), PCRE2_JIT_COMPLETE) == 0;
  impl->where = where;
  impl_ = std::move(impl);
}
Pattern::~Pattern() = default;
Pattern::Pattern(Pattern&&) noexcept = default;
Pattern& Pattern::operator=(Pattern&&) noexcept = default;

struct Matcher::Impl {
  const Pattern::Impl* pattern;
  Owned<pcre2_match_data> data{pcre2_match_data_create(1, nullptr)};
  Owned<pcre2_match_context> limits{pcre2_match_context_create(nullptr)};
};

Matcher::Matcher(const Pattern& pattern) : impl_(new Impl{.pattern = pattern.impl_.get()}) {
  if (impl_->data == nullptr || impl_->limits == nullptr) throw std::bad_alloc();
  pcre2_set_heap_limit(impl_->limits.get(), kHeapLimit);
}
Matcher::~Matcher() = default;
Matcher::Matcher(Matcher&&) noexcept = default;
Matcher& Matcher::operator=(Matcher&&) noexcept = default;

std::optional<MatchRange> Matcher::Find(std::string_view text, std::size_t from) {
  const Pattern::Impl& pattern = *impl_->pattern;
  pcre2_match_data* const data = impl_->data.get();
  const std::uint64_t steps = kFewestSteps + kStepsPerByte * text.size();
  pcre2_set_match_limit(impl_->limits.get(),
                        static_cast<std::uint32_t>(std::min<std::uint64_t>(steps, UINT32_MAX)));
  int found = PCRE2_ERROR_JIT_STACKLIMIT;
  if (pattern.compiled) {
    found = pcre2_jit_match(pattern.code.get(), Units(text), text.size(), from, 0, data,
                            impl_->limits.get());
  }
  // Machine code has 32 KiB of stack, which a repeated group fills after some thousand rounds. The
  // interpreter keeps its state on the heap.
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
    found = pcre2_match(pattern.code.get(), Units(text), text.size(), from,
                        PCRE2_NO_JIT | PCRE2_NO_UTF_CHECK, data, impl_->limits.get());
  }
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (found < 0) {
    throw Error({.what = "split pattern gave up on the text: " + MessageOf(found),
                 .where = pattern.where,
                 .found = "byte " + std::to_string(from) + " of " + std::to_string(text.size())});
  }
  // `found` is 0 where groups did not fit in the one pair that we look at: the whole match.
  const std::size_t* const range = pcre2_get_ovector_pointer(data);
  LIEQ_ASSERT(range[0] >= from && range[1] > range[0]);
  return MatchRange{.begin = range[0], .end = range[1]};
}

}  // namespace lieq
