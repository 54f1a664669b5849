// What the parts of a run share: guards that put things back.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <utility>

#include "lieq/chat/jinja_run.h"

namespace lieq::jinja {

/// One level deeper, within the limit.
class Run::Deeper {
 public:
  explicit Deeper(Run& run) : run_(run) {
    if (run.depth_ >= run.limits_.depth) {
      throw Fault("calls and expressions lie too deep in one another",
                  "at most " + std::to_string(run.limits_.depth));
    }
    ++run.depth_;
  }
  ~Deeper() { --run_.depth_; }
  Deeper(const Deeper&) = delete;
  Deeper& operator=(const Deeper&) = delete;

 private:
  Run& run_;
};

/// Names are looked up in `scope`.
class Run::InScope {
 public:
  InScope(Run& run, std::shared_ptr<Scope> scope)
      : run_(run), before_(std::exchange(run.scope_, std::move(scope))) {}
  ~InScope() { run_.scope_ = std::move(before_); }
  InScope(const InScope&) = delete;
  InScope& operator=(const InScope&) = delete;

 private:
  Run& run_;
  std::shared_ptr<Scope> before_;
};

/// What is written goes into a text of its own.
class Run::Capture {
 public:
  explicit Capture(Run& run) : run_(run), before_(std::exchange(run.out_, &text_)) {}
  ~Capture() {
    run_.out_ = before_;
    run_.written_ -= text_.cost();
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  [[nodiscard]] Text Take() {
    run_.written_ -= text_.cost();
    return std::exchange(text_, {});
  }

 private:
  Run& run_;
  Text text_;
  Text* before_;
};

}  // namespace lieq::jinja
