#include "orrery/autoencoder.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <sstream>

#include "checks.h"
#include "chunks.h"
#include "guarded.h"
#include "orrery/error.h"

namespace orrery {
namespace {

std::string text_of(at::IntArrayRef sizes) {
  std::ostringstream text;
  text << sizes;
  return text.str();
}

[[noreturn]] void wrong_shape(const std::string& place, const std::string& expected, const at::Tensor& got) {
  throw Error(ErrorKind::kArgument,
              {.place = place, .what = "has the wrong shape", .expected = expected, .got = text_of(got.sizes())});
}

at::Tensor joined(const std::vector<at::Tensor>& parts, int64_t dim) {
  return parts.size() == 1 ? parts.front() : at::cat(parts, dim);
}

}  // namespace

at::Tensor Autoencoder::codes_of(const at::Tensor&) const {
  throw Error(ErrorKind::kUnsupported, {.place = class_name(), .what = "is a continuous tokenizer and has no indices"});
}

Encoded Autoencoder::encode(const at::Tensor& sample, int64_t chunk) const {
  if (!has_encoder())
    throw Error(ErrorKind::kUnsupported, {.place = class_name(), .what = "this checkpoint holds only a decoder"});
  if (sample.dim() != 5 || sample.size(1) != 3 || sample.size(0) < 1) wrong_shape("sample", "[B, 3, T, H, W]", sample);
  spec().check_size(sample.size(3), sample.size(4));
  const int64_t frames = sample.size(2), latents = spec().latent_frames(frames);

  return guarded(class_name() + ".encode", [&]() -> Encoded {
    std::vector<at::Tensor> latent, indices;
    CodecCache cache;
    for_each_chunk(frames, spec().window_frames, chunk > 0 ? chunk : preferred_encode_chunk(), [&](const Chunk& step) {
      if (step.first) cache = {};
      const Encoded part = encode_chunk(sample.narrow(2, step.begin, step.count), cache, step.last);
      latent.push_back(part.latent);
      if (part.indices.defined()) indices.push_back(part.indices);
    });
    Encoded whole{joined(latent, 2), indices.empty() ? at::Tensor() : joined(indices, 1)};
    if (whole.latent.size(2) != latents)
      wrong_shape(class_name() + ".encode", std::to_string(latents) + " latents", whole.latent);
    check_finite(whole.latent, sample, class_name() + ".encode", "sample");
    return whole;
  });
}

at::Tensor Autoencoder::decode(const at::Tensor& latent, int64_t chunk) const {
  if (!has_decoder())
    throw Error(ErrorKind::kUnsupported, {.place = class_name(), .what = "this checkpoint holds only an encoder"});
  const int64_t channels = spec().latent_channels;
  if (latent.dim() != 5 || latent.size(1) != channels || latent.numel() == 0)
    wrong_shape("latent", "[B, " + std::to_string(channels) + ", t, h, w]", latent);
  const int64_t latents = latent.size(2);  // a decoder may enlarge less than its encoder shrinks
  const int64_t window = spec().window_frames > 0 ? spec().latent_frames(spec().window_frames) : 0;

  return guarded(class_name() + ".decode", [&] {
    std::vector<at::Tensor> sample;
    CodecCache cache;
    for_each_chunk(latents, window, chunk > 0 ? chunk : preferred_decode_chunk(), [&](const Chunk& step) {
      if (step.first) cache = {};
      sample.push_back(decode_chunk(latent.narrow(2, step.begin, step.count), cache, step.last));
    });
    at::Tensor whole = joined(sample, 2);
    check_finite(whole, latent, class_name() + ".decode", "latent");
    return whole;
  });
}

TensorMap Autoencoder::call(const std::string& function, const TensorMap& inputs, const CallOptions& options) const {
  const c10::InferenceMode inference;
  const std::string place = "vae." + function;
  // Image tokenizers have no time axis in the contract; inside, every network sees one.
  const auto with_time = [&](const at::Tensor& tensor, int64_t dim, int64_t rank) {
    return spec().image && tensor.dim() == rank - 1 ? tensor.unsqueeze(dim) : tensor;
  };
  const auto delivered = [](const at::Tensor& tensor, bool flat, int64_t dim) {
    const at::Tensor shaped = flat ? tensor.squeeze(dim) : tensor;
    return (shaped.is_floating_point() ? shaped.to(at::kFloat) : shaped).contiguous();
  };

  if (function == "encode") {
    const at::Tensor sample = require_input(inputs, "sample", place);
    const bool flat = spec().image && sample.dim() == 4;
    const Encoded encoded = encode(with_time(sample, 2, 5), options.streaming);
    TensorMap outputs{{"latent", delivered(encoded.latent, flat, 2)}};
    if (encoded.indices.defined()) outputs["indices"] = delivered(encoded.indices, flat, 1).to(at::kInt);
    return outputs;
  }
  if (function == "decode") {
    const bool by_index = inputs.contains("indices") && !inputs.contains("latent");
    at::Tensor latent, given;
    if (by_index) {
      given = inputs.at("indices");
      const at::Tensor indices = with_time(given, 1, 4);
      if (indices.dim() != 4 || indices.numel() == 0)
        wrong_shape("indices", spec().image ? "[B, h, w]" : "[B, t, h, w]", given);
      check_indices(indices, spec().vocabulary);
      latent = codes_of(indices);
    } else {
      given = require_input(inputs, "latent", place);
      latent = with_time(given, 2, 5);
    }
    const bool flat = spec().image && given.dim() == (by_index ? 3 : 4);
    return {{"sample", delivered(decode(latent, options.streaming), flat, 2)}};
  }
  throw Error(ErrorKind::kArgument,
              {.place = place, .what = "is no function of " + class_name(), .expected = "vae.encode or vae.decode"});
}

}  // namespace orrery
