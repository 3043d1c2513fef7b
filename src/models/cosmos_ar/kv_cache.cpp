#include "models/cosmos_ar/kv_cache.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/dispatch.h"

namespace orrery::models {
namespace {

// Whether the page is another one now.
bool own(at::Tensor& page) {
  const bool shared = page.use_count() > 1;
  if (shared) page = page.clone();
  return shared;
}

bool by_kernel(const at::Tensor& queries) {
  return ops::on_device_with_kernels(queries) && queries.scalar_type() != at::kFloat &&
         (queries.size(3) == 64 || queries.size(3) == 128);
}

}  // namespace

void KvCache::append(const at::Tensor& keys, const at::Tensor& values) {
  const auto heads_first = [](const at::Tensor& x) { return x.transpose(1, 2); };  // [B,heads,n,D]
  const auto k = heads_first(keys), v = heads_first(values);
  for (int64_t done = 0, count = k.size(2); done < count;) {
    const int64_t offset = length_ % kPage;
    if (offset == 0) {
      const std::vector<int64_t> shape = {k.size(0), k.size(1), kPage, k.size(3)};
      listed_.reset();
      keys_.push_back(at::empty(shape, k.options()));
      values_.push_back(at::empty(shape, v.options()));
    } else if (done == 0) {
      const bool keys_moved = own(keys_.back()), values_moved = own(values_.back());
      if (keys_moved || values_moved) listed_.reset();
    }
    const int64_t fits = std::min(kPage - offset, count - done);
    keys_.back().narrow(2, offset, fits).copy_(k.narrow(2, done, fits));
    values_.back().narrow(2, offset, fits).copy_(v.narrow(2, done, fits));
    done += fits;
    length_ += fits;
  }
}

KvCache KvCache::select(const at::Tensor& rows) const {
  KvCache other;
  other.length_ = length_;
  const size_t full = length_ / kPage;
  const auto pages_of = [&](const std::vector<at::Tensor>& pages, std::vector<at::Tensor>& chosen) {
    for (size_t i = 0; i < pages.size(); ++i)
      chosen.push_back(i < full && pages[i].size(0) == 1 ? pages[i].expand({rows.numel(), -1, -1, -1})
                                                         : pages[i].index_select(0, rows));
  };
  pages_of(keys_, other.keys_);
  pages_of(values_, other.values_);
  return other;
}

at::Tensor KvCache::attend(const at::Tensor& queries) const {
  const int64_t batch = queries.size(0), count = queries.size(1), heads = queries.size(2), size = queries.size(3);
  if (count == 1 && by_kernel(queries)) {  // one launch, instead of two a page
    if (!listed_) listed_ = ops::list_of_pages(keys_, values_);
    return ops::paged_attention(queries.contiguous(), *listed_, length_).flatten(2);
  }
  const int64_t groups = keys_.front().size(1), repeat = heads / groups;
  // Heads that share keys become rows of one product: [B,groups,repeat·n,D].
  const auto q =
      (queries * (1 / std::sqrt(static_cast<double>(size)))).transpose(1, 2).reshape({batch, groups, repeat * count, size});

  auto scores = at::empty({batch, groups, repeat * count, length_}, queries.options());
  const auto filled = [&](size_t page) { return std::min<int64_t>(kPage, length_ - page * kPage); };
  for (size_t page = 0; page < keys_.size(); ++page) {
    scores.narrow(3, page * kPage, filled(page))
        .copy_(at::matmul(q, keys_[page].narrow(2, 0, filled(page)).transpose(2, 3)));
  }
  if (count > 1) {
    const auto later = at::ones({count, count}, queries.options().dtype(at::kBool)).triu(1);
    scores.view({batch, groups, repeat, count, length_})
        .narrow(4, length_ - count, count)
        .masked_fill_(later, -std::numeric_limits<double>::infinity());
  }
  const auto weights = scores.softmax(-1);

  at::Tensor out;  // [B,groups,repeat·n,D]
  for (size_t page = 0; page < values_.size(); ++page) {
    const auto part = at::matmul(weights.narrow(3, page * kPage, filled(page)), values_[page].narrow(2, 0, filled(page)));
    out = out.defined() ? out.add_(part) : part;
  }
  return out.view({batch, heads, count, size}).transpose(1, 2).flatten(2);
}

}  // namespace orrery::models
