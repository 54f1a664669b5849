#include "lieq/cli/requests_of.h"

namespace lieq {

DiagnoseRequest DiagnoseRequestOf(const Arguments& arguments) {
  DiagnoseRequest request = arguments.diagnose;
  const QuantizeRequest& run = arguments.run;
  request.model = run.model;
  request.calibration = run.calibration.files;
  request.text = run.damage.text;
  request.reading = run.reading;
  request.context = run.calibration.context;
  request.samples = run.calibration.samples.value_or(0);
  request.options.seed = run.seed;
  return request;
}

EvaluateRequest EvaluateRequestOf(const Arguments& arguments) {
  EvaluateRequest request = arguments.evaluate;
  request.reading = arguments.run.reading;
  request.context = arguments.run.calibration.context;
  request.samples = arguments.run.calibration.samples;
  request.single_chats = arguments.run.calibration.single_chats;
  request.hashes_models = arguments.json;
  return request;
}

ExportRequest ExportRequestOf(const Arguments& arguments) {
  ExportRequest request = arguments.exported;
  request.model = arguments.run.model;
  request.output = arguments.run.output;
  request.force = arguments.run.force;
  return request;
}

TuneRequest TuneRequestOf(const Arguments& arguments) {
  TuneRequest request = arguments.tune;
  const QuantizeRequest& run = arguments.run;
  request.model = run.model;
  request.output = run.output;
  request.calibration = run.calibration;
  request.reading = run.reading;
  request.seed = run.seed;
  request.force = run.force;
  return request;
}

PackRequest PackRequestOf(const Arguments& arguments) {
  return {
      .model = arguments.run.model, .output = arguments.run.output, .force = arguments.run.force};
}

VerifyRequest VerifyRequestOf(const Arguments& arguments) {
  return {.model = arguments.run.model,
          .against = arguments.against,
          .approximate = arguments.exported.approximate};
}

GenerateRequest GenerateRequestOf(const Arguments& arguments) {
  GenerateRequest request = arguments.generate;
  request.model = arguments.run.model;
  request.reading = arguments.run.reading;
  request.seed = arguments.run.seed;
  request.sampling = arguments.sampling.Over(request.sampling);
  return request;
}

SpeedRequest SpeedRequestOf(const Arguments& arguments) {
  SpeedRequest request = arguments.speed;
  request.model = arguments.run.model;
  return request;
}

ServeRequest ServeRequestOf(const Arguments& arguments) {
  ServeRequest request = arguments.serve;
  request.model = arguments.run.model;
  request.engine.context = arguments.run.calibration.context.value_or(request.engine.context);
  request.new_tokens = arguments.chat.new_tokens;
  request.sampling = arguments.sampling;
  request.seed = arguments.run.seed;
  return request;
}

ChatRequest ChatRequestOf(const Arguments& arguments) {
  ChatRequest request = arguments.chat;
  request.model = arguments.run.model;
  request.messages = arguments.generate.messages;
  request.system = arguments.generate.system;
  request.sampling = arguments.sampling;
  request.seed = arguments.run.seed;
  request.context = arguments.run.calibration.context.value_or(request.context);
  return request;
}

StudyRequest StudyRequestOf(const Arguments& arguments) {
  StudyRequest request = arguments.study;
  request.run = arguments.run;
  return request;
}

}  // namespace lieq
