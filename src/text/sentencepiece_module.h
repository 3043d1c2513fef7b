#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace orrery::text {

/// SentencePiece as liborrery_sentencepiece.so gives it. That library is loaded apart from everything else, because both
/// libsentencepiece and LibTorch's libc10 export a variable FLAGS_minloglevel, of different types: in one scope the first
/// would write its 32 bytes over the four of the second and over LibTorch's variables behind them.
///
/// No memory changes hands over the border: what is told lives during the call.
class SentencePieceModel {
 public:
  /// `problem` is empty where all went well.
  using Told = std::function<void(std::string_view problem, std::span<const int> pieces)>;
  virtual ~SentencePieceModel() = default;
  /// `model`: the content of a spiece.model.
  virtual void load(std::string_view model, const Told& told) = 0;
  virtual void encode(std::string_view text, const Told& told) const = 0;
  virtual int eos_id() const = 0;
  virtual int pad_id() const = 0;  ///< negative where there is none
};

}  // namespace orrery::text

/// A model without content, made with new. The only symbol of the library.
extern "C" orrery::text::SentencePieceModel* orrery_sentencepiece_model();
