// A headless browser, where this machine has one.
#pragma once

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/files.h"

namespace lieq {

/// Where Chromium is; empty where it is not.
inline std::string FindBrowser() {
  const char* path = std::getenv("PATH");
  std::string_view rest = path != nullptr ? path : "";
  while (!rest.empty()) {
    const std::string folder(rest.substr(0, rest.find(':')));
    rest.remove_prefix(std::min(rest.size(), folder.size() + 1));
    for (const char* name : {"chromium", "chromium-browser", "google-chrome"}) {
      const std::string program = folder + "/" + name;
      if (::access(program.c_str(), X_OK) == 0) return program;
    }
  }
  return {};
}

/// When a page is done: five seconds of its own time behind its load, which pass at once where
/// nothing happens; or its load, for pages that talk with a server.
enum class PageEnd { kOwnTime, kLoad };

/// Runs the browser on `url` and gives what it prints. `folder` takes its profile and output.
inline std::string RunBrowser(const std::string& program, const std::filesystem::path& folder,
                              std::vector<std::string> options, const std::string& url,
                              PageEnd end = PageEnd::kOwnTime) {
  std::vector<std::string> words{program,
                                 "--headless",
                                 "--no-sandbox",  // its own pages alone, and root has no other way
                                 "--disable-gpu",
                                 "--disable-dev-shm-usage",  // /dev/shm is small in containers
                                 "--hide-scrollbars",
                                 "--allow-file-access-from-files",  // a page looks into its frame
                                 "--user-data-dir=" + (folder / "profile").string()};
  if (end == PageEnd::kOwnTime) words.emplace_back("--virtual-time-budget=5000");
  words.insert(words.end(), options.begin(), options.end());
  words.push_back(url);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const std::string out = (folder / "browser.out").string();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  pid_t pid = 0;
  const int failed =
      posix_spawn(&pid, program.c_str(), &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) throw std::runtime_error("cannot start " + program);
  int status = 0;
  ::waitpid(pid, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) throw std::runtime_error(program + " failed");
  return ReadText(out);
}

}  // namespace lieq
