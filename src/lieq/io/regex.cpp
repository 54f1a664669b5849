#include "lieq/io/regex.h"

#include <algorithm>
#include <array>
#include <new>

#include "lieq/base/error.h"
#include "lieq/io/printable.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace lieq {
namespace {

struct Free {
  void operator()(pcre2_code* code) const noexcept { pcre2_code_free(code); }
  void operator()(pcre2_compile_context* context) const noexcept {
    pcre2_compile_context_free(context);
  }
  void operator()(pcre2_match_data* data) const noexcept { pcre2_match_data_free(data); }
  void operator()(pcre2_match_context* context) const noexcept {
    pcre2_match_context_free(context);
  }
};
template <class T>
using Owned = std::unique_ptr<T, Free>;

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

}  // namespace

struct Regex::Impl {
  Owned<pcre2_code> code;
  bool machine_code = false;  // not on every processor, nor under every policy
};

Regex::Regex(std::string_view pattern, const RegexOptions& options, const std::string& where) {
  const Owned<pcre2_compile_context> context(pcre2_compile_context_create(nullptr));
  if (context == nullptr) throw std::bad_alloc();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);  // whatever this PCRE2 was built with
  std::uint32_t flags = 0;
  if (options.unicode) flags |= PCRE2_UTF | PCRE2_UCP;
  if (options.anchored) flags |= PCRE2_ANCHORED;
  if (options.counted) flags |= PCRE2_AUTO_CALLOUT;
  int error = 0;
  std::size_t offset = 0;
  auto impl = std::make_shared<Impl>();
  impl->code.reset(
      pcre2_compile(Units(pattern), pattern.size(), flags, &error, &offset, context.get()));
  if (impl->code == nullptr) {
    throw Error({.what = "not a regular expression: " + MessageOf(error),
                 .where = where,
                 .found = "'" + Printable(pattern) + "', byte " + std::to_string(offset)});
  }
  impl->machine_code =
      options.machine_code && pcre2_jit_compile(impl->code.get(), PCRE2_JIT_COMPLETE) == 0;
  impl_ = std::move(impl);
}

bool Regex::MatchesNothing() const {
  std::uint32_t nothing = 0;
  pcre2_pattern_info(impl_->code.get(), PCRE2_INFO_MATCHEMPTY, &nothing);
  return nothing != 0;
}

std::size_t Regex::bytes() const {
  std::size_t bytes = 0;
  pcre2_pattern_info(impl_->code.get(), PCRE2_INFO_SIZE, &bytes);
  return bytes;
}

struct RegexSearch::Impl {
  /// Called before every item of a pattern that is counted.
  static int Count(pcre2_callout_block* /*place*/, void* impl) noexcept {
    auto& self = *static_cast<Impl*>(impl);
    if (self.steps == self.most) return PCRE2_ERROR_CALLOUT;
    ++self.steps;
    return 0;
  }

  const Regex::Impl* regex;
  std::uint64_t steps = 0, most = 0;
  Owned<pcre2_match_data> data{pcre2_match_data_create(1, nullptr)};
  Owned<pcre2_match_context> limits{pcre2_match_context_create(nullptr)};
  int last = PCRE2_ERROR_NOMATCH;
};

RegexSearch::RegexSearch(const Regex& regex) : impl_(new Impl{.regex = regex.impl_.get()}) {
  if (impl_->data == nullptr || impl_->limits == nullptr) throw std::bad_alloc();
  pcre2_set_heap_limit(impl_->limits.get(), kHeapLimit);
  pcre2_set_callout(impl_->limits.get(), Impl::Count, impl_.get());
}
RegexSearch::~RegexSearch() = default;
RegexSearch::RegexSearch(RegexSearch&&) noexcept = default;
RegexSearch& RegexSearch::operator=(RegexSearch&&) noexcept = default;

RegexSearch::Outcome RegexSearch::Find(std::string_view text, std::size_t from,
                                       std::uint64_t steps) {
  const pcre2_code* const code = impl_->regex->code.get();
  pcre2_match_data* const data = impl_->data.get();
  pcre2_match_context* const limits = impl_->limits.get();
  impl_->steps = 0;
  impl_->most = steps;
  pcre2_set_match_limit(limits,
                        static_cast<std::uint32_t>(std::min<std::uint64_t>(steps, UINT32_MAX)));
  int found = PCRE2_ERROR_JIT_STACKLIMIT;
  if (impl_->regex->machine_code) {
    found = pcre2_jit_match(code, Units(text), text.size(), from, 0, data, limits);
  }
  // Machine code has 32 KiB of stack, which a repeated group fills after some thousand rounds. The
  // interpreter keeps its state on the heap.
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
    found = pcre2_match(code, Units(text), text.size(), from, PCRE2_NO_JIT | PCRE2_NO_UTF_CHECK,
                        data, limits);
  }
  impl_->last = found;
  if (found == PCRE2_ERROR_NOMATCH) return Outcome::kNone;
  // 0 where groups did not fit in the one pair that is looked at: the whole match.
  return found < 0 ? Outcome::kGaveUp : Outcome::kFound;
}

std::uint64_t RegexSearch::steps() const noexcept {
  return impl_->steps;
}
std::size_t RegexSearch::begin() const {
  return pcre2_get_ovector_pointer(impl_->data.get())[0];
}
std::size_t RegexSearch::end() const {
  return pcre2_get_ovector_pointer(impl_->data.get())[1];
}
std::string RegexSearch::reason() const {
  return impl_->last == PCRE2_ERROR_CALLOUT ? "step limit exceeded" : MessageOf(impl_->last);
}

}  // namespace lieq
