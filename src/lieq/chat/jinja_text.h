// Text of a template's run that remembers, byte by byte, where it came from: from the template, or
// from a message. Every operation on strings is a chain of Append, which carries the marks along,
// so that no trim, slice or replacement loses them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lieq::jinja {

/// What is known about a byte of text.
struct Mark {
  static constexpr std::int32_t kTemplate = -1;  // written in the template, or computed by it

  std::int32_t origin = kTemplate;  // else the number that its caller gave a string of the input
  bool answer = false;              // written inside {% generation %}

  [[nodiscard]] bool plain() const noexcept { return origin == kTemplate && !answer; }
  friend bool operator==(const Mark&, const Mark&) = default;
};

struct MarkedSpan {
  std::size_t begin = 0;
  std::size_t end = 0;
  Mark mark;

  friend bool operator==(const MarkedSpan&, const MarkedSpan&) = default;
};

/// Valid UTF-8 with its marks: spans in order, not plain, not empty, neighbours of equal marks are
/// one.
class Text {
 public:
  Text() = default;
  explicit Text(std::string bytes, Mark mark = {});

  [[nodiscard]] const std::string& bytes() const noexcept { return bytes_; }
  [[nodiscard]] std::size_t size() const noexcept { return bytes_.size(); }
  [[nodiscard]] const std::vector<MarkedSpan>& spans() const noexcept { return spans_; }
  [[nodiscard]] Mark MarkAt(std::size_t position) const noexcept;
  /// Memory that it takes.
  [[nodiscard]] std::size_t cost() const noexcept;

  void Append(std::string_view bytes, Mark mark = {});
  /// Bytes begin .. end of another text.
  void Append(const Text& other, std::size_t begin, std::size_t end);
  void Append(const Text& other) { Append(other, 0, other.size()); }
  [[nodiscard]] Text Part(std::size_t begin, std::size_t end) const;

  /// Marks all of it as written by the assistant.
  void MarkAnswer();

 private:
  void Add(std::size_t begin, std::size_t end, Mark mark);

  std::string bytes_;
  std::vector<MarkedSpan> spans_;
};

}  // namespace lieq::jinja
