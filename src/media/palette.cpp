#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <unordered_map>

#include "media/frame_sink.h"

namespace orrery::media {
namespace {

using Color = std::array<int, 3>;

uint32_t packed(const uint8_t* rgb) { return static_cast<uint32_t>(rgb[0]) << 16 | static_cast<uint32_t>(rgb[1]) << 8 | rgb[2]; }

void set_palette(AVFrame& frame, const std::vector<uint32_t>& colors) {
  std::array<uint32_t, 256> table{};
  table.fill(0xff000000u);
  for (size_t i = 0; i < colors.size(); ++i) table[i] = 0xff000000u | colors[i];
  std::memcpy(frame.data[1], table.data(), sizeof(table));
}

// True, and done, where the picture's own colours suffice.
bool fill_exactly(const at::Tensor& picture, AVFrame& frame) {
  std::unordered_map<uint32_t, uint8_t> index;
  std::vector<uint32_t> colors;
  const uint8_t* pixel = picture.const_data_ptr<uint8_t>();
  for (int y = 0; y < frame.height; ++y) {
    uint8_t* out = frame.data[0] + static_cast<ptrdiff_t>(y) * frame.linesize[0];
    for (int x = 0; x < frame.width; ++x, pixel += 3) {
      const auto [found, added] = index.try_emplace(packed(pixel), static_cast<uint8_t>(colors.size()));
      if (added) {
        if (colors.size() == 256) return false;
        colors.push_back(found->first);
      }
      out[x] = found->second;
    }
  }
  set_palette(frame, colors);
  return true;
}

// Colours of 5 bits a channel that occur, with how many pixels have them.
struct Bin {
  Color color;
  int64_t count;
};

struct Box {
  size_t begin, end;  // bins
  int axis;           // the widest one
  int64_t weight;     // extent · pixels: what splitting it gains
};

Box measure(const std::vector<Bin>& bins, size_t begin, size_t end) {
  Color low{31, 31, 31}, high{0, 0, 0};
  int64_t count = 0;
  for (size_t i = begin; i < end; ++i) {
    for (int c = 0; c < 3; ++c) {
      low[c] = std::min(low[c], bins[i].color[c]);
      high[c] = std::max(high[c], bins[i].color[c]);
    }
    count += bins[i].count;
  }
  int axis = 0;
  for (int c = 1; c < 3; ++c) {
    if (high[c] - low[c] > high[axis] - low[axis]) axis = c;
  }
  return {begin, end, axis, (high[axis] - low[axis]) * count};
}

std::vector<Color> median_cut(std::vector<Bin>& bins) {
  std::vector<Box> boxes{measure(bins, 0, bins.size())};
  while (boxes.size() < 256) {
    const auto widest = std::max_element(boxes.begin(), boxes.end(), [](auto& a, auto& b) { return a.weight < b.weight; });
    if (widest->weight == 0) break;
    const Box box = *widest;
    std::sort(bins.begin() + box.begin, bins.begin() + box.end,
              [axis = box.axis](const Bin& a, const Bin& b) { return a.color[axis] < b.color[axis]; });
    int64_t total = 0, passed = 0;
    for (size_t i = box.begin; i < box.end; ++i) total += bins[i].count;
    size_t cut = box.begin;
    while (cut + 1 < box.end && (cut == box.begin || passed + bins[cut].count <= total / 2)) passed += bins[cut++].count;
    *widest = measure(bins, box.begin, cut);
    boxes.push_back(measure(bins, cut, box.end));
  }
  std::vector<Color> colors;
  for (const Box& box : boxes) {
    std::array<int64_t, 3> sum{};
    int64_t count = 0;
    for (size_t i = box.begin; i < box.end; ++i) {
      for (int c = 0; c < 3; ++c) sum[c] += bins[i].color[c] * bins[i].count;
      count += bins[i].count;
    }
    Color color;
    for (int c = 0; c < 3; ++c) color[c] = static_cast<int>((sum[c] * 255 + count * 31 / 2) / (count * 31));
    colors.push_back(color);
  }
  return colors;
}

uint8_t nearest(const std::vector<Color>& colors, const Color& wanted) {
  size_t best = 0;
  int best_distance = INT32_MAX;
  for (size_t i = 0; i < colors.size(); ++i) {
    int distance = 0;
    for (int c = 0; c < 3; ++c) distance += (colors[i][c] - wanted[c]) * (colors[i][c] - wanted[c]);
    if (distance < best_distance) best_distance = distance, best = i;
  }
  return static_cast<uint8_t>(best);
}

}  // namespace

void fill_palette_frame(const at::Tensor& picture, AVFrame& frame) {
  if (fill_exactly(picture, frame)) return;
  const uint8_t* pixels = picture.const_data_ptr<uint8_t>();
  std::vector<int64_t> histogram(1 << 15);
  for (int64_t i = 0; i < picture.numel(); i += 3) {
    ++histogram[(pixels[i] >> 3) << 10 | (pixels[i + 1] >> 3) << 5 | pixels[i + 2] >> 3];
  }
  std::vector<Bin> bins;
  for (int i = 0; i < 1 << 15; ++i) {
    if (histogram[i]) bins.push_back({{i >> 10, i >> 5 & 31, i & 31}, histogram[i]});
  }
  const std::vector<Color> colors = median_cut(bins);
  std::vector<uint32_t> palette;
  for (const Color& color : colors) palette.push_back(color[0] << 16 | color[1] << 8 | color[2]);
  set_palette(frame, palette);

  // An ordered dither stays where it is from frame to frame, where error diffusion would crawl.
  constexpr int kBayer[4][4] = {{0, 8, 2, 10}, {12, 4, 14, 6}, {3, 11, 1, 9}, {15, 7, 13, 5}};
  std::vector<int16_t> known(1 << 18, -1);  // 6 bits a channel
  const uint8_t* pixel = pixels;
  for (int y = 0; y < frame.height; ++y) {
    uint8_t* out = frame.data[0] + static_cast<ptrdiff_t>(y) * frame.linesize[0];
    for (int x = 0; x < frame.width; ++x, pixel += 3) {
      const int dither = kBayer[y % 4][x % 4] - 8;
      Color wanted;
      for (int c = 0; c < 3; ++c) wanted[c] = std::clamp(pixel[c] + dither, 0, 255);
      int16_t& entry = known[(wanted[0] >> 2) << 12 | (wanted[1] >> 2) << 6 | wanted[2] >> 2];
      if (entry < 0) entry = nearest(colors, wanted);
      out[x] = static_cast<uint8_t>(entry);
    }
  }
}

}  // namespace orrery::media
