#include "ops/paged_attention.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/machines.h"

namespace orrery::testing {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kPage = 8, kPages = 7, kSink = 3;

// A stream of `length` tokens, and what a cache of its last ones looks like.
struct Stream {
  at::Tensor keys, values;  // [B, length, kv_heads, D]
  ops::PagedKeys cache;
};

Stream stream_of(int64_t batch, int64_t length, int64_t heads, int64_t width, at::ScalarType type) {
  Stream s;
  s.keys = at::randn({batch, length, heads, width}).to(type);
  s.values = at::randn({batch, length, heads, width}).to(type);
  s.cache.keys = at::full({batch * kPages + 2, kPage, heads, width}, NAN).to(type);  // what is not written must not be seen
  s.cache.values = s.cache.keys.clone();
  s.cache.table = at::randperm(batch * kPages + 2).narrow(0, 0, batch * kPages).view({batch, kPages}).to(at::kInt);
  s.cache.sink = kSink;
  s.cache.length = length;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t j = 0; j < length; ++j) {
      const int64_t slot = j < kSink ? j : kSink + (j - kSink) % (kPages * kPage - kSink);
      const int64_t page = s.cache.table[b][slot / kPage].item<int64_t>();
      s.cache.keys[page][slot % kPage].copy_(s.keys[b][j]);
      s.cache.values[page][slot % kPage].copy_(s.values[b][j]);
    }
  }
  return s;
}

at::Tensor half_page(at::IntArrayRef shape) {
  return at::randn(shape).to(at::kHalf);
}

at::Tensor formula(const at::Tensor& query, const Stream& s, int64_t window, const at::Tensor& cos, const at::Tensor& sin,
                   bool neighbours) {
  const int64_t length = s.cache.length, begin = std::max(kSink, length - window), heads = query.size(2);
  const auto seen = [&](const at::Tensor& all) {
    at::Tensor rows = all.narrow(1, 0, std::min(kSink, length));
    if (begin < length) rows = at::cat({rows, all.narrow(1, begin, length - begin)}, 1);
    return rows.to(at::kDouble).repeat_interleave(heads / all.size(2), 2).transpose(1, 2);  // [B,heads,visible,D]
  };
  at::Tensor k = seen(s.keys);
  const int64_t half = k.size(-1) / 2;
  const at::Tensor pairs = neighbours ? k.unflatten(-1, {half, 2}) : k.unflatten(-1, {2, half}).transpose(-1, -2);
  const at::Tensor a = pairs.select(-1, 0), b = pairs.select(-1, 1);
  const at::Tensor turned = at::stack({a * cos - b * sin, a * sin + b * cos}, -1);
  k = (neighbours ? turned : turned.transpose(-1, -2)).flatten(-2).to(query.scalar_type()).to(at::kDouble);
  const at::Tensor scores = query.to(at::kDouble).transpose(1, 2).matmul(k.transpose(-1, -2)) / std::sqrt(2.0 * half);
  return scores.softmax(-1).matmul(seen(s.values)).transpose(1, 2);
}

TEST(PagedAttentionTest, IsAttentionOverSinkAndWindow) {
  at::manual_seed(5);
  for (const int64_t width : {64, 128}) {
    // Only the sink; a part of the ring; the ring has gone round; a long one whose window is short.
    for (const auto& [length, window, queries] : {std::tuple{2, 9, 1}, {37, 50, 5}, {150, 53, 3}, {90, 4, 67}}) {
      for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
        SCOPED_TRACE(std::to_string(width) + ", " + std::to_string(length) + " " + at::toString(type));
        const bool neighbours = length % 2 == 1;
        const Stream s = stream_of(2, length, 1, width, type);
        const at::Tensor query = at::randn({2, queries, 3, 2, width}).to(type).select(2, 0);  // part of a joint projection
        const at::Tensor angles = at::randn({ops::visible_tokens(s.cache, window), width / 2});
        const at::Tensor cos = angles.cos(), sin = angles.sin();
        expect_on_all_machines(formula(query, s, window, cos, sin, neighbours), [&](const Bring& on) {
          const ops::PagedKeys cache{on(s.cache.keys), on(s.cache.values), on(s.cache.table), kSink, length};
          return ops::paged_attention(on(query), cache, window, on(cos), on(sin), neighbours);
        });
      }
    }
  }
}

// As a cache fills them: a page after the other, heads outside, rows of a batch that share a page.
TEST(PagedAttentionTest, ListsOfPagesThatLieAnywhere) {
  at::manual_seed(6);
  for (const int64_t length : {1, 9, 21}) {
    std::vector<at::Tensor> keys, values;
    for (int64_t page = 0; page * kPage < length; ++page)
      for (auto* pages : {&keys, &values}) {
        const at::Tensor one = at::randn({page == 0 ? 1 : 2, 2, kPage, 64}).to(at::kHalf);
        pages->push_back(one.expand({2, -1, -1, -1}));
      }
    const at::Tensor query = at::randn({2, 3, 4, 64}).to(at::kHalf);
    const auto all = [&](const std::vector<at::Tensor>& pages) {
      return at::cat(pages, 2).narrow(2, 0, length).to(at::kDouble).repeat_interleave(2, 1);  // [B,heads,length,D]
    };
    const at::Tensor scores = query.to(at::kDouble).transpose(1, 2).matmul(all(keys).transpose(2, 3)) / 8;
    expect_on_all_machines(scores.softmax(-1).matmul(all(values)).transpose(1, 2), [&](const Bring& on) {
      std::vector<at::Tensor> k, v;
      for (size_t i = 0; i < keys.size(); ++i) k.push_back(on(keys[i])), v.push_back(on(values[i]));
      return ops::paged_attention(on(query), ops::list_of_pages(k, v), length);
    });
  }
}

TEST(PagedAttentionTest, ListsAreRefusedByName) {
  const at::Tensor page = half_page({1, 2, kPage, 64}), query = half_page({1, 1, 2, 64});
  EXPECT_THAT(error_of([&] { ops::list_of_pages({page}, {}); }), HasSubstr("pages: must be as many"));
  EXPECT_THAT(error_of([&] {
                ops::list_of_pages({page, page.narrow(2, 0, 3)}, {page, page});
              }),
              HasSubstr("keys: has the wrong shape"));
  EXPECT_THAT(error_of([&] {
                ops::list_of_pages({page, half_page({1, kPage, 2, 64}).transpose(1, 2)}, {page, page});
              }),
              HasSubstr("keys: must lie as the first page does"));
  EXPECT_THAT(error_of([&] { return ops::paged_attention(query, ops::list_of_pages({page}, {page}), kPage + 1); }),
              HasSubstr("length: is more than the pages hold; expected at most 8, got 9"));
}

TEST(PagedAttentionTest, RefusesByName) {
  const Stream s = stream_of(1, 20, 1, 64, at::kHalf);
  const at::Tensor query = at::randn({1, 2, 2, 64}).to(at::kHalf);
  const auto error = [&](const at::Tensor& query, ops::PagedKeys cache, int64_t window) {
    return error_of([&] { return ops::paged_attention(query, cache, window, {}, {}, false); });
  };
  EXPECT_THAT(error(query.to(at::kFloat), s.cache, 9), HasSubstr("paged_attention: keys: has the wrong dtype"));
  ops::PagedKeys long_gone = s.cache;
  long_gone.length = 500;
  EXPECT_THAT(error(query, long_gone, 60), HasSubstr("window: reaches back to tokens that the ring no longer has"));
  ops::PagedKeys wrong = s.cache;
  wrong.table = s.cache.table.clone();
  wrong.table[0][0] = 99;
  EXPECT_THAT(error(query, wrong, 9), HasSubstr("table: names pages that the pool does not have; expected 0 to 8"));
  wrong = s.cache;
  wrong.length = 0;
  EXPECT_THAT(error(query, wrong, 9), HasSubstr("length: must be that of a cache with tokens in it"));
}

}  // namespace
}  // namespace orrery::testing
