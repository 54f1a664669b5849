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
          const std::filesystem::path& err) {
    std::vector<char*> arguments;
    std::string program = LIEQ_PROGRAM;
    arguments.push_back(program.data());
    std::vector<std::string> copies = words;
    for (std::string& word : copies) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    posix_spawn_file_actions_addopen(&actions, 2, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    const int failed =
        posix_spawn(&pid_, LIEQ_PROGRAM, &actions, nullptr, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed != 0) throw std::runtime_error("cannot start " LIEQ_PROGRAM);
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  ~Running() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      (void)Wait();
    }
  }

  void Kill(int signal) { ::kill(pid_, signal); }
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  /// Exit code, or 128 + signal.
  int Wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t pid_ = 0;
};

/// Runs to the end. `folder` takes its output for a moment.
inline Outcome RunLieq(const std::filesystem::path& folder, const std::vector<std::string>& words) {
  Running running(words, folder / "stdout", folder / "stderr");
  Outcome outcome;
  outcome.exit = running.Wait();
  outcome.out = ReadText(folder / "stdout");
  outcome.err = ReadText(folder / "stderr");
  return outcome;
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
