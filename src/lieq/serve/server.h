// A model behind HTTP: the interface that OpenAI's clients speak, and a page to talk with it.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "lieq/pipeline/chat.h"
#include "lieq/pipeline/session.h"
#include "lieq/serve/batch_engine.h"

namespace lieq {

struct ServeRequest {
  std::filesystem::path model;
  std::string host = "127.0.0.1";
  int port = 8080;  // 0: one that is free
  EngineOptions engine;
  Index new_tokens = 1024;             // of an answer, where the client says nothing
  SamplingRequest sampling;            // where the client says nothing; else as of `chat`
  std::filesystem::path api_key_file;  // whose first line clients give as a bearer token; or none
  std::uint64_t seed = 0;              // of answers whose clients say none: this, and one more each
};

class Server {
 public:
  /// Opens the model, and takes the port. session outlives this. Throws Error.
  Server(const ServeRequest& request, Session& session);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  [[nodiscard]] int port() const noexcept;
  [[nodiscard]] std::string address() const;  // "http://127.0.0.1:8080"
  /// Answers until the session's stop is asked for, on this thread and some of its own. Answers
  /// that are being written then end where they are.
  void Run();

 private:
  class Work;
  std::unique_ptr<Work> work_;
};

}  // namespace lieq
