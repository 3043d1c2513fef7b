#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "ops/paged_attention.h"

namespace orrery::models {

/// Keys and values of the tokens that one attention layer has seen, in pages of kPage tokens, so that growing never copies
/// what is there. Copying a cache forks it: pages are shared, and the last one is copied when one of the sides writes into
/// it.
class KvCache {
 public:
  static constexpr int64_t kPage = 256;

  int64_t length() const { return length_; }
  /// The pages that hold the keys, in order: those of a fork are the same memory until one side writes into the last.
  const std::vector<at::Tensor>& key_pages() const { return keys_; }
  /// Rows int64 [B'] of the batch as a batch of their own. A batch of one shares its full pages with all of them.
  KvCache select(const at::Tensor& rows) const;
  /// Appends keys and values [B,n,heads,D].
  void append(const at::Tensor& keys, const at::Tensor& values);
  /// softmax(q kᵀ / √D) v of queries [B,n,heads',D] that belong to the last n tokens: each sees itself and all before it.
  /// `heads` divides heads'. Returns [B,n,heads'·D].
  at::Tensor attend(const at::Tensor& queries) const;

 private:
  std::vector<at::Tensor> keys_, values_;        // pages [B,heads,kPage,D]; only the last is written into
  mutable std::optional<ops::PageList> listed_;  // where the pages lie, as our kernel wants to know it
  int64_t length_ = 0;
};

}  // namespace orrery::models
