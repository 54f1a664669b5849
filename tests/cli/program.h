// Runs the program itself, as a user would.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "lieq/base/files.h"
#include "tests/support/places.h"

namespace lieq {

struct Outcome {
  int exit = -1;  // exit code; 128 + signal where one ended it
  std::string out, err;
};

/// A process that was started and may be killed.
class Running {
 public:
  /// out and err: files that take its output.
  Running(const std::vector<std::string>& words, const std::filesystem::path& out,
          const std::filesystem::path& err, std::string program = LIEQ_PROGRAM) {
    std::vector<char*> arguments;
    arguments.push_back(program.data());
    std::vector<std::string> copies = words;
    for (std::string& word : copies) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    posix_spawn_file_actions_addopen(&actions, 2, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    const int failed =
        posix_spawn(&pid_, program.c_str(), &actions, nullptr, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed != 0) throw std::runtime_error("cannot start " + program);
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  ~Running() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      (void)Wait();
    }
  }

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  /// Exit code, or 128 + signal; of SIGSTOP too, and then it still is where it stopped.
  int Wait() {
    int status = 0;
    ::waitpid(pid_, &status, WUNTRACED);
    if (WIFSTOPPED(status)) return 128 + WSTOPSIG(status);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t pid_ = 0;
};

/// Runs to the end. `folder` takes its output for a moment.
inline Outcome RunLieq(const std::filesystem::path& folder, const std::vector<std::string>& words,
                       const std::string& program = LIEQ_PROGRAM) {
  Running running(words, folder / "stdout", folder / "stderr", program);
  Outcome outcome;
  outcome.exit = running.Wait();
  outcome.out = ReadText(folder / "stdout");
  outcome.err = ReadText(folder / "stderr");
  return outcome;
}

/// The words for a command that sends itself a signal at a moment (support/interrupted.cpp): "TERM"
/// or "KILL" at "quantizing:2".
inline std::vector<std::string> InterruptedWords(const std::string& signal,
                                                 const std::string& moment,
                                                 std::vector<std::string> words) {
  words.insert(words.begin(), {signal, moment});
  return words;
}

/// Runs such a command: its exit code is 128 + signal, or its own where the moment never came.
inline Outcome RunInterrupted(const std::filesystem::path& folder, const std::string& signal,
                              const std::string& moment, const std::vector<std::string>& words) {
  return RunLieq(folder, InterruptedWords(signal, moment, words), LIEQ_INTERRUPTED);
}

/// Content of every file of a folder by name, but for run.json, which may differ from run to run.
inline std::map<std::string, std::string> Contents(const std::filesystem::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().filename() != "run.json") {
      files[entry.path().filename().string()] = ReadText(entry.path());
    }
  }
  return files;
}

}  // namespace lieq
