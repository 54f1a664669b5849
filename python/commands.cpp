#include "python/commands.h"

#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <stop_token>
#include <thread>
#include <utility>
#include <variant>

#include "lieq/cli/commands.h"
#include "lieq/cli/option_table.h"

namespace lieq::python {
namespace {

namespace py = pybind11;

struct Message {
  LogLevel level;
  std::string text;
};

struct Step {
  std::string stage, unit;
  std::int64_t done, total;
  std::string note;
};

using Event = std::variant<Message, Step>;

/// What a command says, kept until the thread that may call Python fetches it.
class Mailbox final : public Progress {
 public:
  void Begin(std::string_view stage, std::string_view unit, std::int64_t total) override {
    step_ = {.stage = std::string(stage), .unit = std::string(unit), .done = 0, .total = total};
    Put(step_);
  }
  void Update(std::int64_t done, std::string_view note) override {
    step_.done = done;
    step_.note = note;
    Put(step_);
  }

  void Put(Event event) {
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
    changed_.notify_one();
  }
  void Close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_one();
  }

  /// Waits for an event, but no longer than `most`. False once closed and empty.
  bool Fetch(std::chrono::milliseconds most, std::vector<Event>& events) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, most, [&] { return closed_ || !events_.empty(); });
    events = std::exchange(events_, {});
    return !(closed_ && events.empty());
  }

 private:
  Step step_;  // of the command's thread alone
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Event> events_;
  bool closed_ = false;
};

int LoggingLevel(LogLevel level) noexcept {  // of Python's module logging
  switch (level) {
    case LogLevel::kError:
      return 40;
    case LogLevel::kWarning:
      return 30;
    case LogLevel::kInfo:
      return 20;
    case LogLevel::kDebug:
      break;
  }
  return 10;
}

/// A command on a thread of its own; ends with it.
class Run {
 public:
  explicit Run(const Arguments& arguments)
      : thread_([this, &arguments](const std::stop_token& stop) {
          try {
            const Log log([this](LogLevel level, std::string_view text) {
              mailbox_.Put(Message{level, std::string(text)});
            });
            CommandSession session(
                arguments,
                {log, mailbox_, [this](const Record& record) { answer_ = record.dump(); }}, stop);
            RunCommand(arguments, session);
          } catch (...) {
            failure_ = std::current_exception();
          }
          mailbox_.Close();
        }) {}

  [[nodiscard]] Mailbox& mailbox() noexcept { return mailbox_; }
  void Stop() {
    thread_.request_stop();
    thread_.join();
  }
  /// Throws what the command threw.
  [[nodiscard]] std::string Answer() {
    thread_.join();
    if (failure_) std::rethrow_exception(failure_);
    return std::move(answer_);
  }

 private:
  Mailbox mailbox_;
  std::string answer_;
  std::exception_ptr failure_;
  std::jthread thread_;  // last: the others are there before it runs
};

}  // namespace

py::list CommandTable() {
  py::list commands;
  for (const CommandRow& command : Commands()) {
    if (command.interactive) continue;
    py::list positionals, options;
    for (const PositionalRow& row : command.positionals) {
      positionals.append(py::make_tuple(row.name, row.help));
    }
    for (const OptionRow& row : Options()) {
      if ((row.commands & command.bit) == 0) continue;
      const std::string_view name = row.names.substr(2, row.names.find(',') - 2);
      options.append(py::dict(py::arg("name") = name, py::arg("value") = row.value,
                              py::arg("help") = row.help, py::arg("required") = row.required,
                              py::arg("many") = row.many));
    }
    commands.append(py::dict(py::arg("name") = command.name, py::arg("summary") = command.summary,
                             py::arg("details") = command.details,
                             py::arg("positionals") = positionals, py::arg("options") = options));
  }
  return commands;
}

std::string RunCommandLine(const std::vector<std::string>& words, const py::object& progress,
                           const py::object& log) {
  std::vector<const char*> pointers;
  for (const std::string& word : words) pointers.push_back(word.c_str());
  const Arguments arguments = ParseArguments(static_cast<int>(pointers.size()), pointers.data());

  constexpr std::chrono::milliseconds kBetweenSignals{100};
  Run run(arguments);
  try {
    std::vector<Event> events;
    for (bool more = true; more;) {
      {
        const py::gil_scoped_release others;
        more = run.mailbox().Fetch(kBetweenSignals, events);
      }
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
      for (const Event& event : events) {
        if (const auto* message = std::get_if<Message>(&event)) {
          log(LoggingLevel(message->level), message->text);
        } else if (const auto* step = std::get_if<Step>(&event); !progress.is_none()) {
          progress(step->stage, step->unit, step->done, step->total, step->note);
        }
      }
    }
  } catch (...) {
    const py::gil_scoped_release others;
    run.Stop();
    throw;
  }
  return run.Answer();
}

}  // namespace lieq::python
