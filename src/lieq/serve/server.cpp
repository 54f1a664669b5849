#include "lieq/serve/server.h"

#include <fmt/format.h>
#include <httplib.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <ctime>
#include <thread>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/chat/chat_template.h"
#include "lieq/container/special_tokens.h"
#include "lieq/pipeline/generate.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/pack.h"
#include "lieq/serve/openai_api.h"
#include "lieq/serve/page.h"

namespace lieq {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMostBody = std::size_t{8} << 20;  // bytes of a request
constexpr auto kGlance = 200ms;  // between looks at whether a client is still there
constexpr const char* kJson = "application/json";

/// Threads for connections: every request that may run or wait has one, and some are left for
/// those that are refused or slow.
std::size_t Connections(const EngineOptions& options) {
  return static_cast<std::size_t>(options.sequences + options.waiting) + 32;
}

void Fail(httplib::Response& response, int status, const std::string& message,
          std::string_view type = "invalid_request_error") {
  response.status = status;
  response.set_content(ApiError(message, type).dump(), kJson);
}

/// By name or number: "127.elsewhere.example" is a name of somebody else's.
bool IsLoopback(std::string_view host) {
  if (host == "localhost" || host == "::1" || host == "[::1]") return true;
  return host.starts_with("127.") &&
         host.find_first_not_of("0123456789.") == std::string_view::npos;
}

/// The name of a Host header, without the port.
std::string_view HostName(std::string_view header) {
  if (header.starts_with('[')) return header.substr(0, header.find(']') + 1);
  return header.substr(0, header.find(':'));
}

/// Takes as long for any two texts of one length.
bool SameKey(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned char different = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    different |= static_cast<unsigned char>(static_cast<unsigned char>(a[i]) ^
                                            static_cast<unsigned char>(b[i]));
  }
  return different == 0;
}

/// The first line of a file, so that the key is on no command line. Empty where there is no file.
std::string ReadKey(const std::filesystem::path& file) {
  if (file.empty()) return {};
  const std::string text = ReadText(file);
  std::string key = text.substr(0, text.find_first_of("\r\n"));
  if (key.empty()) {
    throw Error({.what = "no key", .where = file.string(), .expected = "a first line with a text"});
  }
  return key;
}

/// One event of a stream.
std::string Event(const Record& record) {
  return "data: " + record.dump(-1, ' ', false, Record::error_handler_t::replace) + "\n\n";
}

}  // namespace

class Server::Work {
 public:
  Work(const ServeRequest& request, Session& session)
      : request_(request),
        key_(ReadKey(request.api_key_file)),
        session_(session),
        model_(OpenRunnable(request.model, session)),
        tokenizer_(OpenTokenizer(model_, session.log())),
        sampling_(SamplingOfChat(request.sampling, model_)),
        engine_(std::move(model_.weights), tokenizer_, EndTokens(model_), request.engine, session),
        name_(request.model.filename().empty() ? request.model.parent_path().filename().string()
                                               : request.model.filename().string()) {
    try {
      template_.emplace(OpenChatTemplate(model_));
    } catch (const Error& error) {
      session.log().Warning(std::string(error.what()) + "\n  only /v1/completions answers");
    }
    SetUp();
    Bind();
  }

  [[nodiscard]] int port() const noexcept { return port_; }
  [[nodiscard]] std::string address() const {
    const bool six = request_.host.find(':') != std::string::npos;
    return fmt::format("http://{}:{}", six ? "[" + request_.host + "]" : request_.host, port_);
  }

  void Run() {
    std::atomic<bool> ended = false;
    std::thread listener([&] {
      server_.listen_after_bind();
      ended = true;
    });
    // A server that is told to stop before it listens would not hear it.
    while (!server_.is_running() && !ended) std::this_thread::sleep_for(1ms);
    engine_.Run(session_.context().stop);
    server_.stop();
    listener.join();
  }

 private:
  using Request = httplib::Request;
  using Response = httplib::Response;

  void SetUp() {
    const std::size_t connections = Connections(engine_.options());
    server_.new_task_queue = [connections] { return new httplib::ThreadPool(connections); };
    server_.set_payload_max_length(kMostBody);
    server_.set_read_timeout(10s);
    server_.set_write_timeout(30s);
    server_.set_keep_alive_timeout(5);
    server_.set_tcp_nodelay(true);
    server_.set_pre_routing_handler([this](const Request& request, Response& response) {
      return Admits(request, response) ? httplib::Server::HandlerResponse::Unhandled
                                       : httplib::Server::HandlerResponse::Handled;
    });
    server_.set_error_handler([](const Request& request, Response& response) {
      if (!response.body.empty()) return;
      const std::string what = response.status == 404   ? "no such path: " + request.path
                               : response.status == 413 ? "the body is too large"
                                                        : "the request cannot be answered";
      response.set_content(ApiError(what, "invalid_request_error").dump(), kJson);
    });
    server_.set_exception_handler(
        [](const Request&, Response& response, const std::exception_ptr& thrown) {
          try {
            std::rethrow_exception(thrown);
          } catch (const Error& error) {  // of what the client sent
            Fail(response, 400, error.what());
          } catch (const std::exception& error) {
            Fail(response, 500, error.what(), "server_error");
          }
        });
    server_.Get("/", [](const Request&, Response& response) {
      response.set_header(
          "Content-Security-Policy",
          "default-src 'none'; style-src 'unsafe-inline'; script-src "
          "'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'");
      const std::string_view page = ChatPage();
      response.set_content(page.data(), page.size(), "text/html; charset=utf-8");
    });
    server_.Get("/health", [this](const Request&, Response& response) { Health(response); });
    server_.Get("/v1/models", [this](const Request&, Response& response) { Models(response); });
    server_.Post("/v1/chat/completions", [this](const Request& request, Response& response) {
      Complete(ApiKind::kChat, request, response);
    });
    server_.Post("/v1/completions", [this](const Request& request, Response& response) {
      Complete(ApiKind::kCompletion, request, response);
    });
  }

  void Bind() {
    const std::string& host = request_.host;
    // Without the library's SO_REUSEPORT, by which a second server would share the first one's
    // clients and nobody would be told.
    server_.set_socket_options([](int socket) {
      const int yes = 1;
      ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    });
    if (request_.port == 0) {
      port_ = server_.bind_to_any_port(host);
    } else if (server_.bind_to_port(host, request_.port)) {
      port_ = request_.port;
    }
    if (port_ > 0) return;
    throw Error({.what = "cannot be listened at",
                 .where = fmt::format("{}:{}", host, request_.port),
                 .expected = "an address of this machine, and a port that nobody has",
                 .hint = "give another --port, or 0 for one that is free"});
  }

  /// Whether a request may go on; else the response says why not.
  bool Admits(const Request& request, Response& response) const {
    // A page from elsewhere may have its own name resolve to this machine; its requests name it.
    if (IsLoopback(request_.host) && !IsLoopback(HostName(request.get_header_value("Host")))) {
      Fail(response, 403, "the Host header names another machine");
      return false;
    }
    const bool open = request.path == "/" || request.path == "/health";
    if (key_.empty() || open ||
        SameKey(request.get_header_value("Authorization"), "Bearer " + key_)) {
      return true;
    }
    Fail(response, 401, "give the server's key: Authorization: Bearer KEY", "authentication_error");
    return false;
  }

  void Health(Response& response) const {
    const BatchEngine::Load load = engine_.load();
    response.set_content(Record{{"status", "ok"},
                                {"running", load.running},
                                {"waiting", load.waiting},
                                {"sequences", engine_.options().sequences},
                                {"context", engine_.options().context}}
                             .dump(),
                         kJson);
  }

  void Models(Response& response) const {
    Record row{{"id", name_}, {"object", "model"}, {"created", started_}, {"owned_by", "lieq"}};
    row["chat"] = template_.has_value();
    response.set_content(
        Record{{"object", "list"}, {"data", Record::array({std::move(row)})}}.dump(), kJson);
  }

  std::vector<TokenId> Encode(const ApiRequest& request) const {
    if (request.kind == ApiKind::kCompletion) {
      return EncodePrompt(request.prompt, model_, tokenizer_);
    }
    if (!template_) {
      throw Error({.what = "the model has no chat template",
                   .where = "/v1/chat/completions",
                   .hint = "ask /v1/completions"});
    }
    const RenderedChat chat = template_->Render(
        request.messages,
        {.add_generation_prompt = true, .tools = request.tools, .variables = request.variables});
    std::vector<TokenId> ids = EncodeChat(chat, tokenizer_).ids;
    if (ids.empty()) throw Error({.what = "the chat template writes nothing", .where = "messages"});
    return ids;
  }

  void Complete(ApiKind kind, const Request& http, Response& response) {
    const ApiRequest request = ReadApiRequest(kind, http.body);
    EngineRequest wanted{.prompt = Encode(request),
                         .sampling = request.sampling.Over(sampling_),
                         .seed = request.seed.value_or(request_.seed + answers_),
                         .new_tokens = request.new_tokens.value_or(request_.new_tokens),
                         .stop = request.stop,
                         .goes_on = kind != ApiKind::kChat};
    const ApiNames names{
        .id = fmt::format("{}-{}", kind == ApiKind::kChat ? "chatcmpl" : "cmpl", ++answers_),
        .model = name_,
        .created = std::time(nullptr)};
    const std::shared_ptr<Reply> reply = engine_.Submit(std::move(wanted));
    if (!reply) {
      response.set_header("Retry-After", "1");
      Fail(response, 503, "too many requests wait already", "server_error");
      return;
    }
    if (request.stream) {
      response.set_header("Cache-Control", "no-cache");
      response.set_chunked_content_provider(
          "text/event-stream",
          [reply, request, names](std::size_t, httplib::DataSink& sink) {
            return Stream(*reply, request, names, sink);
          },
          [reply](bool) { reply->Cancel(); });
      return;
    }
    // As a stream too, so that a client that goes away is noticed while the answer is written.
    response.set_chunked_content_provider(
        kJson,
        [reply, kind, names](std::size_t, httplib::DataSink& sink) {
          return Whole(*reply, kind, names, sink);
        },
        [reply](bool) { reply->Cancel(); });
  }

  /// False where the client is gone.
  static bool Stream(Reply& reply, const ApiRequest& request, const ApiNames& names,
                     httplib::DataSink& sink) {
    const auto send = [&](const std::string& event) {
      return sink.write(event.data(), event.size());
    };
    bool first = true;
    while (const std::optional<std::string> text = reply.Next(kGlance)) {
      if (text->empty() && !first) {
        if (!sink.is_writable()) return false;
        continue;
      }
      if (!send(Event(ApiPiece(request.kind, names, *text, first)))) return false;
      first = false;
    }
    if (reply.finish() == Finish::kFailed) {
      send(Event(ApiError(reply.error(), "server_error")));
    } else {
      send(Event(ApiEnd(request.kind, names, reply.finish())));
      if (request.stream_usage) send(Event(ApiCounts(request.kind, names, reply.counts())));
    }
    send("data: [DONE]\n\n");
    sink.done();
    return true;
  }

  static bool Whole(Reply& reply, ApiKind kind, const ApiNames& names, httplib::DataSink& sink) {
    std::string text;
    while (const std::optional<std::string> piece = reply.Next(kGlance)) {
      text += *piece;
      if (!sink.is_writable()) return false;
    }
    const Record record = reply.finish() == Finish::kFailed
                              ? ApiError(reply.error(), "server_error")
                              : ApiResponse(kind, names, text, reply.finish(), reply.counts());
    const std::string body = record.dump(-1, ' ', false, Record::error_handler_t::replace);
    sink.write(body.data(), body.size());
    sink.done();
    return true;
  }

  const ServeRequest request_;
  const std::string key_;
  Session& session_;
  ModelFolder model_;
  Tokenizer tokenizer_;
  std::optional<ChatTemplate> template_;
  SamplingOptions sampling_;
  BatchEngine engine_;
  std::string name_;
  std::int64_t started_ = std::time(nullptr);
  std::atomic<std::uint64_t> answers_ = 0;
  httplib::Server server_;
  int port_ = -1;
};

Server::Server(const ServeRequest& request, Session& session)
    : work_(std::make_unique<Work>(request, session)) {}

Server::~Server() = default;

int Server::port() const noexcept {
  return work_->port();
}

std::string Server::address() const {
  return work_->address();
}

void Server::Run() {
  work_->Run();
}

}  // namespace lieq
